"""The segments in the scene: under the transform of their image, with their surfaces, whoever writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from PratoLabelLib.scene.segments import find_segment
from PratoLabelLib.scene.volumes import ijk_to_ras
from tests.slicer_module import cines
from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.click_tool import click_on, drag, expected, mask_of, points, press, segmented, sent, start
from tests.slicer_module.clicks import click_voxels, world_position
from tests.slicer_module.fake_client import heart
from tests.slicer_module.panel_driver import FakeServerDriver
from tests.slicer_module.unsent import Questions

pytestmark = pytest.mark.slow


def put_under_transform(node: Any) -> str:
    """Turn the node by 16 degrees, and shift it; returns the transform's identifier."""
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    matrix = np.array([[0.96, -0.28, 0, 3], [0.28, 0.96, 0, -5], [0, 0, 1, 2], [0, 0, 0, 1]])
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())
    return str(transform.GetID())


@pytest.mark.parametrize("moved", ["volume_node", "segmentation_node"])
def test_segments_stay_the_images_under_a_transform(driver: FakeServerDriver, moved: str) -> None:
    driver.open_study()
    study = driver.logic.current_study
    put_under_transform(getattr(study, moved))
    driver.click("run")
    before = mask_of(driver)
    assert study.segmentation_node.GetTransformNodeID() == study.volume_node.GetTransformNodeID()
    assert np.array_equal(before[1:, 2:20], heart()[1:, 2:20])  # in the box
    start(driver, 1)
    click_on(driver, (5, 4, 2))
    assert np.array_equal(mask_of(driver), expected(before, ("RV cavity", (5, 4, 2))))
    press(driver, "Ctrl+Z")
    assert np.array_equal(mask_of(driver), before)


def test_a_segmentation_follows_its_image(driver: FakeServerDriver) -> None:
    before = segmented(driver)
    study = driver.logic.current_study
    name = put_under_transform(study.volume_node)
    assert study.segmentation_node.GetTransformNodeID() == name and np.array_equal(mask_of(driver), before)
    study.volume_node.SetAndObserveTransformNodeID(None)
    assert study.segmentation_node.GetTransformNodeID() is None


@pytest.mark.parametrize("how", ["hardened", "hardened twice", "bent", "centred", "centred under a transform"])
@pytest.mark.parametrize("is_cine", [False, True])
def test_an_image_stays_on_its_grid(driver: FakeServerDriver, tmp_path: Path, is_cine: bool, how: str) -> None:
    if is_cine:
        driver.widget.cleanup()
        driver = CineDriver(tmp_path)
        driver.open()
    else:
        driver.open_study()
    driver.click("run")
    study, shown = driver.logic.current_study, driver.logic.current_study.volume_node
    before, grid = mask_of(driver), ijk_to_ras(shown)
    slicer.util.arrayFromVolume(shown)[:] = np.arange(24)  # a voxel that is moved is another
    voxels = slicer.util.arrayFromVolume(shown).copy()
    if how == "bent":
        name = acquisition_transform(shown).GetID()
        shown.SetAndObserveTransformNodeID(name)
    else:
        name = None if how == "centred" else put_under_transform(shown)
    driver.rest(0.05)
    corner = world_position(shown, (5, 4, 2))
    if "centred" in how:
        shown.SetOrigin(7, 8, 9)
    else:
        for _ in range(1 + (how == "hardened twice")):
            assert shown.HardenTransform()
    assert (
        driver.status
        == f"The image of {study.study} stays on the server's grid: to move it, put it under a transform, and do not harden the transform."
    )
    assert np.allclose(ijk_to_ras(shown), grid) and np.allclose(world_position(shown, (5, 4, 2)), corner)
    assert np.array_equal(slicer.util.arrayFromVolume(shown), voxels)
    assert shown.GetTransformNodeID() == study.segmentation_node.GetTransformNodeID() == name
    driver.click("run")
    assert "Waiting" not in driver.status and np.array_equal(mask_of(driver), before) and not study.has_unsent_edits
    shown.SetAndObserveTransformNodeID(None)
    assert study.segmentation_node.GetTransformNodeID() is None and np.array_equal(mask_of(driver), before)
    if is_cine:
        driver.widget.cleanup()


