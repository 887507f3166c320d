"""The panel and the scene of a cine: nodes and items that somebody deletes, edits that are saved with it, an image that was replaced."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.scene.segmentation import export_mask
from PratoLabelLib.scene.study_nodes import EDITED_ATTRIBUTE, read_phases
from PratoLabelLib.scene.volumes import has_reversed_slices
from tests.slicer_module import cines
from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.cines import CINE
from tests.slicer_module.fake_client import LABELS
from tests.slicer_module.unsent import Questions, drafts


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["volume_node", "segmentation_node"])
def test_a_cine_lets_go_of_a_node_that_slicer_has_made_anew(cine_driver: CineDriver, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    study = cine_driver.open()
    cine_driver.click("allPhases")
    masks = cine_driver.masks()
    slicer.mrmlScene.RemoveNode(getattr(study, kind))
    study.cine.browser.SetSelectedItemNumber(1)  # by Slicer's own toolbar
    assert study.cine.volume_node is not None and study.cine.segmentation_node is not None
    assert cine_driver.logic.current_study is None
    cine_driver.open("p1_ED")
    assert not caplog.records
    study = cine_driver.open()
    assert np.array_equal(cine_driver.masks(), masks) and study.segmentation_node is study.cine.segmentation_node


@pytest.mark.slow
@pytest.mark.parametrize("sequences", [("images",), ("segmentations",), ("images", "segmentations")])
def test_a_cine_with_fewer_phases_than_its_study_is_not_open(cine_driver: CineDriver, sequences: tuple[str, ...]) -> None:
    cine = cine_driver.open().cine
    cine_driver.click("allPhases")
    for name in sequences:  # as the module Sequences does
        sequence = getattr(cine, name)
        sequence.RemoveDataNodeAtValue(sequence.GetNthIndexValue(1))
    cine_driver.rest(0.1)
    assert cine_driver.logic.current_study is None and "Open a study" in cine_driver.status
    cine_driver.click("open")
    assert cine_driver.status == f"{CINE} has 4 phases, and not as many in this scene: remove its nodes here, and open it again."
    cine.remove()
    cine_driver.open()
    assert cine_driver.logic.current_study.cine.has_phases(4)


@pytest.mark.slow
def test_what_else_is_shown_along_with_a_cine_is_not_taken_for_it(cine_driver: CineDriver, questions: Questions) -> None:
    cine = cine_driver.open().cine
    cine_driver.click("allPhases")
    cine_driver.edit()
    masks, other, image = cine_driver.masks(), slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "long axis"), cine.volume_node
    for time in range(0, 180, 30):
        other.SetDataNodeAtValue(image, str(time))
    cine.browser.AddSynchronizedSequenceNode(other)  # as by the module Sequences
    cine.browser.SetAndObserveMasterSequenceNodeID(other.GetID())
    for phase in (3, 1):
        cine_driver.show(phase)
        assert cine_driver.logic.current_study.phase == phase
        assert np.unique(slicer.util.arrayFromVolume(cine.volume_node)) == [10 + phase]
    cine_driver.open("p1_ED")
    again = cine_driver.open()
    assert again.cine.images is cine.images and again.edited == {0} and np.array_equal(cine_driver.masks(), masks)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["image", "item"])
def test_edits_of_a_cine_that_has_lost_a_node_stay_in_the_scene(cine_driver: CineDriver, lost: str) -> None:
    study = cine_driver.open()
    cine_driver.show(2)
    edited, cine = cine_driver.edit(), study.cine
    if lost == "image":
        slicer.mrmlScene.RemoveNode(study.volume_node)
    else:
        for sequence in (cine.images, cine.segmentations):
            sequence.RemoveDataNodeAtValue(sequence.GetNthIndexValue(3))
    cine_driver.rest(0.1)
    assert bool(drafts(cine_driver)) == (lost == "image")  # of an item nobody says that it goes
    cine_driver.open("p1_ED")
    assert CINE in cine_driver.logic.edited_studies()
    assert np.array_equal(cine.mask(2, study.labels), edited)
    if lost == "image":
        study = cine_driver.open()
        assert study.edited == {2} and np.array_equal(study.mask_of(2), edited)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["browser", "segmentations", "images", "segmentation_node"])
def test_a_stroke_outlasts_a_node_that_is_deleted_at_once(cine_driver: CineDriver, lost: str) -> None:
    study = cine_driver.open()
    cine_driver.show(2)
    edited = cine_driver.edit()
    slicer.mrmlScene.RemoveNode(getattr(study.cine, lost))
    assert len(drafts(cine_driver)) == 1  # sooner than edits rest
    study = cine_driver.open()
    if study.edited != {2}:
        cine_driver.click("recover")
    assert study.edited == {2} and np.array_equal(study.mask_of(2), edited)


@pytest.mark.slow
@pytest.mark.parametrize("button", ["run", "allPhases"])
@pytest.mark.parametrize("lost", ["item", "browser"])
def test_an_answer_for_a_cine_that_is_gone_meanwhile_changes_no_phase(
    cine_driver: CineDriver, caplog: pytest.LogCaptureFixture, lost: str, button: str
) -> None:
    study = cine_driver.open()
    cine_driver.show(2)
    cine, before = study.cine, cine_driver.masks()
    getattr(cine_driver.ui, f"{button}Button").click()
    if lost == "browser":
        slicer.mrmlScene.RemoveNode(cine.browser)
    else:
        cine.segmentations.RemoveDataNodeAtValue(cine.segmentations.GetNthIndexValue(1))
    cine_driver.settle()
    assert "Open a study" in cine_driver.status and not caplog.records
    left = [cine.segmentations.GetNthDataNode(n) for n in range(cine.segmentations.GetNumberOfDataNodes())]
    kept = before if lost == "browser" else np.delete(before, 1, axis=3)
    masks = [export_mask(node, cine.images.GetNthDataNode(0), LABELS).T for node in left]
    assert np.array_equal(np.stack(masks, 3), kept)


@pytest.mark.slow
def test_slicers_toolbar_has_the_cine_that_is_open(cine_driver: CineDriver) -> None:
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")  # which the toolbar would go on with
    slicer.modules.sequences.showSequenceBrowser(other)
    study = cine_driver.open()
    assert slicer.modules.sequences.browser is study.cine.browser


@pytest.mark.slow
def test_a_version_is_not_shown_in_a_cine_that_is_gone_meanwhile(cine_driver: CineDriver) -> None:
    study = cine_driver.open()
    cine_driver.logic.versions.show(study, 1)
    slicer.mrmlScene.RemoveNode(study.cine.browser)
    cine_driver.settle()
    assert cine_driver.status == "The study is not in the scene any more: open it again."


@pytest.mark.slow
def test_a_cine_that_has_more_phases_by_now_than_the_list_says_opens(cine_driver: CineDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    cine_driver.click("test")
    monkeypatch.setattr(cines, "PHASES", 6)  # the image was replaced on the server
    study = cine_driver.open()
    assert study.cine.has_phases(6)
    cine_driver.open("p1_ED")
    assert cine_driver.open().cine.has_phases(6)  # the list was asked for again


@pytest.mark.slow
def test_a_cine_that_is_saved_right_after_a_stroke_knows_of_it(cine_driver: CineDriver) -> None:
    study = cine_driver.open()
    cine_driver.show(2)
    cine_driver.edit()
    assert read_phases(study.cine.segmentations, EDITED_ATTRIBUTE) == {2}


def reload_scene(folder: Path, drops_attributes: bool) -> None:
    """Save the scene and load it again; ``drops_attributes``: as 3D Slicer before 5.10, which saves none of a sequence's images."""
    scene, bundle = slicer.mrmlScene, folder / "scene.mrb"
    assert scene.WriteToMRB(str(bundle))
    scene.Clear(0)
    zipfile.ZipFile(bundle).extractall(folder / "unpacked")
    [unpacked] = (folder / "unpacked").rglob("*.mrml")
    scene.SetURL(str(unpacked))
    assert scene.Connect()
    for sequence in slicer.util.getNodesByClass("vtkMRMLSequenceNode") if drops_attributes else ():
        if sequence.GetDataNodeClassName() == "vtkMRMLScalarVolumeNode":
            for image in map(sequence.GetNthDataNode, range(sequence.GetNumberOfDataNodes())):
                for name in image.GetAttributeNames():
                    image.RemoveAttribute(name)
    for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode"):
        browser.Modified()  # the proxies follow


