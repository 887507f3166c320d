"""The page of a study: what it asks the server for, and what a real browser makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import requests

from prato.data.cine import read_cine, write_cine
from prato.data.nifti import gzip_bytes, volume_bytes
from prato.function.hearts import find_hearts
from prato.phantom.beat import make_beat
from tests.app.browsing import HOSTILE, PICTURES, open_page
from tests.app.guarded import TOKEN, ask, refused
from tests.app.hearts import heart
from tests.app.live import LiveServer, oblique, write_study
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
STUDY, VOLUME, PHASES = "beating 1", "resting", 6


@pytest.fixture(scope="module")
def server(guarded_server: LiveServer) -> Iterator[LiveServer]:
    """With a cine whose heart is smallest in phase 2, and a volume; nobody has labelled them."""
    if PICTURES:
        beat = make_beat(0, 2, phases=20)
        images, affine, step = beat.images, beat.affine, float(beat.times_ms[1])
    else:
        images, affine, step = (
            np.random.default_rng(1).integers(0, 99, (40, 36, 5, PHASES)).astype(np.int16),
            oblique((4.0, 4.0, 9.0)),
            150.0,
        )
    write_cine(guarded_server.studies / f"{STUDY}.nii.gz", images, affine, step)
    write_study(guarded_server.studies / f"{VOLUME}.nii.gz")
    wait_until(lambda: {STUDY, VOLUME} <= {study["id"] for study in ask(guarded_server, "GET", "/prato/state").json()["studies"]["listed"]})
    yield guarded_server
    for study in (STUDY, VOLUME):
        ask(guarded_server, "DELETE", "/datastore/image", params={"id": study})


@cache
def beating() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, label and affine of the cine; for the documentation, of a heart that looks like one."""
    if PICTURES:
        beat = make_beat(0, 2, phases=20)
        return beat.images, beat.labels, beat.affine
    mask = np.repeat(heart()[..., None], PHASES, axis=3)
    for phase, slices in enumerate((5, 4, 1, 2, 3, 4)):
        mask[:, :, slices:, phase] = 0
    images = np.random.default_rng(1).integers(0, 99, mask.shape).astype(np.int16)
    return images, mask, oblique((4.0, 4.0, 9.0))


def label_beating(server: LiveServer) -> None:
    """A model proposes all phases, and somebody corrects two of them: end-diastole and end-systole."""
    _, masks, _ = beating()
    lv = np.count_nonzero(masks == 3, axis=(0, 1, 2))
    proposed = dict.fromkeys(map(str, range(masks.shape[3])), "proposed")
    submit(server, STUDY, masks, annotator="a model", phases=proposed, model_version="0" * 12)
    submit(server, STUDY, masks, annotator="Ada" if PICTURES else HOSTILE, phases=[0, int(lv.argmin())])


def open_study(server: LiveServer, browser: Any) -> tuple[Any, list[str], list[str]]:
    """The page of the cine, from the list of studies."""
    page, told, asked = open_page(browser, f"{server.url}/prato/")
    page.get_by_label("Access token").fill(TOKEN)
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name=STUDY).click()
    told.clear()  # the browser notes that the token was asked for
    page.locator("#stills canvas").nth(1).wait_for()
    return page, told, asked


def submit(server: LiveServer, study: str, mask: np.ndarray, tag: str = "final", **params: Any) -> None:
    grid = read_cine(server.studies / f"{study}.nii.gz").grid()
    files = {"label": ("label.nii.gz", gzip_bytes(volume_bytes(grid.with_array(mask))))}
    reply = ask(server, "PUT", "/datastore/label", params={"image": study, "tag": tag}, data={"params": json.dumps(params)}, files=files)
    assert reply.ok, reply.text


def look(server: LiveServer, study: str, what: str = "state") -> requests.Response:
    return ask(server, "GET", f"/prato/study/{what}", params={"image": study})


def test_a_study_without_a_label(server: LiveServer) -> None:
    state, pictures = look(server, STUDY).json(), look(server, STUDY, "pictures").json()
    assert (state["label"], state["versions"], state["ed"], state["function"]) == (None, [], None, None)
    assert (state["view"], len(pictures["frames"]), pictures["contours"]) == (pictures["view"], state["phases"], {})


def test_what_cannot_be_shown_is_told_in_one_sentence(server: LiveServer) -> None:
    before = server.tree()
    for what in ("state", "pictures"):
        refused(look(server, "nobody", what), 404, "There is no image 'nobody' among the studies")
        refused(look(server, "../secret", what), 404, "There is no image")
        refused(ask(server, "GET", f"/prato/study/{what}"), 400, "image")
    assert server.tree() == before


def test_a_label_that_does_not_fit_is_not_drawn(server: LiveServer) -> None:
    final = server.studies / "labels" / "final"
    final.mkdir(parents=True, exist_ok=True)
    path = write_study(final / f"{VOLUME}.nii.gz", shape=(20, 20, 5))
    try:
        wait_until(lambda: look(server, VOLUME).json()["label"])
        assert "20x20x5 voxels and its image 40x36x5" in look(server, VOLUME).json()["fault"]
        assert look(server, VOLUME, "pictures").json()["contours"] == {}
    finally:
        path.unlink()


