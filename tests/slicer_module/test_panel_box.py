"""The panel's box: placed, fitted, moved; and what a failure on the way shows."""

from __future__ import annotations

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.scene.geometry import roi_to_ijk_box
from PratoLabelLib.sections import ERROR_STYLE, HINT_STYLE
from PratoLabelLib.server.connection import ServerError
from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.clicks import click, click_voxels
from tests.slicer_module.panel_driver import FakeServerDriver, dialogs, end_interaction


@pytest.mark.slow
def test_the_proposal_becomes_the_box(driver: FakeServerDriver) -> None:
    driver.open_study()
    driver.click("fit")
    roi = driver.panel.parameters.roi
    assert roi_to_ijk_box(roi, driver.logic.current_study.volume_node) == (1, 23, 2, 20, 0, 5)
    assert driver.ui.roiSelector.currentNode() is roi
    driver.click("run")
    assert driver.inferences[-1][3]["roi"] == [[1, 23, 2, 20, 0, 5]]
    roi.SetSize(30, 30, 20)
    driver.click("run")
    assert roi.GetSize() == (30, 30, 20)  # only the button moves the box


@pytest.mark.slow
def test_a_box_that_the_panel_adds_is_not_what_the_labeller_places_next(driver: FakeServerDriver) -> None:
    driver.open_study()
    line, selection = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsLineNode"), slicer.app.applicationLogic().GetSelectionNode()
    slicer.modules.markups.logic().SetActiveList(line)
    driver.click("fit")
    assert driver.panel.parameters.roi is not None and selection.GetActivePlaceNodeID() == line.GetID()
    assert selection.GetActivePlaceNodeClassName() == "vtkMRMLMarkupsLineNode"


@pytest.mark.slow
def test_placing_a_box_lets_the_views_draw_it(driver: FakeServerDriver) -> None:
    driver.open_study()
    driver.click("place")
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    selection = slicer.app.applicationLogic().GetSelectionNode()
    assert selection.GetActivePlaceNodeID() == driver.panel.parameters.roi.GetID()
    assert selection.GetActivePlaceNodeClassName() == "vtkMRMLMarkupsROINode"


@pytest.mark.slow
def test_two_clicks_place_the_box_and_the_result_follows(driver: FakeServerDriver) -> None:
    driver.open_study()
    volume = driver.logic.current_study.volume_node
    driver.click("place")
    click_voxels(driver.panel.parameters.roi, volume, (18, 4, 2), (5, 15, 2))
    assert roi_to_ijk_box(driver.panel.parameters.roi, volume) == (5, 19, 4, 16, 0, 5)
    driver.wait(lambda: driver.inferences)
    assert driver.inferences[-1][3]["roi"] == [[5, 19, 4, 16, 0, 5]]


@pytest.mark.slow
def test_a_box_placed_by_slicers_own_toolbar_is_followed_too(driver: FakeServerDriver) -> None:
    driver.open_study()
    roi = driver.roi()
    assert roi.GetDisplayNode().GetFillOpacity() == 0
    roi.RemoveAllControlPoints()
    click(roi, (-40, -36, 16))
    driver.rest(0.6)
    assert driver.inferences == []
    click(roi, (-10, -8, 16))
    driver.wait(lambda: driver.inferences)


@pytest.mark.slow
def test_the_slices_of_the_box_are_chosen(driver: FakeServerDriver) -> None:
    driver.open_study()
    volume, first, last = driver.logic.current_study.volume_node, driver.ui.firstSliceBox, driver.ui.lastSliceBox
    assert (first.value, last.value, last.maximum) == (1, 5, 5)
    first.value = 2
    first.editingFinished.emit()
    driver.click("place")
    click_voxels(driver.panel.parameters.roi, volume, (5, 4, 2), (18, 15, 2))
    roi = driver.panel.parameters.roi
    assert roi_to_ijk_box(roi, volume) == (5, 19, 4, 16, 1, 5)
    driver.wait(lambda: len(driver.inferences) == 1)
    last.value = 3  # of the box that is there
    last.editingFinished.emit()
    assert roi_to_ijk_box(roi, volume) == (5, 19, 4, 16, 1, 3)
    driver.wait(lambda: len(driver.inferences) == 2)
    driver.ui.allSlicesButton.click()
    assert roi_to_ijk_box(roi, volume) == (5, 19, 4, 16, 0, 5)
    assert (first.value, last.value) == (1, 5)


