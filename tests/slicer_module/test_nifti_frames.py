"""Files of several volumes, taken apart and put together, whatever their format."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
from PratoLabelLib.errors import UserError
from PratoLabelLib.measures.nifti_frames import join_frames, split_frames
from PratoLabelLib.scene.volumes import read_volume

TYPES = st.sampled_from(["u1", "i2", "u2", "i4", "f4", "f8"])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TYPES, st.sampled_from("<>"), st.booleans(), st.booleans(), st.integers(1, 4))
def test_the_volumes_are_those_that_slicer_reads(
    tmp_path: Path, kind: str, order: str, is_scaled: bool, is_zipped: bool, count: int
) -> None:
    stored = np.random.default_rng(count).integers(0, 90, (5, 4, 3, count)).astype(order + kind)
    image = nib.Nifti1Image(stored, np.diag([2.0, 2.0, 8.0, 1.0]), nib.Nifti1Header(endianness=order))
    image.header.set_data_dtype(stored.dtype)
    if is_scaled:
        image.header.set_slope_inter(2.0, 1.0)
    path = tmp_path / ("cine.nii.gz" if is_zipped else "cine.nii")
    nib.save(image, path)
    frames = split_frames(path)
    if count == 1:
        assert frames is None
        return
    truth = np.asanyarray(nib.load(path).dataobj)
    assert frames is not None and np.allclose(frames.arrays.T, truth)
    node = slicer.vtkMRMLScalarVolumeNode()
    assert read_volume(node, frames.first)
    assert np.allclose(slicer.util.arrayFromVolume(node).T, truth[..., 0])
    if not is_scaled:
        join_frames(frames.first, frames.arrays[::-1], tmp_path / "joined.nii.gz")
        assert np.array_equal(np.asanyarray(nib.load(tmp_path / "joined.nii.gz").dataobj), truth[..., ::-1])


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cine.nii"
    nib.save(nib.Nifti1Image(np.zeros((5, 4, 3, 2), np.int16), np.eye(4)), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(UserError, match="is incomplete"):
        split_frames(path)
    nib.save(nib.Nifti1Image(np.zeros((5, 4, 3, 2, 3), np.int16), np.eye(4)), path)
    with pytest.raises(UserError, match="does not contain grey values"):
        split_frames(path)


@pytest.mark.parametrize("content", [b"not an image", b"", b"\x1f\x8b damaged"])
def test_what_is_no_nifti_is_left_to_slicers_reader(tmp_path: Path, content: bytes) -> None:
    for name in ("image.nii", "image.nii.gz"):
        (tmp_path / name).write_bytes(content)
        assert split_frames(tmp_path / name) is None
