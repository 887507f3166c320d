"""Volumes: exact round trips that nibabel and SimpleITK read alike, the repaired ACDC affine, a table of refusals."""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from prato.data.nifti import VolumeError, read_image, read_volume, write_volume
from tests.prato.data.nifti_files import dtypes, write_nifti

RNG = np.random.default_rng(0)


def oblique(spacing: tuple[float, float, float] = (1.4, 1.6, 8.0), left_handed: bool = False) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))
    if (np.linalg.det(q) < 0) != left_handed:
        q[:, 2] *= -1
    affine = np.eye(4)
    affine[:3, :3] = q * spacing
    affine[:3, 3] = (-31.5, 12.25, 80.0)
    return affine


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def acdc_like(path: Path, array: np.ndarray, pixdim: tuple[float, ...]) -> Path:
    """As ACDC stores it: sform of 1 mm, qform absent, the truth in pixdim alone."""
    image = nib.Nifti1Image(array, np.diag([-1.0, -1.0, 1.0, 1.0]))
    image.set_sform(image.affine, code=2)
    image.set_qform(None, code=0)
    image.header.set_zooms(pixdim)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("left_handed", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_round_trip_as_nibabel_and_simpleitk_see_it(tmp_path: Path, dtype: type, left_handed: bool) -> None:
    array: np.ndarray = RNG.integers(0, 200, (7, 5, 4)).astype(dtype)
    affine = oblique(left_handed=left_handed)
    path = tmp_path / "a.nii.gz"
    write_volume(path, array, affine)
    volume = read_volume(path)
    assert volume.array.dtype == dtype and np.array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
    np.testing.assert_allclose(volume.spacing, (1.4, 1.6, 8.0), rtol=1e-6)

    image = nib.Nifti1Image.from_filename(path)
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-5)
    np.testing.assert_allclose(image.header.get_zooms(), (1.4, 1.6, 8.0), rtol=1e-6)
    assert image.header.get_xyzt_units()[0] == "mm" and int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1

    itk = sitk.ReadImage(str(path))
    np.testing.assert_allclose(itk.GetSpacing(), (1.4, 1.6, 8.0), rtol=1e-6)
    assert np.array_equal(sitk.GetArrayFromImage(itk).transpose(2, 1, 0), array)
    corner = (6, 4, 3)
    ras = affine @ (*corner, 1)
    np.testing.assert_allclose(itk.TransformIndexToPhysicalPoint(corner), ras[:3] * (-1, -1, 1), atol=1e-3)


