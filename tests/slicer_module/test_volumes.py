"""Left-handed images: reversed in the scene, and in the file's order on the wire."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
import vtk

from PratoLabelLib.scene.segmentation import read_mask, write_mask
from PratoLabelLib.scene.volumes import has_reversed_slices, ijk_to_ras, load_volume, mark_as_stored, read_volume, to_file_order
from tests.slicer_harness.core import new_scene

LABELS = {"RV cavity": 1, "myocardium": 2, "LV cavity": 3}
SHAPE = (9, 8, 5)
#: Rotations, and which axes run the other way.
ANGLES = st.tuples(*[st.floats(-180, 180)] * 3)
SIGNS = st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3)


def affine_of(angles: tuple[float, ...], signs: tuple[float, ...]) -> np.ndarray:
    turn = vtk.vtkTransform()
    for angle, axis in zip(angles, "XYZ"):
        getattr(turn, f"Rotate{axis}")(angle)
    rotation = np.array([[turn.GetMatrix().GetElement(row, column) for column in range(3)] for row in range(3)])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(np.array(signs) * (1.4, 1.5, 8.0))
    affine[:3, 3] = (-30.0, 12.0, 7.0)
    return affine


def test_a_file_of_one_slice_is_read_without_those_beside_it(tmp_path: Path) -> None:
    new_scene()
    for n in (1, 2, 3):  # as the labels of one patient's phases lie in one folder while they are measured
        nib.save(nib.Nifti1Image(np.full((6, 5, 1), n, np.uint8), np.diag([1.0, 1.0, 8.0, 1.0])), tmp_path / f"p_frame0{n}.nii.gz")
    node = slicer.vtkMRMLLabelMapVolumeNode()
    assert read_volume(node, tmp_path / "p_frame02.nii.gz")
    assert slicer.util.arrayFromVolume(node).tolist() == [[[2] * 6] * 5]


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANGLES, SIGNS)
def test_every_voxel_stays_where_it_is(tmp_path: Path, angles: tuple[float, ...], signs: tuple[float, ...]) -> None:
    new_scene()
    affine, rng = affine_of(angles, signs), np.random.default_rng(3)
    stored = rng.integers(0, 4, SHAPE).astype(np.uint8)
    nib.save(nib.Nifti1Image(stored.astype(np.int16), affine), tmp_path / "image.nii.gz")
    nib.save(nib.Nifti1Image(stored, affine), tmp_path / "label.nii.gz")
    node = load_volume(tmp_path / "image.nii.gz", "image")
    matrix, array = ijk_to_ras(node), slicer.util.arrayFromVolume(node).T
    assert np.linalg.det(matrix[:3, :3]) > 0
    assert has_reversed_slices(node) == (np.linalg.det(affine[:3, :3]) < 0)
    for index in ((0, 0, 0), (8, 2, 1), (3, 7, 4)):
        at = np.round(np.linalg.inv(affine) @ matrix @ (*index, 1)).astype(int)[:3]
        assert array[index] == stored[tuple(at)]
    mask = read_mask(tmp_path / "label.nii.gz", node, LABELS)
    assert np.array_equal(mask.T, array)
    write_mask(tmp_path / "again.nii.gz", mask, node)
    again = nib.load(tmp_path / "again.nii.gz")
    assert np.array_equal(np.asarray(again.dataobj), stored)  # in the file's own order
    assert np.allclose(again.affine, affine, atol=1e-3)
    box = (2, 7, 1, 8, 1, 3)
    i0, i1, j0, j1, k0, k1 = to_file_order(box, node)
    assert np.array_equal(np.sort(stored[i0:i1, j0:j1, k0:k1], axis=None), np.sort(array[2:7, 1:8, 1:3], axis=None))
    assert to_file_order(to_file_order(box, node), node) == list(box)
    mark_as_stored(node)
    assert to_file_order(box, node) == list(box)