def test_an_image_that_was_cropped_in_place_is_left_alone(driver: FakeServerDriver) -> None:
    shown = driver.open_study().logic.current_study.volume_node
    grid = ijk_to_ras(shown)
    grid[:3, 3] += grid[:3, 2]
    slicer.util.updateVolumeFromArray(shown, slicer.util.arrayFromVolume(shown)[1:].copy())
    shown.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(grid))
    assert np.array_equal(ijk_to_ras(shown), grid)
    driver.click("run")
    assert driver.status.startswith("The mask has 24x22x5 voxels and p1_ES has 24x22x4: delete its image in the module Data")


def test_clicks_follow_their_image(driver: FakeServerDriver) -> None:
    segmented(driver)
    start(driver, 1)
    node = click_on(driver, (5, 4, 2))
    press(driver, "Esc")
    study, after = driver.logic.current_study, mask_of(driver)
    put_under_transform(study.volume_node)
    for _ in range(2):
        assert np.allclose(node.GetNthControlPointPositionWorld(0), world_position(study.volume_node, (5, 4, 2)))
        node.InvokeEvent(node.PointEndInteractionEvent)  # taken up, and put down where it was
        driver.settle()
        assert len(sent(driver)) == 1 and np.array_equal(mask_of(driver), after)
        study.volume_node.SetAndObserveTransformNodeID(None)
    drag(driver, node, 0, (6, 4, 2))
    assert driver.logic.strokes[0].voxels.tolist() == [[6, 4, 2]]


def acquisition_transform(volume: Any) -> Any:
    """The grid transform that Slicer's DICOM module puts a stack under whose slices lie beside each other by some millimetres."""
    columns, rows, slices = volume.GetImageData().GetDimensions()
    grid, directions, warp = vtk.vtkImageData(), vtk.vtkMatrix4x4(), slicer.vtkOrientedGridTransform()
    grid.SetOrigin(*volume.GetOrigin())
    grid.SetDimensions(2, 2, slices)
    grid.SetSpacing(*np.multiply(volume.GetSpacing(), (columns, rows, 1)))
    grid.AllocateScalars(vtk.VTK_DOUBLE, 3)
    shifts = vtk_to_numpy(grid.GetPointData().GetScalars()).reshape(slices, 2, 2, 3)
    shifts[:] = [[[(3.0 * (-1) ** n, n, 0.5)]] for n in range(slices)]
    volume.GetIJKToRASDirectionMatrix(directions)
    warp.SetGridDirectionMatrix(directions)
    warp.SetDisplacementGridData(grid)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "acquisition transform")
    transform.SetAndObserveTransformToParent(warp)
    return transform


@pytest.mark.slow
def test_a_stack_that_slicers_dicom_module_has_bent_is_worked_on_as_any_other(driver: FakeServerDriver, questions: Questions) -> None:
    mask = segmented(driver)
    study = driver.logic.current_study
    transform = acquisition_transform(study.volume_node)
    study.volume_node.SetAndObserveTransformNodeID(transform.GetID())
    driver.click("fit")
    driver.click("run")
    assert driver.inferences[-1][3]["roi"] == [study.reply["box"]] == [[1, 23, 2, 20, 0, 5]]
    driver.ui.placeButton.click()
    click_voxels(driver.ui.roiSelector.currentNode(), study.volume_node, (4, 5, 2), (18, 15, 2))
    driver.rest(0.6)
    driver.settle()
    assert driver.inferences[-1][3]["roi"] == [[4, 19, 5, 16, 0, 5]]
    start(driver, 1)
    node = click_on(driver, (5, 4, 2))
    assert np.array_equal(mask_of(driver), expected(mask, ("RV cavity", (5, 4, 2))))
    drag(driver, node, 0, (6, 4, 1))
    assert np.array_equal(mask_of(driver), expected(mask, ("RV cavity", (6, 4, 1))))
    study.volume_node.SetAndObserveTransformNodeID(None)
    assert points() == len(driver.logic.strokes) == 1 and len(sent(driver)) == 2  # it is still on its voxel
    for parent in (None, transform.GetID(), None, transform.GetID()):
        study.volume_node.SetAndObserveTransformNodeID(parent)
        before = len(driver.inferences)
        driver.click("run")
        assert [request[3]["roi"] for request in driver.inferences[before:]] == [[[4, 19, 5, 16, 0, 5]]]  # and so is the box
    driver.roi("drawn elsewhere")
    driver.click("run")
    assert (
        driver.status
        == f"{study.study} lies under the transform {transform.GetName()}, which is not linear: remove it from that transform."
    )


