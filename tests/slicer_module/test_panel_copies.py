"""What other modules of Slicer copy of a study's nodes is no part of the study, and what Slicer writes to a file is not edited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
vtk = pytest.importorskip("vtk")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.cines import CINE
from tests.slicer_module.panel_driver import PanelDriver
from tests.slicer_module.unsent import Questions


def copy_image(node: Any) -> Any:
    """As scripts and modules that filter an image do."""
    return slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, node, "filtered")


def copy_segments(node: Any) -> Any:
    """As "Clone" in the module Data does."""
    copy = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "my own")
    copy.Copy(node)
    copy.GetSegmentation().DeepCopy(node.GetSegmentation())
    copy.SetName("my own")
    return copy


def open_listed(driver: PanelDriver, study: str) -> Any:
    """Open a study by the list."""
    driver.select(driver.server.names.index(study))
    driver.click("open")
    assert driver.logic.current_study.study == study, driver.status
    return driver.logic.current_study


@pytest.mark.slow
@pytest.mark.parametrize("study", ["p1_ED", CINE])
def test_they_stay_when_the_study_is_left(cine_driver: CineDriver, study: str) -> None:
    opened = cine_driver.open(study)
    copies = copy_image(opened.volume_node), copy_segments(opened.segmentation_node)
    slicer.util.updateVolumeFromArray(copies[0], np.full_like(slicer.util.arrayFromVolume(copies[0]), 77))
    left = opened.nodes()
    open_listed(cine_driver, "p1_ES")
    assert [node.GetScene() for node in left] == [None] * len(left)
    assert None not in [copy.GetScene() for copy in copies]
    again = open_listed(cine_driver, study)
    assert again.volume_node not in copies and again.segmentation_node not in copies
    assert not (slicer.util.arrayFromVolume(again.volume_node) == 77).any()


@pytest.mark.slow
@pytest.mark.parametrize("study", ["p1_ED", CINE])
def test_they_stay_when_a_scene_was_saved_and_read_or_read_twice(cine_driver: CineDriver, study: str, tmp_path: Path) -> None:
    opened, scene, file = cine_driver.open(study), slicer.mrmlScene, str(tmp_path / "scene.mrb")
    copy_image(opened.volume_node)
    copy_segments(opened.segmentation_node)
    assert scene.WriteToMRB(file)
    scene.Clear(0)
    for _ in range(2):
        assert scene.ReadFromMRB(file, False)
    open_listed(cine_driver, study)
    kinds = ("vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode")
    before = {node.GetName(): node for kind in kinds for node in slicer.util.getNodesByClass(kind)}
    assert {"filtered", "my own"} <= before.keys()
    open_listed(cine_driver, "p1_ES")
    after = [node.GetName() for kind in kinds for node in slicer.util.getNodesByClass(kind)]
    assert sorted(name for name in after if not name.startswith("p1_ES")) == ["filtered", "filtered", "my own", "my own"]


@pytest.mark.slow
def test_a_copied_sequence_stays_with_what_shows_it(cine_driver: CineDriver) -> None:
    cine, scene = cine_driver.open().cine, slicer.mrmlScene
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "my own")
    for sequence in (cine.images, cine.segmentations):
        copy = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "my own")
        copy.Copy(sequence)
        browser.AddSynchronizedSequenceNode(copy)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    shown = vtk.vtkCollection()
    browser.GetAllProxyNodes(shown)
    proxies = [shown.GetItemAsObject(n) for n in range(shown.GetNumberOfItems())]
    assert len(proxies) == 2 and all(proxy.GetAttribute("PratoLabel.study") == CINE for proxy in proxies)
    open_listed(cine_driver, "p1_ES")
    assert None not in [proxy.GetScene() for proxy in proxies]
    open_listed(cine_driver, CINE)
    assert cine_driver.logic.current_study.volume_node not in proxies


@pytest.mark.slow
def test_a_copy_of_the_image_is_no_image_of_the_study(cine_driver: CineDriver) -> None:
    opened = cine_driver.open("p1_ED")
    copy = copy_image(opened.volume_node)
    slicer.mrmlScene.RemoveNode(opened.volume_node)
    cine_driver.rest(0.2)
    again = open_listed(cine_driver, "p1_ED")
    assert again.volume_node is not copy


@pytest.mark.slow
def test_a_copy_of_edited_segments_is_no_edit(cine_driver: CineDriver, questions: Questions) -> None:
    opened = cine_driver.open("p1_ED")
    cine_driver.edit()
    cine_driver.rest(0.1)
    cine_driver.panel.refresh()
    copy_segments(opened.segmentation_node)
    assert cine_driver.states()["p1_ED"]
    cine_driver.click("submit")
    cine_driver.panel.refresh()
    assert not cine_driver.states()["p1_ED"]


@pytest.mark.slow
def test_a_copy_that_becomes_a_study_is_the_labellers_own(cine_driver: CineDriver, questions: Questions) -> None:
    opened = cine_driver.open("p1_ED")
    copy = copy_image(opened.volume_node)
    cine_driver.logic.send_volume(copy, "filtered")
    cine_driver.settle()
    assert cine_driver.logic.current_study.volume_node is copy
    open_listed(cine_driver, "p1_ES")
    assert copy.GetScene() is not None


@pytest.mark.slow
@pytest.mark.parametrize("study", ["p1_ED", CINE])
@pytest.mark.parametrize("is_predicted", [False, True])
def test_what_is_saved_with_the_scene_is_not_edited(cine_driver: CineDriver, study: str, is_predicted: bool, tmp_path: Path) -> None:
    cine_driver.server.labelled[CINE], cine_driver.server.latest[CINE] = "Ada", 3
    opened, scene, file = cine_driver.open(study), slicer.mrmlScene, str(tmp_path / "scene.mrb")
    if is_predicted:
        cine_driver.click("run")
    mask = opened.mask()
    assert mask.any() and not opened.has_unsent_edits
    assert scene.WriteToMRB(file)
    scene.Clear(0)
    assert scene.ReadFromMRB(file, False)
    again = open_listed(cine_driver, study)
    assert np.array_equal(again.mask(), mask) and not again.has_unsent_edits


@pytest.mark.slow
def test_an_undo_that_tells_no_more_than_a_modified_segment_is_an_edit(cine_driver: CineDriver) -> None:
    opened = cine_driver.open("p1_ED")
    segmentation = opened.segmentation_node.GetSegmentation()
    before = slicer.vtkSegmentation()
    before.DeepCopy(segmentation)
    cine_driver.edit()
    edited = slicer.vtkSegmentation()
    edited.DeepCopy(segmentation)
    for state, is_edit in ((before, False), (edited, True)):
        for n in range(segmentation.GetNumberOfSegments()):
            segmentation.GetNthSegment(n).DeepCopy(state.GetNthSegment(n))
            segmentation.GetNthSegment(n).Modified()
        assert opened.has_unsent_edits is is_edit
