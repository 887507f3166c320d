"""Clicks that wait while something else happens: they are answered where they were made, or it is said that they are not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.server.connection import ServerError
from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.click_tool import aimed_at, click_on, drag, expected, mask_of, paint, points, press, segmented, sent, start
from tests.slicer_module.clicks import world_position
from tests.slicer_module.panel_driver import FakeServerDriver, PanelDriver

pytestmark = pytest.mark.slow

CLICKS = [("RV cavity", (3, 3, 0)), ("RV cavity", (20, 3, 0)), ("RV cavity", (3, 18, 1))]
MOVED = [("RV cavity", (5, 3, 0)), *CLICKS[1:]]


def clicked(driver: PanelDriver) -> Any:
    """Three clicks, of which one is taken back and done again; the tool is put down, and their node returned."""
    start(driver, 1)
    click_on(driver, *(voxel for _, voxel in CLICKS))
    node = aimed_at()
    press(driver, "Ctrl+Z")
    press(driver, "Esc")
    return node


def drag_held(driver: Any, node: Any) -> None:
    """Drag the first click while the server does not answer."""
    count = len(sent(driver))
    driver.server.click_gate.clear()
    node.SetNthControlPointPositionWorld(0, *world_position(driver.logic.current_study.volume_node, (5, 3, 0)))
    node.InvokeEvent(node.PointEndInteractionEvent)
    driver.wait(lambda: len(sent(driver)) > count)


@pytest.mark.parametrize("status", [None, 503])
@pytest.mark.parametrize("is_deleted", [True, False])
def test_a_change_that_fails_leaves_all_clicks_as_they_were(driver: FakeServerDriver, status: int | None, is_deleted: bool) -> None:
    before = segmented(driver)
    node = clicked(driver)
    done = mask_of(driver)
    driver.server.failure = ServerError("The server does not answer: start it.", status)
    if is_deleted:
        node.RemoveNthControlPoint(0)
        driver.settle()
    else:
        drag(driver, node, 0, (5, 3, 0))
    assert np.array_equal(mask_of(driver), done) and points() == 2
    assert driver.status == "The server does not answer: start it." and driver.logic.current_study.has_unsent_edits
    driver.click("redoClick")
    assert np.array_equal(mask_of(driver), expected(before, *CLICKS))
    for _ in CLICKS:
        driver.click("undoClick")
    assert np.array_equal(mask_of(driver), before) and points() == 0


def test_a_change_goes_on_after_a_new_connection(driver: FakeServerDriver) -> None:
    before = segmented(driver)
    node = clicked(driver)
    done = mask_of(driver)
    drag_held(driver, node)
    assert np.array_equal(mask_of(driver), done) and points() == 2  # until all replies are in
    driver.ui.testButton.click()
    driver.server.click_gate.set()
    driver.wait(lambda: not driver.logic.clicks_waiting)
    assert np.array_equal(mask_of(driver), expected(before, *MOVED[:2])) and points() == 2


def test_a_change_that_waits_is_given_up_by_undo(driver: FakeServerDriver) -> None:
    segmented(driver)
    node = clicked(driver)
    done = mask_of(driver)
    drag_held(driver, node)
    driver.ui.undoClickButton.click()
    driver.server.click_gate.set()
    driver.settle()
    assert np.array_equal(mask_of(driver), done) and points() == 2
    assert driver.logic.strokes[0].voxels.tolist() == [[3, 3, 0]]


def test_what_is_painted_while_clicks_are_made_anew_stays(driver: FakeServerDriver) -> None:
    before = segmented(driver)
    node = clicked(driver)
    drag_held(driver, node)
    paint(driver, (5, 4, 0), 2)
    driver.server.click_gate.set()
    driver.wait(lambda: not driver.logic.clicks_waiting)
    wanted = expected(before, *MOVED[:2])
    wanted[5, 4, 0] = 2
    assert np.array_equal(mask_of(driver), wanted)


def test_clicks_are_answered_in_the_phase_that_they_were_made_in(cine_driver: CineDriver) -> None:
    driver = cine_driver
    study = driver.open()
    driver.click("allPhases")
    driver.show(1)
    before = driver.masks()
    driver.server.click_gate.clear()
    start(driver, 1)
    click_on(driver, (3, 3, 0), (20, 3, 0), wait=False)
    driver.wait(lambda: sent(driver))
    driver.show(2)
    assert points() == 0
    driver.server.click_gate.set()
    driver.wait(lambda: not driver.logic.clicks_waiting)
    after = driver.masks()
    assert np.array_equal(after[..., 1], expected(before[..., 1], *CLICKS[:2])) and np.array_equal(after[..., 2], before[..., 2])
    assert study.edited == {1} and {request["phases"] for request in sent(driver)} == {1}
    driver.show(1)
    assert points() == 2 and np.array_equal(driver.masks(), after)
    node = aimed_at()
    press(driver, "Esc")
    drag_held(driver, node)
    driver.show(3)
    driver.server.click_gate.set()
    driver.wait(lambda: not driver.logic.clicks_waiting)
    assert np.array_equal(driver.masks()[..., 1], expected(before[..., 1], *MOVED[:2]))
    driver.show(1)
    driver.click("undoClick")
    driver.click("undoClick")
    assert np.array_equal(driver.masks(), before) and study.edited == set()


def test_clicks_that_wait_are_made_in_what_a_prediction_brings(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    before = segmented(driver)
    gate, infer = threading.Event(), driver.server.infer
    monkeypatch.setattr(driver.server, "infer", lambda *request: (gate.wait(200), infer(*request))[1])
    start(driver, 1)
    driver.ui.runButton.click()
    click_on(driver, (3, 3, 0), (20, 3, 0), wait=False)
    gate.set()
    driver.wait(lambda: not driver.logic.clicks_waiting)
    assert np.array_equal(mask_of(driver), expected(before, *CLICKS[:2])) and points() == 2


def test_a_result_for_an_edited_phase_that_is_not_shown_changes_nothing_elsewhere(cine_driver: CineDriver) -> None:
    driver = cine_driver
    study = driver.open()
    driver.click("allPhases")
    driver.show(1)
    driver.edit(2)
    before = driver.masks()
    driver.ui.runButton.click()
    driver.show(2)
    start(driver, 1)
    click_on(driver, (3, 3, 0))
    driver.wait(lambda: not driver.logic.clicks_waiting)
    after = driver.masks()
    assert study.phase == 2 and np.array_equal(after[..., 1], before[..., 1]) and "Phase 1 was edited" in driver.status
    assert np.array_equal(after[..., 2], expected(before[..., 2], *CLICKS[:1]))


@pytest.mark.parametrize("leave", [lambda driver: driver.logic.open_study("p1_ED"), lambda driver: driver.logic.cancel()])
def test_it_is_said_which_clicks_are_not_done(driver: FakeServerDriver, leave: Callable[[Any], None]) -> None:
    segmented(driver)
    said: list[str] = []
    driver.logic.failed.connect(said.append)
    start(driver, 1)
    driver.server.click_gate.clear()
    click_on(driver, (3, 3, 0), (20, 3, 0), wait=False)
    leave(driver)
    driver.server.click_gate.set()
    driver.settle()
    assert said == ["Not done on p1_ES: 2 clicks (2 RV cavity); do it again."]


def test_a_study_is_not_left_nor_sent_while_clicks_wait_unless_that_is_wanted(
    driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for dialog in ("confirmYesNoDisplay", "confirmOkCancelDisplay"):
        monkeypatch.setattr(slicer.util, dialog, lambda text, *_: asked.append(text))
    before = segmented(driver)
    start(driver, 1)
    driver.server.click_gate.clear()
    click_on(driver, (3, 3, 0), (20, 3, 0), wait=False)
    driver.ui.nextButton.click()
    driver.ui.submitButton.click()
    assert "Clicks in p1_ES are still waiting" in asked[0] and "Clicks are still waiting" in asked[1]
    driver.server.click_gate.set()
    driver.wait(lambda: not driver.logic.clicks_waiting)
    assert np.array_equal(mask_of(driver), expected(before, *CLICKS[:2]))
    assert not any(request[0] == "submit" for request in driver.server.requests)


def test_the_segmentation_is_deleted_while_clicks_wait(driver: FakeServerDriver) -> None:
    segmented(driver)
    start(driver, 1)
    driver.server.click_gate.clear()
    click_on(driver, (3, 3, 0), (20, 3, 0), wait=False)
    driver.wait(lambda: sent(driver))
    slicer.mrmlScene.RemoveNode(driver.logic.current_study.segmentation_node)
    driver.server.click_gate.set()
    driver.settle()
    assert driver.status == "Not done on p1_ES: 2 clicks (2 RV cavity); do it again." and points() == 0


def test_phases_do_not_follow_a_phase_whose_clicks_wait(cine_driver: CineDriver) -> None:
    driver = cine_driver
    driver.open()
    driver.click("allPhases")
    driver.server.click_gate.clear()
    start(driver, 1)
    click_on(driver, (3, 3, 0), wait=False)
    driver.wait(lambda: sent(driver))
    driver.ui.propagateButton.enabled = True
    driver.ui.propagateButton.click()
    driver.rest(0.1)
    assert driver.status == "Clicks are still waiting for the server: press Propagate once they are done."
    driver.server.click_gate.set()
    driver.settle()
    before = len(driver.server.requests)
    driver.click("propagate")
    assert len(driver.server.requests) > before
