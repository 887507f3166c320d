"""What becomes of clicks in the panel: taken back and done again, dragged, deleted, drawn as scribbles, ended by a prediction."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from tests.slicer_module.click_tool import click_on, drag, expected, mask_of, paint, points, press, segmented, sent, start
from tests.slicer_module.fake_clicks import refine
from tests.slicer_module.panel_driver import FakeServerDriver

pytestmark = pytest.mark.slow


def test_fifty_clicks_are_taken_back_one_by_one_and_done_again(driver: FakeServerDriver) -> None:
    states = [segmented(driver)]
    start(driver, 3)
    for n in range(50):
        press(driver, str(n % 4))
        click_on(driver, (2 + n % 20, 3 + n % 17, n % 5), wait=False)
        driver.wait(lambda: not driver.logic._worker.is_busy and not driver.logic.clicks_waiting)
        states.append(mask_of(driver))
    for n in range(49, -1, -1):
        press(driver, "Ctrl+Z")
        assert np.array_equal(mask_of(driver), states[n]) and points() == n
    assert not driver.ui.undoClickButton.enabled and not driver.logic.current_study.has_unsent_edits
    for n in range(1, 51):
        press(driver, "Ctrl+Y")
        assert np.array_equal(mask_of(driver), states[n]) and points() == n
    assert len(sent(driver)) == 50  # neither asks the server
    history = driver.logic._shown.history
    assert sum(step.where.nbytes + 3 * step.before.nbytes for step in history.done) <= 50 * 13 * 7


def test_a_point_is_dragged_and_the_segments_follow(driver: FakeServerDriver) -> None:
    before = segmented(driver)
    start(driver, 1)
    node = click_on(driver, (5, 4, 2))
    click_on(driver, (15, 4, 2))
    drag(driver, node, 0, (5, 16, 2))
    assert np.array_equal(mask_of(driver), expected(before, ("RV cavity", (5, 16, 2)), ("RV cavity", (15, 4, 2)))) and points() == 2
    drag(driver, node, 0, (5.1, 16.1, 2))  # in the same voxel
    assert len(sent(driver)) == 4
    drag(driver, node, 0, (500, 16, 2))
    assert "lies outside the image" in driver.status and points() == 2
    assert np.array_equal(mask_of(driver), expected(before, ("RV cavity", (5, 16, 2)), ("RV cavity", (15, 4, 2))))


def test_a_point_is_deleted_and_the_segments_follow(driver: FakeServerDriver) -> None:
    before = segmented(driver)
    start(driver, 1)
    node = click_on(driver, (5, 4, 2))
    click_on(driver, (6, 4, 2))
    node.RemoveNthControlPoint(0)  # as by the key or the menu of the views
    driver.settle()
    assert np.array_equal(mask_of(driver), expected(before, ("RV cavity", (6, 4, 2)))) and points() == 1
    driver.click("deleteClicks")
    assert np.array_equal(mask_of(driver), before) and points() == 0


def test_the_editors_undo_brings_clicks_back_that_were_moved_or_replaced(driver: FakeServerDriver) -> None:
    segmented(driver)
    start(driver, 1)
    node = click_on(driver, (5, 4, 2))
    click_on(driver, (15, 4, 2))
    states = [mask_of(driver)]
    drag(driver, node, 0, (5, 16, 2))
    states.append(mask_of(driver))
    driver.click("run")
    states.append(mask_of(driver))
    clicked = [[[5, 4, 2], [15, 4, 2]], [[5, 16, 2], [15, 4, 2]], []]
    for act, shown in (("undo", 1), ("undo", 0), ("redo", 1), ("redo", 2), ("undo", 1)):
        getattr(driver.editor, act)()
        driver.rest(0.1)
        assert np.array_equal(mask_of(driver), states[shown]) and points() == len(clicked[shown])
        assert [stroke.voxels[0].tolist() for stroke in driver.logic.strokes] == clicked[shown]
    click_on(driver, (20, 18, 3))
    assert "certain" not in sent(driver)[-1] and len(sent(driver)[-1]["clicks"]) == 3


def test_a_click_that_was_moved_and_taken_back_does_not_come_back_by_itself(driver: FakeServerDriver) -> None:
    before = segmented(driver)
    start(driver, 1)
    drag(driver, click_on(driver, (5, 4, 2)), 0, (5, 16, 2))
    driver.click("undoClick")
    for value in (2, 0):  # painted, and taken away
        paint(driver, (15, 4, 2), value)
        driver.rest(0.1)
    assert np.array_equal(mask_of(driver), before) and points() == 0 and driver.logic.can_redo_click


def test_all_clicks_are_taken_back_as_one_step_of_the_editor(driver: FakeServerDriver) -> None:
    before = segmented(driver)
    start(driver, 1)
    for voxel in ((5, 4, 2), (15, 4, 2), (5, 16, 2)):
        click_on(driver, voxel)
    after, states, asked = mask_of(driver), driver.editor.history.GetNumberOfStates(), len(sent(driver))
    driver.click("deleteClicks")
    assert np.array_equal(mask_of(driver), before) and points() == 0 and not driver.ui.redoClickButton.enabled
    assert driver.editor.history.GetNumberOfStates() <= states + 2 and len(sent(driver)) == asked  # what is restored is a state, too
    driver.editor.undo()
    driver.rest(0.1)
    assert np.array_equal(mask_of(driver), after) and points() == 3


def test_a_click_that_is_too_old_to_be_taken_back_stays(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PratoLabelLib.measures.click_history.MAX_STEPS", 2)
    segmented(driver)
    start(driver, 1)
    node = click_on(driver, (5, 4, 2))
    for voxel in ((15, 4, 2), (5, 16, 2)):
        click_on(driver, voxel)
    after = mask_of(driver)
    drag(driver, node, 0, (9, 4, 2))
    assert "too old" in driver.status and points() == 3
    driver.panel.say("")
    node.RemoveNthControlPoint(2)  # where the oldest was put back
    driver.settle()
    assert "too old" in driver.status and points() == 3 and len(sent(driver)) == 3 and np.array_equal(mask_of(driver), after)
    driver.click("deleteClicks")
    assert points() == 1


def test_a_scribble_is_one_click_along_a_line(driver: FakeServerDriver) -> None:
    before = segmented(driver)
    start(driver, 1)
    driver.ui.scribbleCheckBox.checked = True
    curve = click_on(driver, (3, 3, 2), (9, 3, 2), (9, 6, 2))
    assert sent(driver) == [] and curve.IsA("vtkMRMLMarkupsCurveNode")
    slicer.app.applicationLogic().GetInteractionNode().SwitchToViewTransformMode()  # as a double click does
    driver.settle()
    line = [[i, 3, 2] for i in range(3, 10)] + [[9, j, 2] for j in range(4, 7)]
    assert sent(driver)[0]["clicks"] == [{"structure": "RV cavity", "points": line}]
    after, _ = refine(before, {"structure": "RV cavity", "points": line})
    assert np.array_equal(mask_of(driver), after)
    drag(driver, curve, 2, (9, 4, 2))
    assert sent(driver)[-1]["clicks"][0]["points"] == line[:8]
    curve.RemoveNthControlPoint(2)
    driver.settle()
    assert sent(driver)[-1]["clicks"][0]["points"] == line[:7]
    driver.click("undoClick")
    assert np.array_equal(mask_of(driver), before) and points() == 0
    driver.click("redoClick")
    assert points() == 2 and (mask_of(driver) != before).any()


def test_the_editors_undo_takes_a_click_back_too(driver: FakeServerDriver) -> None:
    before = segmented(driver)
    start(driver, 1)
    click_on(driver, (5, 4, 2))
    driver.editor.undo()
    driver.rest(0.1)
    assert np.array_equal(mask_of(driver), before) and points() == 0 and driver.logic.can_redo_click
    driver.editor.redo()
    driver.rest(0.1)
    assert points() == 1
    driver.editor.undo()
    click_on(driver, (15, 4, 2))
    assert "certain" not in sent(driver)[-1] and len(sent(driver)[-1]["clicks"]) == 1


def test_a_prediction_ends_the_history(driver: FakeServerDriver) -> None:
    before = segmented(driver)
    start(driver, 1)
    click_on(driver, (5, 4, 2))
    driver.click("run")
    assert np.array_equal(mask_of(driver), before) and points() == 0 and not driver.ui.undoClickButton.enabled
    click_on(driver, (5, 4, 2))
    assert "certain" not in sent(driver)[-1]