def test_a_volume_with_a_proposal_and_a_label(server: LiveServer) -> None:
    submit(server, VOLUME, heart(), tag="original")
    assert look(server, VOLUME).json()["label"] == {"tag": "original", "version": None, "phases": {}, "warnings": []}
    submit(server, VOLUME, heart(), annotator="Ada")
    state = look(server, VOLUME).json()
    assert (state["label"]["tag"], state["label"]["phases"]["0"]["editor"], state["phases"], state["ed"]) == ("final", "Ada", 1, None)
    assert state["volumes_ml"]["LV cavity"] == [pytest.approx(np.count_nonzero(heart() == 3) * 0.144, abs=0.01)]


def test_the_heartbeat_is_seen(server: LiveServer, browser: Any) -> None:
    label_beating(server)
    page, told, asked = open_study(server, browser)
    state = look(server, STUDY).json()
    assert state["function"]["lv"]["ef_percent"] > 20
    assert page.locator("#stills figcaption").all_inner_texts() == [
        f"End-diastole: phase {state['ed']}, found from the volumes",
        f"End-systole: phase {state['es']}, found from the volumes",
    ]
    drawn = "paths => paths.map(path => path.getAttribute('d').length)"
    assert all(page.locator("#stills path").evaluate_all(drawn))
    assert "a model (000000000000)" in page.locator("#states td").all_inner_texts()  # who proposed the others
    # something else is seen in another phase, and the line in the curve goes with it
    seen = set()
    for phase in ("0", "2"):
        page.locator("#phase").fill(phase)
        seen.add((str(page.locator("#cine path").evaluate_all(drawn)), page.locator("#curve .cursor").get_attribute("x1")))
    assert len({lines for lines, _ in seen}) == len({x for _, x in seen}) == 2
    page.get_by_role("button", name="Play").click()
    page.locator("#at").filter(has_not_text="phase 2 (").wait_for()
    page.get_by_role("button", name="Pause").click()
    assert page.locator("#curve circle").count() == 3 * state["phases"]
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/study_page.png", full_page=True)
    page.set_viewport_size({"width": 390, "height": 800})  # nothing is wider than a phone
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert told == []
    assert {url.split("/")[2] for url in asked if not url.startswith("data:")} == {server.url.split("/")[2]}


def test_the_page_measures_what_the_table_measures_and_tells_of_proposals(server: LiveServer) -> None:
    label_beating(server)
    for phases, measured in (([0], (0, 2)), ([2], (0, 2))):
        [heart_of] = [one for one in find_hearts(server.studies).hearts if one.name == STUDY]
        state = look(server, STUDY).json()
        function = {**state["function"], "ed": 0, "es": 0}
        assert (state["ed"], state["es"], state["no_function"]) == (*measured, None)
        assert function == {**heart_of.function.to_dict(), "ed": 0, "es": 0}
        told = [warning for warning in function["warnings"] if warning.startswith("Proposals, or phases that were sent back")]
        assert len(told) == (len(phases) and phases != [0])
        sent = {"annotator": "Hedy", "phases": phases, "reason": "unsure"}
        reply = ask(server, "POST", "/datastore/label/send_back", params={"image": STUDY}, data={"params": json.dumps(sent)})
        assert reply.ok, reply.text


#: Half a second more for the page to be told of the study.
SLOW_STATE = """() => {
    const quick = window.fetch;
    window.fetch = async (url, ...more) => {
        if (String(url).includes("study/state")) await new Promise((done) => setTimeout(done, 500));
        return quick(url, ...more);
    };
}"""


def test_a_second_person_decides(server: LiveServer, browser: Any) -> None:
    label_beating(server)
    page, told, _ = open_study(server, browser)
    page.evaluate(SLOW_STATE)  # who clicks before the page shows what was decided
    page.get_by_label("Your name").fill("Grace")
    page.locator("#which input[value='0']").uncheck()
    page.get_by_role("button", name="Send back").click()
    page.get_by_text("Phases can be sent back only with a reason: send one as reason.").wait_for()
    page.get_by_label("Reason").fill(HOSTILE)
    page.get_by_role("button", name="Send back").click()
    page.get_by_text("Sent back: phase 2.").wait_for()
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("Approved: phase 0.").wait_for()
    phases = look(server, STUDY).json()["label"]["phases"]
    assert (phases["0"]["state"], phases["0"]["approved_by"]) == ("final", "Grace")
    assert (phases["2"]["state"], phases["2"]["reason"]) == ("proposed", HOSTILE)
    page.locator("#states td", has_text="<img src=x").first.wait_for()
    assert page.locator("#versions li", has_text="Grace: sent back phase 2").count() == 1
    page.get_by_role("button", name="Approve", disabled=False).wait_for()  # the page shows it
    # nobody approves what another has replaced meanwhile
    _, masks, _ = beating()
    submit(server, STUDY, masks, annotator="Ben", phases=[0])
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("Phase 0 was replaced by Ben in version").wait_for()
    page.goto(f"{server.url}/prato/study?image={quote(HOSTILE)}")
    page.get_by_text("There is no image").wait_for()
    assert not page.locator("#shown").is_visible()
    assert page.locator("img").count() == 0
    assert page.evaluate("window.owned") is None
    assert not [text for text in told if "status of 4" not in text]  # the browser notes refusals
