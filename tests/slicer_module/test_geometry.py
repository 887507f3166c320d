"""The box that an ROI means, against Slicer's own crop logic and against what boxes must do."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
vtk = pytest.importorskip("vtk")

from scipy.spatial.transform import Rotation

from PratoLabelLib.scene.geometry import GeometryError, enclosing_box, ijk_box_to_roi, roi_to_ijk_box
from tests.slicer_harness.core import new_scene


@pytest.fixture(scope="module")
def scene() -> Any:
    return new_scene()


def matrix(array: np.ndarray) -> Any:
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(array.ravel().tolist())
    return result


def pose(rng: np.random.Generator, spread: float, scale: tuple[float, float] = (1.0, 1.0), flips: bool = False) -> np.ndarray:
    """A random rotation, scaled along its axes, and a shift of up to ``spread`` mm."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=rng.integers(2**31)).as_matrix() * rng.uniform(*scale, 3)
    if flips:
        affine[:3, :3] *= rng.choice((-1, 1), 3)
    affine[:3, 3] = rng.uniform(-spread, spread, 3)
    return affine


def volume(scene: Any, shape: tuple[int, int, int], affine: np.ndarray) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "heart")
    image = vtk.vtkImageData()
    image.SetDimensions(*shape)
    image.AllocateScalars(vtk.VTK_SHORT, 1)
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(matrix(affine))
    return node


def roi(scene: Any, affine: np.ndarray, size: tuple[float, float, float]) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    node.SetAndObserveObjectToNodeMatrix(matrix(affine))
    node.SetSize(*size)
    node.SetAndObserveObjectToNodeMatrix(matrix(affine))
    return node


def under(scene: Any, node: Any, affine: np.ndarray) -> Any:
    """Put ``node`` under a linear transform."""
    parent = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    parent.SetMatrixTransformToParent(matrix(affine))
    node.SetAndObserveTransformNodeID(parent.GetID())
    return parent


def random_case(scene: Any, seed: int) -> tuple[Any, Any]:
    """An ROI over a volume, each anywhere, turned anyhow, and under a transform or two more often than not."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(3, 60, 3))
    heart = volume(scene, shape, pose(rng, 80, (0.7, 10.0), flips=True))
    if rng.random() < 0.5:
        parent = under(scene, heart, pose(rng, 50, (0.8, 1.3)))
        if rng.random() < 0.5:
            under(scene, parent, pose(rng, 20))
    to_world = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(heart.GetParentTransformNode(), None, to_world)
    ijk_to_ras = vtk.vtkMatrix4x4()
    heart.GetIJKToRASMatrix(ijk_to_ras)
    aim = ijk_to_ras.MultiplyPoint((*(rng.uniform(0.2, 0.8, 3) * (np.array(shape) - 1)), 1.0))[:3]
    aim = np.array(to_world.TransformPoint(aim))
    affine = pose(rng, 0)
    moved = rng.random() < 0.5
    outer = pose(rng, 40, (0.8, 1.2)) if moved else np.eye(4)
    affine[:3, 3] = (np.linalg.inv(outer) @ (*aim, 1.0))[:3]
    box = roi(scene, affine, tuple(rng.uniform(5, 150, 3)))
    if moved:
        under(scene, box, outer)
    return box, heart


def reach(box: Any, heart: Any) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest continuous voxel index of the ROI, by VTK's own chain of transforms."""
    between = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(box.GetParentTransformNode(), heart.GetParentTransformNode(), between)
    ras_to_ijk = vtk.vtkMatrix4x4()
    heart.GetRASToIJKMatrix(ras_to_ijk)
    places = []
    for signs in product((-0.5, 0.5), repeat=3):
        corner = (*(np.array(signs) * box.GetSize()), 1.0)
        ras = between.TransformPoint(box.GetObjectToNodeMatrix().MultiplyPoint(corner)[:3])
        places.append(ras_to_ijk.MultiplyPoint((*ras, 1.0))[:3])
    return np.min(places, axis=0), np.max(places, axis=0)