@pytest.mark.slow
def test_clicks_beside_the_image_are_said(driver: FakeServerDriver) -> None:
    driver.open_study()
    driver.click("place")
    click_voxels(driver.panel.parameters.roi, driver.logic.current_study.volume_node, (40, 40, 2), (60, 60, 2))
    assert "outside the image" in driver.status
    assert driver.inferences == []


@pytest.mark.slow
def test_placing_that_is_given_up_brings_the_box_back(driver: FakeServerDriver) -> None:
    driver.open_study()
    driver.click("fit")
    roi, volume = driver.panel.parameters.roi, driver.logic.current_study.volume_node
    box = roi_to_ijk_box(roi, volume)
    driver.click("place")
    click_voxels(roi, volume, (18, 4, 2))
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    assert roi_to_ijk_box(roi, volume) == box


@pytest.mark.slow
def test_placing_ends_with_a_box_that_is_deleted_meanwhile(driver: FakeServerDriver) -> None:
    driver.open_study()
    driver.click("place")
    slicer.mrmlScene.RemoveNode(driver.panel.parameters.roi)
    driver.rest(0.1)
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert driver.panel.box.is_at_rest and interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    driver.click("place")
    click_voxels(driver.panel.parameters.roi, driver.logic.current_study.volume_node, (5, 4, 2), (18, 15, 2))
    assert roi_to_ijk_box(driver.panel.parameters.roi, driver.logic.current_study.volume_node) == (5, 19, 4, 16, 0, 5)


