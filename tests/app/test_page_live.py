"""The status page in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.app.browsing import HOSTILE, PICTURES, open_page
from tests.app.guarded import ROI, TOKEN, ask
from tests.app.live import LiveServer, write_study


def test_the_page_asks_for_the_token_and_shows_what_is_going_on(guarded_server: LiveServer, browser: Any, tmp_path: Path) -> None:
    hostile = guarded_server.studies / f"{HOSTILE.replace('/', '')}.nii.gz"
    write_study(hostile)
    try:
        assert guarded_server.infer("prato_unetr", "a_ED", {"roi": ROI, "prune": "50"}).status == 200
        page, told, asked = open_page(browser, f"{guarded_server.url}/prato/")
        page.get_by_label("Access token").fill("not-the-token-0123456789")
        page.get_by_role("button", name="Show").click()
        page.get_by_text("This is not the server's access token.").wait_for()
        assert "a_ED" not in page.content()
        told.clear()  # the browser notes the two 401
        page.get_by_label("Access token").fill(TOKEN)
        page.get_by_role("button", name="Show").click()
        page.locator("#studies td", has_text="<img src=x").wait_for()
        assert page.title() == "PrATo Label"
        assert not page.get_by_label("Access token").is_visible()
        request = page.locator("#requests tbody tr").first
        assert {"a_ED", "prato_unetr", "200", "roi"} <= set(request.locator("td").all_inner_texts())
        version = guarded_server.infer("prato_unetr", "a_ED", {"roi": ROI}, output="json").json["model_version"]
        assert page.locator("#models").get_by_text(version).count() == 1
        assert TOKEN not in page.content()
        page.reload()  # the token is kept for the session, and for no longer
        page.locator("#studies td", has_text="b_ED").wait_for()
        assert page.evaluate("localStorage.length") == 0
        assert told == []
        assert {url.split("/")[2] for url in asked if not url.startswith("data:")} == {guarded_server.url.split("/")[2]}
    finally:
        hostile.unlink()


HISTORY = [(0.71, 0.79, True), (0.79, 0.84, True), (0.84, 0.83, False), (0.84, 0.87, True)]


def test_the_plot_of_the_rounds(guarded_server: LiveServer, browser: Any) -> None:
    """With a history such as several trainings leave, put into the server's own answer on its way."""

    hostile = "prato_unetr" if PICTURES else HOSTILE

    def with_history(route: Any) -> None:
        said = ask(guarded_server, "GET", "/prato/state").json()
        keys = ("dice_before", "dice_after", "published")
        said["models"]["prato_unetr"]["history"] = [{"when": 0, **dict(zip(keys, round_))} for round_ in HISTORY]
        job = {"kind": "train", "model": hostile, "status": "RUNNING", "start": "2025-03-01 06:30:00", "begun": 1740810600}
        said["jobs"] = [{**job, "step": 30, "steps": 120}]
        said["models"]["prato_auto"] = said["models"]["prato_unetr"]
        route.fulfill(json=said)

    page = browser.new_page(viewport={"width": 1100, "height": 1000}, timezone_id="Asia/Kolkata", locale="en-GB")
    page.set_default_timeout(200_000)
    page.route("**/prato/state", with_history)
    page.goto(f"{guarded_server.url}/prato/")
    page.locator("svg circle").nth(4).wait_for()
    assert page.locator("svg circle").evaluate_all("dots => dots.map(dot => dot.className.baseVal)") == [
        *("published", "published", "published", "kept-old", "published")
    ]
    heights = page.locator("svg circle").evaluate_all("dots => dots.map(dot => Number(dot.getAttribute('cy')))")
    assert heights[4] < heights[2] < heights[3] < heights[1] < heights[0]  # up the page is better
    assert page.locator("progress").evaluate("bar => bar.value / bar.max") == 0.25
    assert page.locator("#jobs td", has_text=hostile).count() == 1
    assert page.locator("#jobs td", has_text="01/03/2025, 12:00:00").count() == 1  # as all else, where the page is read
    assert page.locator("#models").get_by_text("0.840 to 0.870", exact=True).count() == 2
    assert page.locator("svg[role=img]").count() == 1  # prato_auto is the same model: one plot for both
    assert page.title() == "PrATo Label"
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/status_page.png", full_page=True)


NONE = {"total": 0, "labelled": 0, "listed": []}
PACS = {"url": "http://pacs/dicom-web", "fault": None, "waiting": []}


@pytest.mark.parametrize(
    ("pacs", "words"),
    [
        (None, "The studies folder holds no NIfTI file (.nii.gz, .nii) yet: put images into it, or import DICOM."),
        (PACS, "The PACS has no short-axis MR cine that can be opened."),
        ({**PACS, "fault": "The PACS cannot be reached."}, "The PACS cannot be reached."),
    ],
)
def test_where_there_is_no_study_the_page_says_what_would_bring_one(
    guarded_server: LiveServer, browser: Any, pacs: dict[str, Any] | None, words: str
) -> None:
    page = browser.new_page()
    page.set_default_timeout(200_000)
    state = {**ask(guarded_server, "GET", "/prato/state").json(), "studies": NONE, "pacs": pacs}
    page.route("**/prato/state", lambda route: route.fulfill(json=state))
    page.goto(f"{guarded_server.url}/prato/")
    page.locator("#studies .none").wait_for()
    assert page.locator("#studies").inner_text().startswith(words)
    assert page.locator("#count").inner_text() == ""
