"""Clicks and scribbles in the panel, on real nodes: sent in order, taken back one by one, dragged, deleted, and gone with the study."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.connection import ServerError
from PratoLabelLib.segmentation import import_mask
from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.clicks import click, world_position
from tests.slicer_module.fake_clicks import decode, refine
from tests.slicer_module.panel_driver import FakeServerDriver, PanelDriver

pytestmark = pytest.mark.slow


def start(driver: PanelDriver, value: int = 3) -> None:
    """Take up the tool, and choose a structure by its key."""
    if not driver.ui.clickButton.checked:
        driver.ui.clickButton.click()
    press(driver, str(value))


def press(driver: PanelDriver, key: str) -> None:
    """Press a key of the tool, which must be there."""
    (shortcut,) = [s for s in driver.panel.clicks.shortcuts.installed if s.key.toString() == key]
    shortcut.activated.emit()


def aimed_at() -> Any:
    """The node that the next click in a view is a point of."""
    application = slicer.app.applicationLogic()
    assert application.GetInteractionNode().GetCurrentInteractionMode() == slicer.vtkMRMLInteractionNode.Place
    return slicer.mrmlScene.GetNodeByID(application.GetSelectionNode().GetActivePlaceNodeID())


def click_on(driver: PanelDriver, *voxels: tuple[float, float, float], wait: bool = True) -> Any:
    """Click on voxels, as in a slice view."""
    node = aimed_at()
    for voxel in voxels:
        click(node, world_position(driver.logic.current_study.volume_node, voxel))
    if wait:
        driver.settle()
    return node


def drag(driver: PanelDriver, node: Any, point: int, voxel: tuple[float, float, float]) -> None:
    """Drag a point of a node to a voxel."""
    node.SetNthControlPointPositionWorld(point, *world_position(driver.logic.current_study.volume_node, voxel))
    node.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent)
    driver.settle()


def sent(driver: Any) -> list[dict[str, Any]]:
    return [request[3] for request in driver.server.requests if request[0] == "click"]


def mask_of(driver: PanelDriver) -> np.ndarray:
    """The segments (I, J, K)."""
    return driver.logic.current_study.mask().T


def expected(mask: np.ndarray, *clicks: tuple[str, tuple[int, int, int]]) -> np.ndarray:
    for structure, voxel in clicks:
        mask, _ = refine(mask, {"structure": structure, "points": [voxel]})
    return mask


def markers() -> list[Any]:
    kinds = ("vtkMRMLMarkupsFiducialNode", "vtkMRMLMarkupsCurveNode")
    return [node for kind in kinds for node in slicer.util.getNodesByClass(kind)]


def points() -> int:
    return sum(node.GetNumberOfControlPoints() for node in markers())


def segmented(driver: FakeServerDriver) -> np.ndarray:
    driver.open_study()
    driver.click("run")
    return mask_of(driver)


def test_a_click_changes_its_region_and_nothing_else(driver: FakeServerDriver) -> None:
    before = segmented(driver)
    start(driver, 1)
    click_on(driver, (5, 4, 2))
    after = mask_of(driver)
    assert np.array_equal(after, expected(before, ("RV cavity", (5, 4, 2)))) and (after != before).sum() == 13
    (params,) = sent(driver)
    assert params["clicks"] == [{"structure": "RV cavity", "points": [[5, 4, 2]]}] and params["done"] == 0 and "certain" not in params
    assert np.array_equal(decode(params["previous"]), before)
    assert driver.logic.current_study.has_unsent_edits
    assert driver.ui.clicksLabel.text.startswith("Clicked: 1 RV cavity.")


def test_keys_and_picker_choose_the_structure(driver: FakeServerDriver) -> None:
    before = segmented(driver)
    start(driver, 1)
    click_on(driver, (5, 4, 1))
    press(driver, "2")
    click_on(driver, (5, 4, 2))
    press(driver, "0")
    click_on(driver, (13, 11, 3))
    driver.choose("clickStructure", "LV cavity")
    click_on(driver, (5, 4, 4))
    clicks = [("RV cavity", (5, 4, 1)), ("myocardium", (5, 4, 2)), ("background", (13, 11, 3)), ("LV cavity", (5, 4, 4))]
    assert np.array_equal(mask_of(driver), expected(before, *clicks))
    assert [c["structure"] for c in sent(driver)[-1]["clicks"]] == [name for name, _ in clicks]


def test_the_editors_keys_are_the_tools_while_it_is_on(driver: FakeServerDriver) -> None:
    driver.open_study()
    calls = driver.editor.calls
    calls.clear()
    start(driver)
    keys = {shortcut.key.toString() for shortcut in driver.panel.clicks.shortcuts.installed}
    assert calls == ["remove keys"] and keys == {"0", "1", "2", "3", "Ctrl+Z", "Ctrl+Y", "Ctrl+Shift+Z", "Esc"}
    press(driver, "Esc")
    assert calls[-1] == "install keys" and driver.panel.clicks.shortcuts.installed == []
    start(driver)
    driver.frame.exit()
    assert driver.panel.clicks.shortcuts.installed == [] and calls[-1] != "install keys"
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform


def test_placing_a_box_and_the_tool_end_each_other(driver: FakeServerDriver) -> None:
    driver.open_study()
    start(driver)
    driver.click("place")
    assert not driver.ui.clickButton.checked and aimed_at() is driver.panel.parameters.roi
    start(driver)
    assert driver.panel.box.is_at_rest and aimed_at().IsA("vtkMRMLMarkupsFiducialNode")
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    interaction.SwitchToViewTransformMode()  # by Slicer's own toolbar
    assert not driver.ui.clickButton.checked


def test_clicks_that_come_fast_are_made_in_order_and_nothing_waits_for_them(driver: FakeServerDriver) -> None:
    before = segmented(driver)
    driver.wait(lambda: not driver.panel.is_waiting)  # for what follows a prediction
    driver.server.click_gate.clear()
    start(driver)
    voxels = [(5, 4, 2), (6, 4, 2), (7, 4, 2)]
    click_on(driver, *voxels, wait=False)
    driver.wait(lambda: sent(driver))
    assert len(sent(driver)) == 1 and np.array_equal(mask_of(driver), before) and not driver.panel.is_waiting
    driver.server.click_gate.set()
    driver.wait(lambda: len(sent(driver)) == 3)
    driver.settle()
    assert np.array_equal(mask_of(driver), expected(before, *(("LV cavity", voxel) for voxel in voxels)))
    assert np.array_equal(decode(sent(driver)[2]["previous"]), expected(before, *(("LV cavity", voxel) for voxel in voxels[:2])))


def test_fifty_clicks_are_taken_back_one_by_one_and_done_again(driver: FakeServerDriver) -> None:
    states = [segmented(driver)]
    start(driver, 3)
    for n in range(50):
        press(driver, str(n % 4))
        click_on(driver, (2 + n % 20, 3 + n % 17, n % 5), wait=False)
        driver.wait(lambda: not driver.logic._worker.is_busy and not driver.logic._waiting)
        states.append(mask_of(driver))
    for n in range(49, -1, -1):
        press(driver, "Ctrl+Z")
        assert np.array_equal(mask_of(driver), states[n]) and points() == n
    assert not driver.ui.undoClickButton.enabled and not driver.logic.current_study.has_unsent_edits
    for n in range(1, 51):
        press(driver, "Ctrl+Y")
        assert np.array_equal(mask_of(driver), states[n]) and points() == n
    assert len(sent(driver)) == 50  # neither asks the server
    history = driver.logic._history
    assert sum(step.where.nbytes + 3 * step.before.nbytes for step in history.done) <= 50 * 13 * 7


def test_what_was_painted_is_certain_and_survives(driver: FakeServerDriver) -> None:
    before = segmented(driver)
    study = driver.logic.current_study
    painted = before.copy()
    painted[5, 4, 2] = 1
    import_mask(study.segmentation_node, study.volume_node, study.labels, painted.T)
    start(driver, 3)
    driver.server.click_gate.clear()
    click_on(driver, (6, 4, 2), wait=False)
    driver.wait(lambda: sent(driver))
    assert np.argwhere(decode(sent(driver)[0]["certain"])).tolist() == [[5, 4, 2]]
    painted[7, 4, 2] = 2  # while the reply is awaited
    import_mask(study.segmentation_node, study.volume_node, study.labels, painted.T)
    driver.server.click_gate.set()
    driver.settle()
    after = mask_of(driver)
    assert (after[5, 4, 2], after[6, 4, 2], after[7, 4, 2]) == (1, 3, 2)
    press(driver, "Ctrl+Z")
    assert np.array_equal(mask_of(driver), painted)


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


def test_clicks_do_not_survive_into_another_study(driver: FakeServerDriver) -> None:
    segmented(driver)
    start(driver, 1)
    click_on(driver, (5, 4, 2))
    driver.server.click_gate.clear()
    click_on(driver, (9, 4, 2), wait=False)
    driver.logic.open_study("p1_ED")
    driver.server.click_gate.set()
    driver.settle()
    assert driver.logic.current_study.study == "p1_ED" and points() == 0
    before = mask_of(driver)
    start(driver, 3)
    click_on(driver, (3, 3, 0))
    assert sent(driver)[-1]["clicks"] == [{"structure": "LV cavity", "points": [[3, 3, 0]]}]
    assert np.array_equal(mask_of(driver), expected(before, ("LV cavity", (3, 3, 0))))
    slicer.mrmlScene.Clear(0)
    assert markers() == [] and driver.logic.strokes == []


@pytest.mark.parametrize("status", [400, None])
def test_what_is_outside_or_refused_is_said_and_changes_nothing(driver: FakeServerDriver, status: int | None) -> None:
    before = segmented(driver)
    start(driver, 1)
    click_on(driver, (-9, 4, 2))
    assert driver.status == "The click lies outside the image: click on the heart." and sent(driver) == []
    driver.server.failure = ServerError("There is no heart near the click: click on it.", status)
    click_on(driver, (5, 4, 2))
    assert driver.status == "There is no heart near the click: click on it."
    assert np.array_equal(mask_of(driver), before) and points() == 0 and not driver.logic.current_study.has_unsent_edits
    driver.server.failure = None
    click_on(driver, (5, 4, 2))
    assert (mask_of(driver) != before).any()


def test_a_structure_that_is_kept_is_not_clicked_in(driver: FakeServerDriver) -> None:
    before = segmented(driver)
    driver.ui.lockMyocardiumCheckBox.checked = True
    start(driver, 2)
    click_on(driver, (5, 4, 2))
    assert "The myocardium is kept" in driver.status and points() == 0
    press(driver, "3")
    click_on(driver, (9, 11, 2))
    after = mask_of(driver)
    assert np.array_equal(after == 2, before == 2) and (after != before).any()


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


def test_clicks_are_stored_with_the_label(driver: FakeServerDriver) -> None:
    segmented(driver)
    start(driver, 1)
    click_on(driver, (5, 4, 2))
    press(driver, "0")
    click_on(driver, (9, 11, 3))
    driver.click("undoClick")
    driver.click("submit")
    (submitted,) = [request for request in driver.server.requests if request[0] == "submit"]
    assert submitted[2]["clicks"] == [{"structure": "RV cavity", "points": [[5, 4, 2]]}]


def test_of_a_cine_the_phase_that_is_shown_is_corrected(cine_driver: CineDriver) -> None:
    driver = cine_driver
    driver.open()
    driver.click("allPhases")
    before = driver.masks()
    driver.show(1)
    start(driver, 1)
    click_on(driver, (5, 4, 2))
    after = driver.masks()
    assert np.array_equal(after[..., 1], expected(before[..., 1], ("RV cavity", (5, 4, 2)))) and sent(driver)[0]["phases"] == 1
    assert np.array_equal(after[..., [0, 2, 3]], before[..., [0, 2, 3]]) and driver.logic.current_study.edited == {1}
    driver.show(2)
    assert points() == 0
    driver.show(1)
    assert points() == 1
    driver.click("undoClick")
    assert np.array_equal(driver.masks(), before) and driver.logic.current_study.edited == set()


def test_a_phase_that_was_segmented_unseen_is_not_taken_for_painted(cine_driver: CineDriver) -> None:
    driver = cine_driver
    driver.open()
    driver.show(1)  # while it is empty
    driver.show(0)
    driver.click("allPhases")
    driver.show(1)
    start(driver, 1)
    click_on(driver, (5, 4, 2))
    assert "certain" not in sent(driver)[0]
