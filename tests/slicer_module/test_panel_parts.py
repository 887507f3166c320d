"""What a labeller draws beside the mask that is sent is his work, too: it is asked about, kept, and comes back after a crash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.scene.drawing import has_same_parts
from PratoLabelLib.scene.segments import find_segment
from PratoLabelLib.scene.study_nodes import mark_node
from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.panel_driver import FakeServerDriver, PanelDriver
from tests.slicer_module.unsent import Questions, drafts, paint, restart


def draw_scar(driver: PanelDriver) -> None:
    """A segment of the labeller's own."""
    study = driver.logic.current_study
    voxels = np.zeros(study.mask().shape, np.uint8)
    voxels[2, 5:9, 5:9] = 1
    segment = study.segmentation_node.GetSegmentation().AddEmptySegment("", "scar")
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, study.segmentation_node, segment, study.volume_node)


def draw_over(driver: PanelDriver) -> None:
    """The RV over the LV, with Allow overlap: of the two, the LV is sent."""
    study = driver.logic.current_study
    voxels = (study.mask() == 1).astype(np.uint8)
    voxels[:, 9:13, 11:15] = 1
    segment = find_segment(study.segmentation_node.GetSegmentation(), "RV cavity")
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, study.segmentation_node, segment, study.volume_node)


@pytest.mark.slow
@pytest.mark.parametrize("draw", [draw_scar, draw_over])
def test_what_cannot_be_sent_is_asked_about_and_recovered(driver: FakeServerDriver, questions: Questions, draw: object) -> None:
    driver.open_study()
    driver.click("run")
    driver.click("submit")
    study = driver.logic.current_study
    sent = study.mask()
    assert study.is_on_server
    draw(driver)
    assert np.array_equal(study.mask(), sent) and study.has_unsent_edits and study.unsent_phases() == set()
    parts = study.unsent()[0].parts
    driver.wait(lambda: drafts(driver))
    driver.select(0)
    driver.click("open")
    assert len(questions.asked) == 1 and study.is_in_scene
    again = restart(driver)
    again.open_study()
    again.click("run")
    again.ui.recoverButton.click()
    assert len(parts) == 1 and has_same_parts(again.logic.current_study.unsent()[0].parts, parts)
    assert np.array_equal(again.logic.current_study.mask(), sent)
    again.click("submit")
    assert "share" in questions.asked[-1] or "scar" in questions.asked[-1]
    assert not again.logic.current_study.has_unsent_edits and drafts(again) == []  # its labeller was told
    again.click("next")
    again.select(0)
    again.click("open")
    assert len(questions.asked) == 2 and len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 2, "the only one there is"
    again.widget.cleanup()


@pytest.mark.slow
def test_a_phase_of_a_cine_is_no_correction_for_what_cannot_be_sent(cine_driver: CineDriver, questions: Questions) -> None:
    driver = cine_driver
    study = driver.open()
    driver.click("allPhases")
    driver.show(3)
    draw_scar(driver)
    driver.wait(lambda: drafts(driver))
    assert study.has_unsent_edits and study.edited == set() and 3 not in study.phases_to_submit()
    again = restart(driver)
    study = again.open()
    again.ui.recoverButton.click()
    assert study.phase == 3 and [part.name for part in study.drawing(3).parts] == ["scar"]
    again.widget.cleanup()


@pytest.mark.slow
def test_what_is_left_of_a_cine_is_no_hindrance_to_the_next_study(cine_driver: CineDriver, questions: Questions) -> None:
    driver = cine_driver
    study = driver.open()
    slicer.mrmlScene.RemoveNode(study.cine.browser)
    driver.open("p1_ES")
    assert not driver.status.startswith("Something") and not slicer.util.getNodesByClass("vtkMRMLSequenceNode")


@pytest.mark.slow
def test_other_segments_in_the_node_are_edits(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    study = driver.logic.current_study
    other = slicer.vtkSegmentation()
    other.DeepCopy(study.segmentation_node.GetSegmentation())
    study.segmentation_node.SetAndObserveSegmentation(other)
    paint(driver, 2)
    assert study.has_unsent_edits
    driver.wait(lambda: drafts(driver))


@pytest.mark.slow
def test_edits_that_came_with_another_scene_stay(driver: FakeServerDriver, questions: Questions, tmp_path: Path) -> None:
    driver.open_study()
    study = driver.logic.current_study
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "from another scene")
    other.Copy(study.segmentation_node)
    mark_node(other, study.study, study.server)  # as it is in that scene
    other.SetAttribute("PratoLabel.edited", "1")
    driver.select(0)
    driver.click("open")
    assert other.GetScene() is not None and study.segmentation_node.GetScene() is None
    driver.select(1)
    driver.click("open")
    assert driver.logic.current_study.segmentation_node is other and driver.logic.current_study.has_unsent_edits