@pytest.mark.slow
@pytest.mark.parametrize("drops_attributes", [False, True])
@pytest.mark.parametrize("is_left_handed", [False, True])
def test_a_cine_reopens_from_a_saved_scene_as_it_was(
    cine_driver: CineDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_left_handed: bool, drops_attributes: bool
) -> None:
    if is_left_handed:
        monkeypatch.setattr(cines.write_cine, "__defaults__", (cines.AFFINE @ np.diag([1, 1, -1, 1]),))
    study = cine_driver.open()
    assert has_reversed_slices(study.volume_node) == is_left_handed
    cine_driver.click("allPhases")
    cine_driver.show(2)
    cine_driver.edit()
    cine_driver.show(1)
    masks, provenance = cine_driver.masks(), study.provenance
    reload_scene(tmp_path, drops_attributes)
    cine_driver.rest(0.1)
    again = cine_driver.open()
    assert (again.phase, again.edited, again.base, again.provenance) == (1, {2}, study.base, provenance)
    assert again.unsent_phases() == {*range(4)} and np.array_equal(cine_driver.masks(), masks)
    for phase in (3, 2):
        cine_driver.show(phase)
        cine_driver.edit(1)
    cine_driver.click("submit")
    [sent] = cine_driver.server.sent
    shown = cine_driver.masks()
    assert np.array_equal(sent[..., 2:], (shown[:, :, ::-1] if is_left_handed else shown)[..., 2:])
    assert not again.edited
    cine_driver.open("p1_ED")
    names = {node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLNode")}
    assert not any(name and name.startswith(CINE) for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("phases", [4, 5])
def test_a_scene_whose_cine_is_not_found_has_its_segments(
    cine_driver: CineDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phases: int
) -> None:
    cine_driver.open()
    cine_driver.click("allPhases")
    cine_driver.show(2)
    edited = cine_driver.edit()
    masks, study = cine_driver.masks(), cine_driver.logic.current_study
    study.base = "http://fake", 3
    study.store_base()
    scene, bundle = slicer.mrmlScene, tmp_path / "scene.mrb"
    assert scene.WriteToMRB(str(bundle))
    scene.Clear(0)
    for draft in drafts(cine_driver):
        draft.unlink()  # as on another computer
    zipfile.ZipFile(bundle).extractall(tmp_path / "unpacked")
    for name in (f"{CINE}.seq.nrrd", f"{CINE}.nrrd"):
        [image] = (tmp_path / "unpacked").rglob(name)
        image.unlink()
    [unpacked] = (tmp_path / "unpacked").rglob("*.mrml")
    scene.SetURL(str(unpacked))
    assert not scene.Connect()  # and yet it has the nodes
    monkeypatch.setattr(cines, "PHASES", phases)
    cine_driver.select(cine_driver.server.names.index(CINE))
    cine_driver.click("open")
    if phases == 5:
        assert cine_driver.status == f"{CINE} has 5 phases, and not as many in this scene: remove its nodes here, and open it again."
        assert CINE in cine_driver.logic.edited_studies()
        return
    study = cine_driver.logic.current_study
    assert study.edited == {2} and np.array_equal(study.mask_of(2), edited) and np.array_equal(cine_driver.masks(), masks)
    assert study.base == ("http://fake", 3) and study.cine.describe(2) == "phase 2, 80 ms"
    cine_driver.show(2)
    assert np.unique(slicer.util.arrayFromVolume(study.volume_node)) == [12]