@pytest.mark.slow
def test_a_proposal_that_comes_late_moves_no_box_that_is_being_placed(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.open_study()
    infer = driver.server.infer
    monkeypatch.setattr(driver.server, "infer", lambda *arguments: (driver.server.gate.wait(200), infer(*arguments))[1])
    driver.ui.fitButton.click()
    driver.ui.placeButton.click()
    roi, volume = driver.panel.parameters.roi, driver.logic.current_study.volume_node
    click_voxels(roi, volume, (5, 4, 2))
    driver.server.gate.set()
    driver.settle()
    click_voxels(roi, volume, (18, 15, 2))
    assert roi_to_ijk_box(roi, volume) == (5, 19, 4, 16, 0, 5)


@pytest.mark.slow
def test_leaving_while_placing_leaves_no_corner_behind(driver: FakeServerDriver) -> None:
    driver.open_study()
    driver.click("place")
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    driver.select(0)
    driver.click("open")
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    driver.click("place")
    driver.widget.exit()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform


@pytest.mark.slow
def test_a_box_does_not_survive_into_another_study(driver: FakeServerDriver) -> None:
    driver.open_study()
    driver.click("fit")
    box, own = driver.panel.parameters.roi, driver.roi("of his own")
    driver.select(0)
    driver.click("open")
    assert driver.panel.parameters.roi is None
    assert driver.panel.box.selected_rois() == []
    driver.ui.allBoxesCheckBox.checked = True
    assert driver.panel.box.selected_rois() == []
    assert not box.GetDisplayVisibility() and not own.GetDisplayVisibility()
    driver.ui.allBoxesCheckBox.checked = False
    driver.select(1)
    driver.click("open")
    assert driver.panel.parameters.roi is box
    assert box.GetDisplayVisibility()


@pytest.mark.slow
def test_a_box_that_is_for_something_else_is_left_alone(driver: FakeServerDriver) -> None:
    driver.open_study()
    other = driver.roi("crop", select=False)
    driver.select(0)
    driver.click("open")
    assert other.GetScene() is not None and other.GetDisplayVisibility()
    driver.ui.allBoxesCheckBox.checked = True  # from here on it is one
    driver.select(1)
    driver.click("open")
    assert driver.panel.box.selected_rois() == []


@pytest.mark.slow
def test_all_visible_boxes_can_be_used(driver: FakeServerDriver) -> None:
    driver.open_study()
    first, second, hidden = driver.roi("one"), driver.roi("two"), driver.roi("hidden")
    second.SetCenter(-20, -22, 16)
    hidden.SetDisplayVisibility(False)
    driver.ui.roiSelector.setCurrentNode(first)
    driver.ui.allBoxesCheckBox.checked = True
    driver.click("run")
    assert len(driver.inferences[-1][3]["roi"]) == 2


@pytest.mark.slow
def test_a_box_outside_the_image_is_refused_in_the_panel(driver: FakeServerDriver, caplog: pytest.LogCaptureFixture) -> None:
    driver.open_study()
    roi = driver.roi("far away")
    roi.SetCenter(900, 0, 0)
    driver.click("run")
    assert "far away" in driver.status
    assert driver.ui.statusLabel.styleSheet == ERROR_STYLE
    assert dialogs(caplog) == []
    assert driver.inferences == []


@pytest.mark.slow
def test_a_live_update_waits_until_the_box_rests(driver: FakeServerDriver) -> None:
    driver.open_study()
    roi, rest = driver.roi(), driver.panel.box._debounce_timer
    driver.ui.liveCheckBox.checked = False
    end_interaction(roi)
    assert not rest.isActive()  # switched off
    driver.ui.liveCheckBox.checked = True
    while_it_rests = rest.interval
    rest.setInterval(10**6)  # as if no time passed
    for _ in range(3):
        end_interaction(roi)
        driver.rest(0.05)
    assert rest.isActive()
    assert driver.inferences == []  # still moving
    rest.setInterval(while_it_rests)
    end_interaction(roi)
    driver.wait(lambda: len(driver.inferences) == 1)
    driver.settle()
    other = driver.roi("other", select=False)
    end_interaction(other)  # not the box that is selected
    assert not rest.isActive()
    driver.ui.roiSelector.setCurrentNode(other)
    end_interaction(roi)
    assert not rest.isActive()
    end_interaction(other)
    driver.wait(lambda: len(driver.inferences) == 2)
    driver.settle()
    assert len(driver.inferences) == 2


@pytest.mark.slow
def test_a_moved_box_segments_no_study_that_is_opened_before_it_rests(driver: FakeServerDriver) -> None:
    driver.open_study()
    driver.click("run")  # and stays in the scene, so that it opens at once
    driver.select(0)
    driver.click("open")
    roi = driver.roi()
    driver.click("run")
    before = len(driver.inferences)
    end_interaction(roi)
    assert driver.panel.box._debounce_timer.isActive()
    driver.select(1)
    driver.ui.openButton.click()
    assert driver.logic.current_study.study == "p1_ES" and not driver.panel.box._debounce_timer.isActive()
    assert len(driver.inferences) == before


@pytest.mark.slow
def test_a_moved_box_segments_no_phase_that_is_shown_before_it_rests(cine_driver: CineDriver) -> None:
    cine_driver.open()
    roi = cine_driver.roi()
    end_interaction(roi)
    assert cine_driver.panel.box._debounce_timer.isActive()
    cine_driver.show(1)
    assert not cine_driver.panel.box._debounce_timer.isActive() and not cine_driver.sent("infer")


@pytest.mark.slow
def test_what_fails_opens_no_dialog(driver: FakeServerDriver, caplog: pytest.LogCaptureFixture) -> None:
    driver.open_study()
    roi = driver.roi()
    driver.ui.liveCheckBox.checked = True
    driver.server.failure = ServerError("The server is gone.")
    end_interaction(roi)
    driver.wait(lambda: driver.status == "The server is gone.")
    driver.settle()
    assert dialogs(caplog) == []
    driver.click("run")
    assert driver.status == "The server is gone."
    assert dialogs(caplog) == []
    assert driver.ui.statusLabel.styleSheet == ERROR_STYLE
    driver.server.failure = None
    driver.click("run")
    assert "correct the result" in driver.status
    assert driver.ui.statusLabel.styleSheet == HINT_STYLE