def test_the_same_volume_is_the_same_file_and_nothing_else_is_left(tmp_path: Path) -> None:
    array = RNG.integers(0, 99, (6, 6, 3)).astype(np.int16)
    write_volume(tmp_path / "a.nii.gz", array, oblique())
    write_volume(tmp_path / "b.nii.gz", array, oblique())
    first = (tmp_path / "a.nii.gz").read_bytes()
    assert first == (tmp_path / "b.nii.gz").read_bytes()
    assert first[4:8] == b"\0\0\0\0", "a time of writing stands in the gzip header"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nii.gz"
    write_volume(path, np.zeros((3, 3, 3), np.uint8), np.eye(4))
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("prato.data.atomic.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_volume(path, np.ones((3, 3, 3), np.uint8), np.eye(4))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]


def test_acdc_affine_is_corrected_from_pixdim(tmp_path: Path) -> None:
    path = acdc_like(tmp_path / "a.nii.gz", np.ones((4, 5, 6), np.int16), (1.5625, 1.5625, 10.0))
    assert np.allclose(nib.Nifti1Image.from_filename(path).affine, np.diag([-1, -1, 1, 1])), "the trap that this test is about is not there"
    expected = np.diag([-1.5625, -1.5625, 10.0, 1.0])
    np.testing.assert_array_equal(read_volume(path).affine, expected)
    assert read_volume(path).spacing == sitk.ReadImage(str(path)).GetSpacing()


def test_a_true_sform_wins_over_a_stale_pixdim(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((4, 4, 4), np.int16), oblique())
    image.header["pixdim"][1:4] = 1
    nib.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii.gz").spacing, (1.4, 1.6, 8.0), rtol=1e-6)


def test_scaled_integers_come_as_float32_and_big_endian_as_native(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nib.save(image, tmp_path / "scaled.nii.gz")
    read = read_volume(tmp_path / "scaled.nii.gz").array
    assert read.dtype == np.float32 and read.min() >= 9
    big = nib.Nifti1Image(np.arange(24, dtype=">i2").reshape(2, 3, 4), np.eye(4), nib.Nifti1Header(endianness=">"))
    nib.save(big, tmp_path / "big.nii")
    read = read_volume(tmp_path / "big.nii").array
    assert read.dtype.isnative and np.array_equal(read, np.arange(24).reshape(2, 3, 4))


def test_a_single_slice_and_a_fourth_axis_of_one_are_volumes(tmp_path: Path) -> None:
    assert read_volume(save(tmp_path / "a.nii.gz", np.ones((4, 5, 1), np.int16))).array.shape == (4, 5, 1)
    array = RNG.integers(0, 99, (4, 5, 3, 1)).astype(np.int16)
    assert np.array_equal(read_volume(save(tmp_path / "b.nii.gz", array)).array, array[..., 0])


SHEAR = np.array([[1.0, 0.2, 0, 0], [0, 1.0, 0, 0], [0, 0, 8.0, 0], [0, 0, 0, 1]])
REFUSED = {
    "4D": (lambda p: save(p, np.ones((4, 4, 3, 2), np.int16)), "4D .*--frames all"),
    "2D": (lambda p: save(p, np.ones((4, 4), np.int16)), "2D .*whole stack"),
    "sheared": (lambda p: save(p, np.ones((4, 4, 3), np.int16), SHEAR), "non-orthonormal"),
    "NaN": (lambda p: save(p, np.full((4, 4, 3), np.nan, np.float32)), "NaN or infinite"),
    "colours": (
        lambda p: save(p, np.zeros((4, 4, 3), [(name, "u1") for name in "RGB"])),
        "holds colours: export it with one grey value",
    ),
    "half of a pair": (
        lambda p: write_nifti(p, np.ones((4, 4, 3), np.int16), qform=oblique(), magic=b"ni1"),
        "one half of a pair of .hdr and .img",
    ),
    "a pipe": (os.mkfifo, "not readable NIfTI .*not a file"),
    "a link to itself": (lambda p: p.symlink_to(p), "not readable NIfTI .*symbolic links"),
    "complex": (lambda p: save(p, np.ones((4, 4, 3), np.complex64)), "one grey value"),
    "text": (lambda p: p.write_text("not an image at all" * 40), "not readable NIfTI"),
    "empty": (lambda p: p.write_bytes(b""), "not readable NIfTI"),
    "missing": (lambda p: None, "does not exist"),
    "folder": (lambda p: p.mkdir(), "not readable NIfTI"),
    "gzip of nothing": (lambda p: p.write_bytes(gzip.compress(b"")), "not readable NIfTI"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    make, says = REFUSED[case]
    path = tmp_path / "bad.nii.gz"
    make(path)
    with pytest.raises(VolumeError, match=says) as refused:
        read_volume(path)
    assert str(refused.value).startswith("bad.nii.gz") and "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_voxels_that_are_no_numbers_are_the_darkest_and_warned_of(tmp_path: Path, value: float, dtype: type) -> None:
    array = np.arange(3, 51).reshape(4, 4, 3).astype(dtype)
    array[2, 1, 0] = value
    volume = read_volume(save(tmp_path / "a.nii.gz", array))
    assert volume.warnings == ("voxels_not_finite",) and volume.array[2, 1, 0] == 3
    array[2, 1, 0] = 3
    assert np.array_equal(volume.array, array)


@pytest.mark.parametrize(
    ("slope", "intercept", "wanted"),
    [(0.5, 10, (0.5, 10)), (0, 10, (1, 0)), (np.nan, 10, (1, 0)), (np.inf, 0, (1, 0)), (2, np.nan, (2, 0)), (-1, 0, (-1, 0))],
)
def test_a_scaling_that_cannot_be_used_is_none(tmp_path: Path, slope: float, intercept: float, wanted: tuple[float, float]) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    volume = read_volume(write_nifti(tmp_path / "a.nii", array, qform=oblique(), scl_slope=slope, scl_inter=intercept))
    assert np.array_equal(volume.array, array * wanted[0] + wanted[1])


@settings(max_examples=30, deadline=None)
@given(dtypes, st.sampled_from(["<", ">"]), st.sampled_from([1, 2]), st.integers(0, 200).map(lambda n: 16 * n), st.booleans())
def test_every_type_of_voxel_in_every_order_of_bytes_behind_any_extension(
    dtype: str, endian: str, version: int, extension: int, gzipped: bool
) -> None:
    array = RNG.integers(0, 100, (4, 3, 5)).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("a.nii.gz" if gzipped else "a.nii")
        write_nifti(path, array, qform=oblique(), endian=endian, version=version, extension=b"{" * extension)
        volume = read_volume(path)
    assert np.array_equal(volume.array, array) and volume.array.dtype == np.dtype("f4" if dtype[0] == "f" else dtype)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("offset", [0, 8, 348])
def test_voxels_that_would_lie_in_the_header_follow_it(tmp_path: Path, version: int, offset: int) -> None:
    array = RNG.integers(0, 100, (4, 3, 5)).astype(np.int16)
    path = write_nifti(tmp_path / "a.nii.gz", array, qform=oblique(), version=version, vox_offset=offset)
    assert np.array_equal(read_volume(path).array, array)
    data = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(data[:-4]))
    with pytest.raises(VolumeError, match="is cut short"):
        read_volume(path)


def test_an_extension_of_megabytes_is_passed_over(tmp_path: Path) -> None:
    array = np.ones((4, 3, 5), np.int16)
    assert np.array_equal(read_volume(write_nifti(tmp_path / "a.nii.gz", array, qform=oblique(), extension=b"x" * 5 * 2**20)).array, array)


@pytest.mark.parametrize("keep", [1, 10, 200, 500, -30, -8, -1])
def test_a_gzip_cut_anywhere_is_noticed(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "bad.nii.gz"
    write_volume(path, RNG.integers(0, 9999, (20, 20, 5)).astype(np.int16), np.eye(4))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(VolumeError, match=r"bad\.nii\.gz"):
        read_volume(path)


@pytest.mark.parametrize("at", [10, 11, 100, 1000, 3000, -12, -8, -4])
def test_a_gzip_damaged_anywhere_is_noticed(tmp_path: Path, at: int) -> None:
    path = tmp_path / "bad.nii.gz"
    write_volume(path, RNG.integers(0, 9999, (20, 20, 5)).astype(np.int16), np.eye(4))
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(VolumeError, match=r"bad\.nii\.gz is not readable NIfTI"):
        read_volume(path)


def test_an_unzipped_file_cut_short_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "bad.nii", np.ones((20, 20, 5), np.int16))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(VolumeError, match="cut short"):
        read_image(path)


@pytest.mark.parametrize(("column", "value", "says"), [(1, 0.0, "singular|no usable"), (2, np.nan, "not finite|no usable")])
def test_a_broken_affine_is_refused(tmp_path: Path, column: int, value: float, says: str) -> None:
    image = nib.Nifti1Image(np.ones((4, 4, 3), np.int16), np.eye(4))
    image.set_sform(np.diag([2.0, 2.0, 8.0, 1.0]), code=1)
    raw = bytearray(image.to_bytes())
    row = 280 + 16 * column  # srow_x at byte 280, four float32 a row
    raw[row : row + 16] = np.full(4, value, np.float32).tobytes()
    (tmp_path / "bad.nii").write_bytes(raw)
    with pytest.raises(VolumeError, match=says):
        read_volume(tmp_path / "bad.nii")


@pytest.mark.parametrize("array", [np.ones((3, 3), np.uint8), np.ones((3, 3, 3), bool), np.ones((3, 3, 3), np.int64)])
def test_what_must_not_be_written(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(VolumeError, match="must be 3D"):
        write_volume(tmp_path / "a.nii.gz", array, np.eye(4))
    with pytest.raises(VolumeError, match="sheared"):
        write_volume(tmp_path / "a.nii.gz", np.ones((3, 3, 3), np.uint8), SHEAR)
    assert not list(tmp_path.iterdir())
