"""Which submitted labels are taken, and as what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from lib.datastore.label_check import LabelError, check_label
from prato.data.nifti import write_volume
from prato.data.structures import STRUCTURES, voxel_counts

RV, MYO, LV = STRUCTURES.values()
AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])
SHAPE = (12, 10, 4)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "heart.nii.gz"
    write_volume(path, np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), AFFINE)
    return path


def drawn(*values: int) -> np.ndarray:
    """A mask with a stripe for each of ``values``, one voxel wider from stripe to stripe, so that counts tell them apart."""
    mask = np.zeros(SHAPE, np.uint8)
    for n, value in enumerate(values):
        mask[2 * n, : 2 + n] = value
    return mask


def check(image: Path, mask: np.ndarray, affine: np.ndarray = AFFINE, label_info: Any = None) -> dict[str, int]:
    path = image.parent / "sent.nii.gz"
    write_volume(path, mask, affine)
    return voxel_counts(check_label("heart", image, path, label_info).array)


def named(*names: str, first: int = 1) -> list[dict[str, Any]]:
    return [{"name": name, "idx": idx} for idx, name in enumerate(names, first)]


def test_a_label_on_the_image_grid_is_taken_as_it_is(image: Path) -> None:
    path = image.parent / "sent.nii.gz"
    nearly = AFFINE + np.array([[0, 0, 0, 0.01]] * 3 + [[0] * 4])  # as headers round
    write_volume(path, drawn(RV, MYO, LV).astype(np.float32), nearly)
    taken = check_label("heart", image, path)
    assert taken.array.dtype == np.uint8
    assert np.array_equal(taken.array, drawn(RV, MYO, LV))
    assert np.array_equal(taken.affine, AFFINE)


@pytest.mark.parametrize("axes", [(2,), (0,), (0, 1), (0, 1, 2)])
def test_axes_stored_in_reverse_are_turned_round(image: Path, axes: tuple[int, ...]) -> None:
    """The same voxels at the same places in space, in another order."""
    mask, reverse = np.flip(drawn(RV, MYO, LV), axes), np.eye(4)
    for axis in axes:
        reverse[axis, axis], reverse[axis, 3] = -1, SHAPE[axis] - 1
    write_volume(image.parent / "sent.nii.gz", np.ascontiguousarray(mask), AFFINE @ reverse)
    taken = check_label("heart", image, image.parent / "sent.nii.gz")
    assert np.array_equal(taken.array, drawn(RV, MYO, LV))
    assert np.array_equal(taken.affine, AFFINE)


def test_the_voxel_size_of_acdc_is_mended_on_both_sides(image: Path) -> None:
    """ACDC's files say 1 x 1 x 1 mm in their sform; 3D Slicer shows, and saves labels with, the true size."""
    broken = nib.Nifti1Image(np.zeros(SHAPE, np.int16), np.diag([-1.0, -1.0, 1.0, 1.0]))
    broken.header.set_zooms((1.5, 1.5, 8.0))
    broken.header.set_sform(np.diag([-1.0, -1.0, 1.0, 1.0]), code=2)
    nib.save(broken, image)
    assert check(image, drawn(RV)) == {"RV cavity": 8}


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.diag([1.5, 1.5, 8.0, 1.0]), "lies 42.6 mm off its image"),
        (AFFINE + np.array([[0, 0, 0, 5.0]] + [[0] * 4] * 3), "lies 5.0 mm off its image"),
        (np.diag([-1.5, -1.5, 8.5, 1.0]), "lies 1.5 mm off its image"),
    ],
)
def test_another_affine_is_refused(image: Path, affine: np.ndarray, words: str) -> None:
    with pytest.raises(LabelError, match=words):
        check(image, drawn(RV), affine)


def test_another_shape_is_refused(image: Path) -> None:
    with pytest.raises(LabelError, match=r"has 10x12x4 voxels and its image 12x10x4: export it on the image's own grid"):
        check(image, drawn(RV).transpose(1, 0, 2))


@pytest.mark.parametrize("value", [4, 255])
def test_unknown_values_are_refused(image: Path, value: int) -> None:
    with pytest.raises(LabelError, match=rf"holds the value {value}, .*1 RV cavity, 2 myocardium, 3 LV cavity"):
        check(image, drawn(RV, value))


def test_a_fraction_is_no_label(image: Path) -> None:
    path = image.parent / "sent.nii.gz"
    write_volume(path, drawn(RV).astype(np.float32) * 0.5, AFFINE)
    with pytest.raises(LabelError, match=r"holds the value 0\.5"):
        check_label("heart", image, path)


def test_damaged_files_are_named_by_their_study(image: Path) -> None:
    path = image.parent / "tmp8x.nii.gz"
    path.write_bytes(b"no label at all")
    with pytest.raises(LabelError, match=r"^The label for heart is not readable NIfTI"):
        check_label("heart", image, path)


@pytest.mark.parametrize(
    ("values", "label_info", "counts"),
    [
        # as the scene lists them
        ((1, 2, 3), named("RV cavity", "myocardium", "LV cavity"), {"RV cavity": 8, "myocardium": 12, "LV cavity": 16}),
        ((1, 2, 3), named("LV cavity", "myocardium", "RV cavity"), {"LV cavity": 8, "myocardium": 12, "RV cavity": 16}),
        ((1,), named("LV cavity"), {"LV cavity": 8}),
        # a client that sends our own numbers
        ((3,), [{"name": "LV cavity", "idx": 3}], {"LV cavity": 8}),
        ((2,), [{"name": "myocardium", "idx": 2}, {"name": "LV cavity", "idx": 3}], {"myocardium": 8}),
        # the stock module counts a hidden background in idx, not in the file
        ((1, 2, 3), named("RV cavity", "myocardium", "LV cavity", first=2), {"RV cavity": 8, "myocardium": 12, "LV cavity": 16}),
        ((2, 3), named("RV cavity", "myocardium", "LV cavity", first=2), {"myocardium": 8, "LV cavity": 12}),
        ((1, 2), [{"name": "background", "idx": 0}, *named("RV cavity", "myocardium")], {"RV cavity": 8, "myocardium": 12}),
    ],
)
def test_names_decide_where_they_are_given(image: Path, values: tuple[int, ...], label_info: Any, counts: dict[str, int]) -> None:
    assert check(image, drawn(*values), label_info=label_info) == counts


@pytest.mark.parametrize(
    ("values", "label_info", "words"),
    [
        ((1,), named("spleen"), "names the segment 'spleen': the structures are RV cavity, myocardium, LV cavity"),
        ((1, 2), named("RV cavity", "RV cavity"), "names RV cavity twice"),
        ((1, 5), named("RV cavity", "myocardium"), "holds values that its label_info does not name"),
        ((2,), named("LV cavity", "RV cavity", "myocardium", first=2), "does not say which value is which structure"),
        ((1,), "RV cavity", "label_info must be a list"),
        ((1,), [{"name": "RV cavity"}], "label_info must be a list"),
        ((1,), [{"name": "RV cavity", "idx": "1"}], "label_info must be a list"),
    ],
)
def test_names_that_settle_nothing_are_refused(image: Path, values: tuple[int, ...], label_info: Any, words: str) -> None:
    with pytest.raises(LabelError, match=words):
        check(image, drawn(*values), label_info=label_info)