@pytest.mark.slow
@settings(max_examples=600, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_it_agrees_with_slicers_crop_logic_but_for_its_rule(scene: Any, seed: int) -> None:
    """Slicer's extent holds the voxels that lie inside whole, ours those whose centres do: up to half a voxel more on each side."""
    box, heart = random_case(scene, seed)
    try:
        ours = np.array(roi_to_ijk_box(box, heart)).reshape(3, 2)
        low, high = reach(box, heart)
        shape = np.array(heart.GetImageData().GetDimensions())
        extent = [0] * 6
        assert slicer.vtkSlicerCropVolumeLogic.GetVoxelBasedCropOutputExtent(box, heart, extent, True)
        theirs = np.array(extent).reshape(3, 2) + np.array((0, 1))
        # the crop logic's own rule gives way by a thousandth of a voxel
        near = np.minimum(np.abs(low + 0.5 - np.round(low + 0.5)), np.abs(high - 0.5 - np.round(high - 0.5))) <= 1e-3
        for axis in range(3):
            whole = (np.ceil(low[axis] + 0.5), np.floor(high[axis] - 0.5) + 1)
            if near[axis] or whole[0] >= whole[1] or whole[0] >= shape[axis] or whole[1] <= 0:
                continue  # on a voxel's face either answer is right; where no voxel fits whole, Slicer's extent is empty
            assert tuple(theirs[axis]) == (max(whole[0], 0), min(whole[1], shape[axis]))
            more = theirs[axis] - ours[axis]
            assert more[0] in (0, 1), "ours begins at their first voxel, or at the one before"
            assert more[1] in (0, -1)
            assert (more[0] == 1) == (theirs[axis][0] > 0 and theirs[axis][0] - 1 >= low[axis])
            assert (more[1] == -1) == (theirs[axis][1] < shape[axis] and theirs[axis][1] <= high[axis])
    finally:
        scene.Clear()


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_box_drawn_back_is_the_same_box(scene: Any, seed: int) -> None:
    _, heart = random_case(scene, seed)
    rng = np.random.default_rng(seed + 1)
    shape = heart.GetImageData().GetDimensions()
    start = [int(rng.integers(0, n)) for n in shape]
    stop = [int(rng.integers(a + 1, n + 1)) for a, n in zip(start, shape)]
    box = tuple(bound for pair in zip(start, stop) for bound in pair)
    try:
        drawn = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
        ijk_box_to_roi(box, heart, drawn)
        assert roi_to_ijk_box(drawn, heart) == box
        ijk_box_to_roi(roi_to_ijk_box(drawn, heart), heart, drawn)
        assert roi_to_ijk_box(drawn, heart) == box
    finally:
        scene.Clear()


def test_the_oblique_volume_that_two_corners_get_wrong(scene: Any) -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("zyx", (35, -20, 15), degrees=True).as_matrix() @ np.diag((1.5, 1.5, 8.0))
    heart = volume(scene, (96, 96, 12), affine)
    drawn = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    ijk_box_to_roi((40, 60, 30, 50, 4, 8), heart, drawn)
    assert roi_to_ijk_box(drawn, heart) == (40, 60, 30, 50, 4, 8)
    assert drawn.GetSize() == pytest.approx((30.0, 30.0, 32.0))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ((2.0, 2.0, 2.0), (4.0, 4.0, 4.0), (2, 5, 2, 5, 2, 5)),
        ((1.6, 2.1, -0.4), (4.9, 4.0, 0.2), (2, 5, 3, 5, 0, 1)),
        ((2.2, 2.2, 2.2), (2.8, 2.4, 2.7), (2, 3, 2, 3, 2, 3)),
        ((-7.0, -3.0, 8.6), (99.0, -0.3, 30.0), (0, 10, 0, 1, 9, 10)),
        ((3.0000000001, 3, 3), (4.9999999999, 5, 5), (3, 6, 3, 6, 3, 6)),
    ],
    ids=["centres on the faces", "between centres", "thinner than a voxel", "beyond the volume", "rounding"],
)
def test_which_voxels_a_reach_holds(low: tuple[float, ...], high: tuple[float, ...], expected: tuple[int, ...]) -> None:
    assert enclosing_box(np.array([low, high]), (10, 10, 10)) == expected


@pytest.mark.parametrize("points", [((-3, 1, 1), (-0.6, 3, 3)), ((1, 1, 9.6), (3, 3, 20)), ((np.nan, 1, 1), (3, 3, 3))])
def test_a_reach_beside_the_volume_holds_none(points: tuple[tuple[float, ...], ...]) -> None:
    assert enclosing_box(np.array(points), (10, 10, 10)) is None


def test_what_cannot_be_a_box_is_said(scene: Any) -> None:
    heart = volume(scene, (20, 20, 5), np.diag((1.5, 1.5, 8.0, 1.0)))
    empty = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "new")
    with pytest.raises(GeometryError, match="new has no size yet: place it around the heart"):
        roi_to_ijk_box(empty, heart)
    with pytest.raises(GeometryError, match="box has no size yet"):  # two clicks in one row
        roi_to_ijk_box(roi(scene, np.eye(4), (10.0, 0.0, 10.0)), heart)
    far = np.eye(4)
    far[:3, 3] = (500, 0, 0)
    box = roi(scene, far, (10.0, 10.0, 10.0))
    with pytest.raises(GeometryError, match="box lies outside heart: move it over the heart"):
        roi_to_ijk_box(box, heart)
    with pytest.raises(GeometryError, match="is empty: open an image first"):
        roi_to_ijk_box(box, scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing"))
    with pytest.raises(GeometryError, match="contains no voxel"):
        ijk_box_to_roi((3, 3, 0, 5, 0, 5), heart, box)


@pytest.mark.parametrize("which", ["roi", "volume"])
def test_a_transform_that_is_not_linear_is_refused(scene: Any, which: str) -> None:
    heart = volume(scene, (20, 20, 5), np.diag((1.5, 1.5, 8.0, 1.0)))
    box = roi(scene, np.eye(4), (10.0, 10.0, 10.0))
    spline = vtk.vtkThinPlateSplineTransform()
    for points, shift in (("SetSourceLandmarks", 0.0), ("SetTargetLandmarks", 5.0)):
        places = vtk.vtkPoints()
        for n, place in enumerate(((0, 0, 0), (30, 0, 0), (0, 30, 0), (0, 0, 30), (9, 9, 9))):
            places.InsertNextPoint(np.array(place, dtype=float) + (shift if n == 4 else 0.0))
        getattr(spline, points)(places)
    bent = scene.AddNewNodeByClass("vtkMRMLTransformNode", "breathing")
    bent.SetAndObserveTransformToParent(spline)
    (box if which == "roi" else heart).SetAndObserveTransformNodeID(bent.GetID())
    with pytest.raises(GeometryError, match="transform breathing, which is not linear: remove it from that"):
        roi_to_ijk_box(box, heart)
