"""Clicks in the panel, on real nodes: sent in order, refused, certain, kept with the label, and gone with the study."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
shiboken6 = pytest.importorskip("shiboken6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.scene.segmentation import import_mask
from PratoLabelLib.server.connection import ServerError
from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.click_tool import aimed_at, click_on, expected, markers, mask_of, points, press, segmented, sent, start
from tests.slicer_module.fake_clicks import decode
from tests.slicer_module.panel_driver import FakeServerDriver

pytestmark = pytest.mark.slow


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


def test_a_server_of_before_clicks_is_asked_for_none(driver: FakeServerDriver) -> None:
    driver.server.contract = 2
    segmented(driver)
    assert not driver.ui.clickButton.enabled and "too old for clicks" in driver.ui.clicksLabel.text
    driver.server.contract = 3
    driver.open_study()
    assert driver.ui.clickButton.enabled and "too old" not in driver.ui.clicksLabel.text


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


def test_a_key_that_puts_itself_away_outlives_being_pressed(driver: FakeServerDriver) -> None:
    """PythonQt deletes what has no parent with the last reference to it, in the midst of its signal."""
    driver.open_study()
    start(driver)
    escape = driver.panel.clicks.shortcuts.installed[-1]
    press(driver, "Esc")
    assert escape.parent() is driver.frame and not escape.enabled
    driver.rest(0.01)
    assert not shiboken6.isValid(escape)


@pytest.mark.parametrize("is_scribble", [False, True])
@pytest.mark.parametrize("ends", ["key", "mode"])
def test_what_slicer_places_afterwards_is_no_click(driver: FakeServerDriver, ends: str, is_scribble: bool) -> None:
    segmented(driver)
    application = slicer.app.applicationLogic()
    interaction, selection = application.GetInteractionNode(), application.GetSelectionNode()
    own = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "a length")
    slicer.modules.markups.logic().SetActiveList(own)
    interaction.SwitchToSinglePlaceMode()
    interaction.SwitchToViewTransformMode()
    driver.ui.scribbleCheckBox.checked = is_scribble
    start(driver, 1)
    if not is_scribble:
        click_on(driver, (5, 4, 2))
    press(driver, "Esc") if ends == "key" else interaction.SwitchToViewTransformMode()
    assert selection.GetActivePlaceNodeID() == own.GetID() and selection.GetActivePlaceNodeClassName() == "vtkMRMLMarkupsLineNode"
    assert (interaction.GetPlaceModePersistence(), interaction.GetCurrentInteractionMode()) == (0, interaction.ViewTransform)
    slicer.mrmlScene.RemoveNode(own)
    start(driver, 1)
    press(driver, "Esc")
    assert not selection.GetActivePlaceNodeID()


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


def test_clicks_are_stored_with_the_label(driver: FakeServerDriver) -> None:
    segmented(driver)
    start(driver, 1)
    click_on(driver, (5, 4, 2))
    press(driver, "0")
    click_on(driver, (9, 11, 3))
    driver.click("undoClick")
    driver.click("submit")
    (submitted,) = [request for request in driver.server.requests if request[0] == "submit"]
    (stored,) = submitted[2]["clicks"]
    assert stored["structure"] == "RV cavity" and stored["points"] == [[5, 4, 2]]
    assert stored["box"] == [3, 8, 2, 7, 2, 3] and stored["changed_voxels"] == 13 and stored["model_version"]


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