def test_all_phases_of_a_cine_follow(cine_driver: CineDriver) -> None:
    driver = cine_driver
    study = driver.open()
    driver.click("allPhases")
    before = driver.masks()
    name = put_under_transform(study.volume_node)
    for phase in (1, 0):
        driver.show(phase)
        assert study.segmentation_node.GetTransformNodeID() == study.volume_node.GetTransformNodeID() == name
        assert np.array_equal(driver.masks(), before) and study.edited == set()


def surface_of(node: Any) -> list[float] | None:
    """The bounds of the LV's surface; None where it has none."""
    segmentation = node.GetSegmentation()
    segment = segmentation.GetSegment(find_segment(segmentation, "LV cavity"))
    surface = segment.GetRepresentation("Closed surface")
    return list(surface.GetBounds()) if surface is not None else None


def made_anew(node: Any) -> list[float] | None:
    """The same, of surfaces that are made of the voxels as they are."""
    copy = slicer.vtkMRMLSegmentationNode()
    copy.GetSegmentation().DeepCopy(node.GetSegmentation())
    copy.GetSegmentation().RemoveRepresentation("Closed surface")
    copy.GetSegmentation().CreateRepresentation("Closed surface")
    return surface_of(copy)


def test_surfaces_are_those_of_the_segments_in_every_phase(cine_driver: CineDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = cine_driver
    study = driver.open()
    driver.click("allPhases")
    for phase in (1, 0):
        driver.show(phase)
        assert study.segmentation_node.CreateClosedSurfaceRepresentation()
    before = surface_of(study.segmentation_node)
    monkeypatch.setattr(cines, "beating_heart", lambda: np.stack([np.roll(heart(3), 5, axis=0)] * 4, 3))
    driver.click("allPhases")
    assert before != surface_of(study.segmentation_node)
    for phase, has_surface in ((0, True), (1, True), (2, False)):
        driver.show(phase)
        assert surface_of(study.segmentation_node) == (made_anew(study.segmentation_node) if has_surface else None)


def test_segments_that_are_surfaces_are_not_changed(driver: FakeServerDriver) -> None:
    before = segmented(driver)
    start(driver, 1)
    click_on(driver, (20, 3, 0))
    after = mask_of(driver)
    assert not np.array_equal(after, before)
    segmentation = driver.logic.current_study.segmentation_node.GetSegmentation()
    segmentation.CreateRepresentation("Closed surface")
    segmentation.SetSourceRepresentationName("Closed surface")
    for act in (lambda: click_on(driver, (5, 4, 2)), lambda: press(driver, "Ctrl+Z"), lambda: driver.click("run")):
        driver.panel.say("")
        act()
        assert driver.status.startswith("The segments cannot be changed, because they are surfaces: make Binary labelmap")
        assert len(driver.logic.strokes) == points() == 1
    segmentation.SetSourceRepresentationName("Binary labelmap")
    press(driver, "Ctrl+Z")
    assert points() == 0


def test_the_editors_effect_stays_when_the_phase_changes_and_its_undo_ends_there(cine_driver: CineDriver) -> None:
    driver = cine_driver
    study = driver.open()
    driver.click("allPhases")
    effect = object()  # stands for the brush
    driver.editor.setActiveEffect(effect)
    driver.editor.setCurrentSegmentID("painted")
    driver.editor.saveStateForUndo()
    driver.edit(2)
    driver.show(1)
    assert driver.editor.activeEffect() is effect and driver.editor.currentSegmentID() == "painted"
    assert driver.editor.segmentationNode() is study.segmentation_node and driver.editor.history.GetNumberOfStates() == 0
    before = mask_of(driver)
    driver.editor.undo()
    assert np.array_equal(mask_of(driver), before)
    driver.editor.saveStateForUndo()
    driver.edit(1)
    driver.editor.undo()
    assert np.array_equal(mask_of(driver), before)


@pytest.mark.slow
def test_the_segment_that_is_worked_on_stays_selected(driver: FakeServerDriver) -> None:
    study = driver.open_study().logic.current_study
    chosen = find_segment(study.segmentation_node.GetSegmentation(), "LV cavity")
    driver.editor.setCurrentSegmentID(chosen)
    driver.frame.exit()  # to another module, for example to set window and level
    driver.frame.enter()
    assert driver.editor.segmentationNode() is study.segmentation_node and driver.editor.currentSegmentID() == chosen
    driver.select(0)
    driver.click("open")
    segmentation = driver.logic.current_study.segmentation_node.GetSegmentation()
    assert driver.editor.currentSegmentID() == find_segment(segmentation, "RV cavity")
