"""Two clicks give the rectangle that was clicked, on any volume; and the slice views show the acquired slices."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
import vtk

from prato.data.stack import slice_axis as slice_axis_of_the_server
from PratoLabelLib.scene.geometry import roi_to_ijk_box
from PratoLabelLib.scene.placement import Placement, style_box
from PratoLabelLib.scene.slice_views import jump_to_slice, show_planes, slice_axis
from tests.slicer_harness.core import new_scene
from tests.slicer_module.clicks import click, click_voxels, world_position

SHAPE = (60, 50, 9)


@pytest.fixture(scope="module", autouse=True)
def scene() -> None:
    new_scene()


def rotation(seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]  # either handedness


def make_volume(
    seed: int, shape: tuple[int, int, int] = SHAPE, spacing: tuple[float, ...] = (1.4, 1.3, 8.0), moved: bool = False
) -> object:
    """Oblique, right- or left-handed; ``moved``: under a transform."""
    slicer.mrmlScene.Clear(0)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "sax")
    slicer.util.updateVolumeFromArray(volume, np.zeros(shape[::-1], np.int16))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation(seed) * spacing, np.random.default_rng(seed).normal(size=3) * 80
    volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    if moved:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "table")
        turned = np.eye(4)
        turned[:3, :3], turned[:3, 3] = rotation(seed + 1), (5, -3, 8)
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turned))
        volume.SetAndObserveTransformNodeID(transform.GetID())
    return volume


def make_box() -> object:
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    style_box(roi)
    return roi


columns = st.tuples(st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[0] - 1)).filter(lambda pair: pair[0] != pair[1])
rows = st.tuples(st.integers(0, SHAPE[1] - 1), st.integers(0, SHAPE[1] - 1)).filter(lambda pair: pair[0] != pair[1])
moves = st.lists(st.tuples(st.integers(-200, 200), st.integers(-200, 200)), max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), columns, rows, st.integers(0, SHAPE[2] - 1), moves, st.booleans(), st.booleans())
def test_two_clicks_give_the_rectangle_over_the_whole_stack(
    seed: int, i: tuple[int, int], j: tuple[int, int], k: int, way: list[tuple[int, int]], moved: bool, again: bool
) -> None:
    volume, roi, placed = make_volume(seed, moved=moved), make_box(), []
    if again:  # a box of another pose was there before
        roi.SetCenter(3, 4, 5)
        roi.SetSize(10, 20, 30)
    Placement(roi, volume, None, lambda: placed.append(1))
    click_voxels(roi, volume, (i[0], j[0], k))
    assert not placed
    click(roi, world_position(volume, (i[1], j[1], k)), [world_position(volume, (*place, k)) for place in way])
    assert placed == [1]
    assert roi_to_ijk_box(roi, volume) == (min(i), max(i) + 1, min(j), max(j) + 1, 0, SHAPE[2])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), columns, rows, st.integers(0, 4), st.integers(1, 4))
def test_slices_that_were_chosen_bound_the_box(seed: int, i: tuple[int, int], j: tuple[int, int], first: int, count: int) -> None:
    volume, roi = make_volume(seed), make_box()
    Placement(roi, volume, (first, first + count), lambda: None)
    click_voxels(roi, volume, (i[0], j[0], 7), (i[1], j[1], 7))
    assert roi_to_ijk_box(roi, volume) == (min(i), max(i) + 1, min(j), max(j) + 1, first, first + count)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), columns, st.tuples(st.integers(0, 3), st.integers(5, 8)), st.integers(0, SHAPE[1] - 1))
def test_clicks_across_the_slices_choose_them(seed: int, i: tuple[int, int], k: tuple[int, int], row: int) -> None:
    volume, roi = make_volume(seed), make_box()
    Placement(roi, volume, None, lambda: None)
    click_voxels(roi, volume, (i[0], row, k[0]), (i[1], row, k[1]))
    box = roi_to_ijk_box(roi, volume)
    assert (box[:2], box[4:]) == ((min(i), max(i) + 1), (k[0], k[1] + 1))
    assert box[2] <= row < box[3]


def test_a_box_is_placed_along_whichever_axis_the_slices_lie() -> None:
    volume, roi = make_volume(3, (8, 50, 60), (9.0, 1.5, 1.5)), make_box()
    Placement(roi, volume, None, lambda: None)
    click_voxels(roi, volume, (2, 10, 12), (2, 30, 40))
    assert roi_to_ijk_box(roi, volume) == (0, 8, 10, 31, 12, 41)


def test_placing_that_is_given_up_leaves_the_box_as_it_was() -> None:
    volume, roi, placed = make_volume(5), make_box(), []
    Placement(roi, volume, None, lambda: None)
    click_voxels(roi, volume, (10, 12, 3), (30, 40, 3))
    second = Placement(roi, volume, None, lambda: placed.append(1))
    click_voxels(roi, volume, (5, 5, 2))
    second.cancel()
    assert roi_to_ijk_box(roi, volume) == (10, 31, 12, 41, 0, SHAPE[2])
    assert placed == []


@pytest.mark.parametrize(
    ("first", "second"), [((100, 70), (130, 90)), ((100, 10), (130, 20)), ((-30, 10), (-20, 20)), ((10, -30), (20, -20))]
)
def test_clicks_beside_the_image_make_no_box(first: tuple[int, int], second: tuple[int, int]) -> None:
    volume, roi, placed = make_volume(6), make_box(), []
    Placement(roi, volume, None, lambda: placed.append(1))
    click_voxels(roi, volume, (*first, 3), (*second, 3))
    assert placed == [1]
    assert roi.GetNumberOfControlPoints() == 0


def test_the_box_is_an_outline() -> None:
    make_volume(0)
    display = make_box().GetDisplayNode()
    assert display.GetFillOpacity() == 0
    assert not display.GetPropertiesLabelVisibility()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_red_shows_the_acquired_slices_and_the_others_the_planes_across_them(seed: int, moved: bool) -> None:
    volume, views = make_volume(seed, moved=moved), {}
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(slicer.mrmlScene)
    for name, orientation in (("Red", "Axial"), ("Yellow", "Sagittal"), ("Green", "Coronal")):
        view = slicer.vtkMRMLSliceNode()
        view.SetLayoutName(name)
        views[name] = slicer.mrmlScene.AddNode(view)
        view.SetOrientation(orientation)
    show_planes(volume)
    origin = np.array(world_position(volume, (0, 0, 0)))
    axes = [np.array(world_position(volume, np.eye(3)[axis])) - origin for axis in range(3)]
    planes = {name: slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())[:3, :3] for name, view in views.items()}
    normals = {name: int(np.argmax([abs(plane[:, 2] @ axis / np.linalg.norm(axis)) for axis in axes])) for name, plane in planes.items()}
    assert normals == {"Red": 2, "Green": 1, "Yellow": 0}
    for plane in planes.values():
        assert np.allclose(plane.T @ plane, np.eye(3), atol=1e-6)
        assert plane[np.argmax(np.abs(plane[:, 1])), 1] > 0  # the head or the front is up
    jump_to_slice(volume, 6)
    red = views["Red"].GetSliceToRAS()
    shown = np.array([red.GetElement(row, 3) for row in range(3)]) - np.array(world_position(volume, (0, 0, 6)))
    assert abs(shown @ planes["Red"][:, 2]) < 1e-3


def test_the_slice_is_found_in_a_stack_that_is_bent() -> None:
    slicer.mrmlScene.Clear(0)
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    view.SetLayoutName("Red")
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    slicer.util.updateVolumeFromArray(volume, np.zeros(SHAPE[::-1], np.int16))
    volume.SetSpacing(1.0, 1.0, 8.0)
    show_planes(volume)
    for shift, z in ((0.0, 48.0), (16.0, 64.0)):
        warp, grid = slicer.vtkOrientedGridTransform(), vtk.vtkImageData()
        grid.SetDimensions(2, 2, 2)
        grid.SetSpacing(100.0, 100.0, 100.0)
        grid.AllocateScalars(vtk.VTK_DOUBLE, 3)
        grid.GetPointData().GetScalars().Fill(shift)  # as where two slices are missing
        warp.SetDisplacementGridData(grid)
        bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "acquisition transform")
        bent.SetAndObserveTransformToParent(warp)
        volume.SetAndObserveTransformNodeID(bent.GetID())
        jump_to_slice(volume, 6)
        assert abs(view.GetSliceToRAS().GetElement(2, 3) - z) < 1e-3


@pytest.mark.parametrize(
    ("shape", "spacing", "axis"),
    [(SHAPE, (1.0, 1.0, 8.0), 2), ((9, 40, 40), (8.0, 1.0, 1.0), 0), ((40, 1, 40), (1.0, 1.0, 1.0), 1), (SHAPE, (1.0, 1.0, 1.0), 2)],
)
def test_the_axis_across_the_slices(shape: tuple[int, int, int], spacing: tuple[float, ...], axis: int) -> None:
    assert slice_axis(make_volume(1, shape, spacing)) == axis


@pytest.mark.parametrize("edges", product((1.0, 1.2, 1.45, 1.6, 8.0), repeat=3))
def test_the_server_takes_the_same_axis(edges: tuple[float, float, float]) -> None:
    """Of a scribble that lies on one slice here, and on several there, it would say so."""
    assert slice_axis(make_volume(1, SHAPE, edges)) == slice_axis_of_the_server(SHAPE, edges)
