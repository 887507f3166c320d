"""One reading of a header, and masks that every program lays on their image, whatever the header says."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from prato.data.image_files import read_exact, write_exact
from prato.data.nifti import Volume, VolumeError, read_volume, volume_bytes
from prato.data.orientation import ORIENTATION_WARNINGS, check_field_of_view
from prato.data.stack import check_image
from tests.prato.data.nifti_files import SPACING, dtypes, itk_reading, nifti_file, raw_header, rigid, rigids, shapes, spacings, write_nifti

ARRAY = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
AFFINE = rigid()
TURNED = rigid((0.8, -0.1, 0.5, 0.2))
#: So near a half turn nibabel takes a quaternion for one: where the square of its first part is below three times float32's precision.
HALF_TURN = 2 * np.sqrt(3 * np.finfo(np.float32).eps)
CARRIED = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z", "pixdim", "xyzt_units"),
)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one example: hypothesis shares pytest's own between all of them."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def nibabel_reading(path: Path) -> np.ndarray | None:
    try:
        affine = nib.load(path).affine
    except Exception:
        return None
    return affine if np.isfinite(affine).all() else None


_NUMBER = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 999.0, float("nan"), float("inf"), 1e30]), st.floats(-40, 40, width=32))
headers = st.fixed_dictionaries(
    {
        "sform": st.one_of(rigids, st.lists(_NUMBER, min_size=16, max_size=16).map(lambda v: np.reshape(v, (4, 4)))),
        "qform": rigids,
        "codes": st.tuples(st.sampled_from([0, 1, 2, 4, 77, -1]), st.sampled_from([0, 1, 2, 3])),
        "pixdim": st.one_of(spacings, st.tuples(_NUMBER, _NUMBER, _NUMBER)),
        "xyzt_units": st.sampled_from([0, 1, 2, 3, 10, 11, 7, 255]),
        "version": st.sampled_from([1, 2]),
        "endian": st.sampled_from(["<", ">"]),
    }
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(headers, shapes, dtypes, st.one_of(st.none(), _NUMBER))
def test_whatever_a_header_says_it_is_refused_in_a_sentence_or_its_masks_lie_on_the_image(
    header: dict[str, Any], shape: tuple[int, ...], dtype: str, qfac: float | None
) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    with scratch() as folder:
        image, mask = folder / "image.nii", folder / "mask.nii"
        image.write_bytes(nifti_file(array, **header))
        if qfac is not None:
            data = bytearray(image.read_bytes())
            raw = raw_header(bytes(data))
            raw["pixdim"][0] = qfac
            data[: raw.sizeof_hdr] = raw.binaryblock
            image.write_bytes(bytes(data))
        try:
            volume = read_volume(image)
        except VolumeError as error:
            assert str(error).startswith("image.nii ") and "\n" not in str(error)
            return
        assert np.array_equal(volume.array, array) and set(volume.warnings) <= set(ORIENTATION_WARNINGS)
        assert all(0.02 < mm < 30 for mm in volume.spacing)
        mask.write_bytes(volume_bytes(volume.with_array(np.ones(shape, np.uint8))))
        ours, theirs = raw_header(mask.read_bytes()), raw_header(image.read_bytes())
        for field in CARRIED:
            native = theirs[field].astype(theirs[field].dtype.newbyteorder("<"))
            assert ours[field].tobytes() == native.tobytes(), field
        for read in (nibabel_reading, itk_reading):
            at, wanted = read(mask), read(image)
            assert (at is None) == (wanted is None) and (at is None or np.allclose(at, wanted, atol=1e-5, equal_nan=True))
        again = read_volume(mask)
        assert np.array_equal(again.affine, volume.affine) and again.warnings == volume.warnings


NEARLY_TURNED = rigid((0.0004, 0.75, 0.0, 0.0), (0.7, 0.7, 0.7), False)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@example(rigid((0.0, 1.0, 0.0, 0.0), (0.7, 0.7, 0.7), False), NEARLY_TURNED, (0, 1), (0.7, 0.7, 10.0), 0)
@given(rigids, rigids, st.tuples(*[st.sampled_from([0, 1, 2, 77, -4])] * 2), spacings, st.sampled_from([0, 1, 2, 3]))
def test_what_nibabel_and_itk_make_of_a_header_are_readings_of_it(
    sform: np.ndarray, qform: np.ndarray, codes: tuple[int, int], pixdim: tuple[float, ...], unit: int
) -> None:
    cosines = np.linalg.norm(sform[:3, :3], axis=0) * np.linalg.norm(qform[:3, :3], axis=0)
    cosines = (sform[:3, :3] * qform[:3, :3]).sum(axis=0) / cosines
    # whether ITK notices a half turn, or a mirrored axis, depends on the signs that its singular value decomposition happens to give
    assume((np.abs(cosines) < 0.999).any() or (cosines > 0).all())
    with scratch() as folder:
        path = write_nifti(folder / "a.nii", ARRAY, sform=sform, qform=qform, codes=codes, pixdim=pixdim, xyzt_units=unit)
        volume, itk = read_volume(path), itk_reading(path)
        for wanted, radians in ((nibabel_reading(path), HALF_TURN), (itk, 0.0)):
            edges = 0.0 if wanted is None else np.linalg.norm(wanted[:3, :3], axis=0).max()
            assert wanted is None or any(
                np.allclose(affine, wanted, atol=1e-4 * max(1.0, np.abs(wanted).max()) + radians * edges) for affine in volume.readings
            )
        assert itk is None or np.allclose(volume.itk_affine, itk, atol=1e-4 * np.abs(itk).max())


@settings(max_examples=40, deadline=None)
@given(rigids, st.sampled_from([(1, 0), (0, 1), (1, 1), (2, 1)]), st.sampled_from([0, 2, 10]), st.sampled_from(["<", ">"]))
def test_a_sound_header_is_read_as_nibabel_reads_it_and_nothing_is_warned_of(
    affine: np.ndarray, codes: tuple[int, int], unit: int, endian: str
) -> None:
    with scratch() as folder:
        mm = tuple(np.linalg.norm(affine[:3, :3], axis=0))
        path = write_nifti(folder / "a.nii.gz", ARRAY, sform=affine, qform=affine, codes=codes, pixdim=mm, xyzt_units=unit, endian=endian)
        volume = read_volume(path)
        assert not volume.warnings and volume.array.dtype.isnative
        np.testing.assert_allclose(volume.affine, nib.load(path).affine, atol=1e-3)  # half turns lose digits in float32 quaternions
        np.testing.assert_allclose(volume.affine, affine, atol=1e-2)


@settings(max_examples=40, deadline=None)
@given(st.floats(-1e-3, 1e-3), st.sampled_from([(0, 1), (1, 0), (0, 2), (2, 1)]), st.sampled_from([0, 1]))
def test_shear_by_rounding_is_taken(angle: float, axes: tuple[int, int], qform_code: int) -> None:
    shear = np.eye(4)
    shear[axes] = angle / max(SPACING) * min(SPACING)
    with scratch() as folder:
        volume = read_volume(write_nifti(folder / "a.nii", ARRAY, sform=AFFINE @ shear, qform=AFFINE, codes=(1, qform_code)))
        assert not volume.warnings
        np.testing.assert_allclose(volume.spacing, SPACING, rtol=1e-3)


UNIT = np.diag([1 / mm for mm in SPACING] + [1])
NAN = np.full((4, 4), np.nan)
FLAT = AFFINE @ np.diag([1, 1, 0, 1])
METRES = np.diag([1e-3, 1e-3, 1e-3, 1.0])
ZEROS = (0.0, 0.0, 0.0)
#: What the header holds, the names of the warnings, and the affine that is read.
REPAIRED: dict[str, tuple[dict[str, Any], set[str], np.ndarray]] = {
    "an sform of directions alone": ({"sform": AFFINE @ UNIT, "codes": (1, 0)}, {"voxel_size_uncertain"}, AFFINE),
    "the same, rounded": (
        {"sform": AFFINE @ UNIT @ np.diag([1.0004, 0.9996, 1.0, 1.0]), "codes": (1, 0)},
        {"voxel_size_uncertain"},
        AFFINE,
    ),
    "one column of 999 mm": (
        {"sform": AFFINE @ np.diag([1, 1, 999 / 8, 1]), "codes": (1, 0)},
        {"voxel_size_uncertain"},
        AFFINE,
    ),
    "a stale pixdim": ({"sform": AFFINE, "codes": (1, 0), "pixdim": (1, 1, 1)}, {"voxel_size_uncertain"}, AFFINE),
    "pixdim of 0": ({"sform": AFFINE, "codes": (1, 0), "pixdim": ZEROS}, {"voxel_size_uncertain"}, AFFINE),
    "pixdim of NaN": ({"sform": AFFINE, "codes": (1, 0), "pixdim": (np.nan,) * 3}, {"voxel_size_uncertain"}, AFFINE),
    "negative pixdim": ({"qform": AFFINE, "codes": (0, 1), "pixdim": tuple(-mm for mm in SPACING)}, {"voxel_size_uncertain"}, AFFINE),
    "an sform of NaN": ({"sform": NAN, "qform": AFFINE}, {"orientation_from_qform"}, AFFINE),
    "an sform without a third axis": ({"sform": FLAT, "qform": AFFINE}, {"orientation_from_qform"}, AFFINE),
    "an sform that is sheared": (
        {"sform": AFFINE @ np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "qform": AFFINE},
        {"orientation_from_qform"},
        AFFINE,
    ),
    "an unused sform of NaN": ({"sform": NAN, "qform": AFFINE, "codes": (0, 1)}, set(), AFFINE),
    "forms that differ": ({"sform": AFFINE, "qform": TURNED, "codes": (2, 1)}, set(), AFFINE),
    "metres": ({"sform": METRES @ AFFINE, "codes": (1, 0), "pixdim": tuple(mm / 1000 for mm in SPACING), "xyzt_units": 1}, set(), AFFINE),
    "micrometres": (
        {"sform": np.diag([1e3, 1e3, 1e3, 1]) @ AFFINE, "codes": (1, 0), "pixdim": tuple(mm * 1000 for mm in SPACING), "xyzt_units": 3},
        set(),
        AFFINE,
    ),
    "millimetres that are called metres": ({"sform": AFFINE, "codes": (1, 0), "xyzt_units": 1}, {"unit_ignored"}, AFFINE),
    "millimetres that are called micrometres": ({"qform": AFFINE, "codes": (0, 1), "xyzt_units": 3}, {"unit_ignored"}, AFFINE),
}


@pytest.mark.parametrize("case", REPAIRED)
def test_what_cannot_be_right_is_taken_from_another_field_with_a_warning(tmp_path: Path, case: str) -> None:
    header, warnings, affine = REPAIRED[case]
    volume = read_volume(write_nifti(tmp_path / "a.nii", ARRAY, **header))
    assert set(volume.warnings) == warnings
    np.testing.assert_allclose(volume.affine, affine, atol=2e-3)


def test_without_forms_the_voxel_size_is_right_and_the_orientation_unknown(tmp_path: Path) -> None:
    volume = read_volume(write_nifti(tmp_path / "a.nii", ARRAY, codes=(0, 0)))
    assert volume.warnings == ("orientation_unknown",) and volume.spacing == SPACING


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("thickness", [0.0, 999.0, np.nan, np.inf])
def test_a_single_slice_need_not_say_how_thick_it_is(tmp_path: Path, axis: int, thickness: float) -> None:
    shape, pixdim = [5, 4, 3], list(SPACING)
    shape[axis], pixdim[axis] = 1, thickness
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    flat = AFFINE.copy()
    flat[:3, axis] = 0
    for name, header in {
        "qform": {"qform": AFFINE, "codes": (0, 1), "pixdim": pixdim},
        "sform": {"sform": flat, "codes": (1, 0), "pixdim": pixdim},
    }.items():
        if name == "qform" and not np.isfinite(thickness):
            continue  # nothing is left of the rotation
        volume = read_volume(write_nifti(tmp_path / f"{name}.nii", array, **header))
        assert "voxel_size_unknown" in volume.warnings
        assert volume.spacing[axis] == pytest.approx(1.0)
        others = [a for a in range(3) if a != axis]
        np.testing.assert_allclose([volume.spacing[a] for a in others], [SPACING[a] for a in others], rtol=1e-5)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no voxel size anywhere": ({"codes": (0, 0), "pixdim": ZEROS}, "without a voxel size"),
    "999 in every field": ({"qform": AFFINE, "codes": (0, 1), "pixdim": (1.5, 1.5, 999)}, "999 mm, which no scanner makes"),
    "metres that are called millimetres": (
        {"sform": METRES @ AFFINE, "codes": (1, 0), "pixdim": tuple(mm / 1000 for mm in SPACING)},
        "which no scanner makes",
    ),
    "an sform of NaN and no qform": ({"sform": NAN, "codes": (1, 0)}, "not finite"),
    "two axes of one direction": ({"sform": AFFINE[:, [0, 0, 2, 3]], "codes": (1, 0)}, "sheared"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_nothing_can_repair_is_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    header, says = REFUSED[case]
    with pytest.raises(VolumeError, match=says):
        read_volume(write_nifti(tmp_path / "a.nii", ARRAY, **header))


@pytest.mark.parametrize("order", permutations(range(3)))
def test_how_large_an_image_is_does_not_hang_on_how_it_lies(order: tuple[int, ...]) -> None:
    lying = np.eye(4)
    lying[:3, :3] = np.diag([10.0, 10.0, 1.0])[[*order]]
    with pytest.raises(VolumeError, match="4000 x 3500 mm large"):
        check_field_of_view(lying, (400, 350, 5), "The image")
    lying[:3, :3] = np.diag([1.0, 1.0, 10.0])[[*order]]
    check_field_of_view(lying, (400, 350, 20), "The image")


@pytest.mark.parametrize("shape", [(140, 130, 3), (3, 130, 140)])
def test_an_image_that_no_scanner_could_make_is_refused_wherever_it_comes_from(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    """At a network's pixels a slice of 3,500 mm has eight million of these, whatever the file's size."""
    affine, array = np.diag([25.0, 25.0, 25.0, 1.0]), np.zeros(shape, np.int16)
    array[0, 0, 0] = 1
    says = "is 3500 x 3250 mm large, which no scanner makes: export it again with its spacing in mm"
    write_exact(tmp_path / "a.nrrd", array, affine)
    with pytest.raises(VolumeError, match=rf"a\.nii {says}"):
        read_volume(write_nifti(tmp_path / "a.nii", array, sform=affine, codes=(1, 0), pixdim=(25, 25, 25)))
    with pytest.raises(VolumeError, match=rf"a\.nrrd {says}"):
        read_exact(tmp_path / "a.nrrd")
    with pytest.raises(VolumeError, match=f"The image {says}"):
        check_image(Volume(array, affine))
    long = np.zeros((8, 6, 200), np.int16)
    assert check_image(Volume(long, affine)).array.shape == (8, 6, 200)  # a stack may be as long as it likes
