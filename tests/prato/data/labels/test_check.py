"""Which labels are taken, and as what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prato.data.labels.check import _values, check_label, read_label_volume
from prato.data.labels.names import LabelError, read_convention
from prato.data.nifti import Volume, read_volume, volume_from_image, write_volume
from prato.data.structures import STRUCTURES, structure_from_name, voxel_counts

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
    return voxel_counts(read_and_check(image, path, label_info))


def read_and_check(image: Path, label: Path, label_info: Any = None) -> np.ndarray:
    name = "The label for heart"
    return check_label(read_volume(image), read_label_volume(label, name), name, label_info)


def named(*names: str, first: int = 1) -> list[dict[str, Any]]:
    return [{"name": name, "idx": idx} for idx, name in enumerate(names, first)]


@given(st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, int(np.prod(SHAPE)) - 1))
def test_what_is_no_number_is_no_structure(value: float, where: int) -> None:
    image = Volume(np.zeros(SHAPE, np.int16), AFFINE)
    mask = drawn(RV, MYO, LV).astype(np.float32)
    mask.flat[where] = value
    read = volume_from_image(nib.Nifti1Image(mask, AFFINE), "sent.nii.gz")  # which replaces it, as in images
    for label in (Volume(mask, AFFINE), read):
        with pytest.raises(LabelError, match=r"It holds NaN or infinite values"):
            check_label(image, label, "It")


def test_a_label_whose_header_gives_no_place_is_refused_unless_its_image_gives_none_either(image: Path) -> None:
    path, grey = image.parent / "sent.nii.gz", read_volume(image).array
    write_volume(image, grey, AFFINE + np.array([[0, 0, 0, 70.0]] * 3 + [[0] * 4]))
    bare = nib.Nifti1Image(drawn(RV, MYO, LV), AFFINE)
    bare.set_sform(None, 0)
    bare.set_qform(None, 0)
    nib.save(bare, path)
    with pytest.raises(LabelError, match=r"does not say where it lies \(its header has neither sform nor qform\): save it with"):
        read_and_check(image, path)
    nib.save(nib.Nifti1Image(grey, None, bare.header), image)
    assert np.array_equal(read_and_check(image, path), drawn(RV, MYO, LV))


def test_a_label_on_the_image_grid_is_taken_as_it_is(image: Path) -> None:
    path = image.parent / "sent.nii.gz"
    nearly = AFFINE + np.array([[0, 0, 0, 0.01]] * 3 + [[0] * 4])  # as headers round
    write_volume(path, drawn(RV, MYO, LV).astype(np.float32), nearly)
    taken = read_and_check(image, path)
    assert taken.dtype == np.uint8
    assert np.array_equal(taken, drawn(RV, MYO, LV))


@given(
    order=st.permutations(range(3)),
    reverse=st.lists(st.booleans(), min_size=3, max_size=3),
    sizes=st.lists(st.integers(1, 7), min_size=3, max_size=3),
    seed=st.integers(0, 999),
)
def test_axes_in_another_order_or_reversed_are_turned(order: list[int], reverse: list[bool], sizes: list[int], seed: int) -> None:
    """The same voxels at the same places in space, stored otherwise; the image may be oblique."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation * rng.uniform(0.7, 9, 3), rng.uniform(-90, 90, 3)
    mask = rng.integers(0, 4, sizes).astype(np.uint8)
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for axis, of in enumerate(order):
        turn[of, axis], turn[of, 3] = -1 if reverse[axis] else 1, turn[of, 3] + (sizes[of] - 1 if reverse[axis] else 0)
    stored = np.flip(mask.transpose(order), [axis for axis in range(3) if reverse[axis]])
    image = Volume(np.zeros(sizes, np.int16), affine)
    assert np.array_equal(check_label(image, Volume(stored, affine @ turn), "The label"), mask)


def test_the_voxel_size_of_acdc_is_corrected_on_both_sides(image: Path) -> None:
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
    with pytest.raises(LabelError, match=r"holds the value 0\.5, as a probability map or an interpolated mask does"):
        read_and_check(image, path)


def test_damaged_files_are_named_by_their_study(image: Path) -> None:
    path = image.parent / "tmp8x.nii.gz"
    path.write_bytes(b"no label at all")
    with pytest.raises(LabelError, match=r"^The label for heart is not readable NIfTI"):
        read_and_check(image, path)


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
        # as stock servers and other programs write it
        ((1, 2, 3), named("LV", "MYO", "RV"), {"LV cavity": 8, "myocardium": 12, "RV cavity": 16}),
        ((1, 2, 3), named("Left Ventricle", "myo", "right_ventricle"), {"LV cavity": 8, "myocardium": 12, "RV cavity": 16}),
        ((3,), [{"name": "RV", "idx": 3}, {"name": "LV", "idx": 1}], {"RV cavity": 8}),
        ((7, 9), [{"name": "LV blood pool", "idx": 9}, {"name": "LV wall", "idx": 7}], {"myocardium": 8, "LV cavity": 12}),
        ((1, 3), {"LV": 1, "RV": 3, "MYO": 2}, {"LV cavity": 8, "RV cavity": 12}),
        ((1, 3), {"1": "LV", "3": "RV"}, {"LV cavity": 8, "RV cavity": 12}),
        ((1, 4), {"1": "LV", "4": "background"}, {"LV cavity": 8}),
        ((), [{"name": "background", "idx": 0}], {}),
        # a segment that is not drawn may be called anything
        ((2,), [{"name": "papillary muscles", "idx": 5}, {"name": "myocardium", "idx": 2}], {"myocardium": 8}),
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
        ((1,), "RV cavity", "label_info must be a list like .*, not 'RV cavity'"),
        ((1,), [{"name": "RV cavity"}], "label_info must be a list"),
        ((1,), [{"name": "RV cavity", "idx": True}], "label_info must be a list"),
        ((1,), [{"name": "RV cavity", "idx": 1.5}], "label_info must be a list"),
        ((1,), {"RV cavity": "one"}, "An object of names must be like"),
        ((1, 3), {"1": "RV", "3": "right ventricle"}, "names RV cavity twice"),
        ((1,), [{"name": "RV", "idx": 1}, {"name": "LV", "idx": 1}], "gives the value 1 two names"),
        ((1, 2), {"1": "RV"}, "holds the value 2, which has no name"),
    ],
)
def test_names_that_settle_nothing_are_refused(image: Path, values: tuple[int, ...], label_info: Any, words: str) -> None:
    with pytest.raises(LabelError, match=words):
        check(image, drawn(*values), label_info=label_info)


@given(
    names=st.permutations(["LV", "myo", "RV"]),
    values=st.lists(st.integers(1, 99), min_size=3, max_size=3, unique=True),
    dtype=st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32]),
    as_list=st.booleans(),
)
def test_whatever_the_numbers_names_decide(names: list[str], values: list[int], dtype: Any, as_list: bool) -> None:
    grid = Volume(np.zeros(SHAPE, np.int16), AFFINE)
    stored = np.zeros(SHAPE, dtype)
    for n, value in enumerate(values):
        stored[2 * n, : 2 + n] = value
    pairs = dict(zip(names, values))
    label_info = [{"name": name, "idx": value} for name, value in pairs.items()] if as_list else pairs
    structures = {"LV": "LV cavity", "myo": "myocardium", "RV": "RV cavity"}
    wanted = {structures[name]: int((stored == value).sum()) for name, value in pairs.items()}
    assert voxel_counts(check_label(grid, Volume(stored, AFFINE), "The label", label_info)) == wanted


def test_one_channel_a_structure_is_no_label(image: Path) -> None:
    path = image.parent / "channels.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((*SHAPE, 4), np.uint8), AFFINE), path)
    with pytest.raises(LabelError, match=r"^The label for heart is 4D \(12x10x4x4\), not one 3D volume: merge channels"):
        read_and_check(image, path)


@pytest.mark.parametrize(
    ("text", "structure"),
    [
        ("RV", "RV cavity"),
        ("lv", "LV cavity"),
        ("LV cavity", "LV cavity"),
        ("Left Ventricle", "LV cavity"),
        ("heart_ventricle_right", "RV cavity"),
        ("LV-Endo", "LV cavity"),
        ("MYO", "myocardium"),
        ("LV Myocardium", "myocardium"),
        ("Myocardium (LV)", "myocardium"),
        ("Background", "background"),
        ("RV myocardium", None),
        ("LV epi", None),
        ("spleen", None),
        ("Segment_1", None),
        ("", None),
    ],
)
def test_names_that_people_and_programs_use(text: str, structure: str | None) -> None:
    assert structure_from_name(text) == structure


def test_conventions_of_data_sets_and_files(tmp_path: Path) -> None:
    assert dict(read_convention("mnms")) == dict(read_convention("ukbb")) == {"1": "LV cavity", "2": "myocardium", "3": "RV cavity"}
    assert {int(value): name for value, name in read_convention("acdc").items()} == {v: n for n, v in STRUCTURES.items()}
    path = tmp_path / "ours.json"
    for text in ('{"1": "LV", "2": "myo", "5": "RV"}', '{"LV": 1, "myo": 2, "RV": "5"}'):
        path.write_text(text)
        assert dict(read_convention(str(path))) == {"1": "LV", "2": "myo", "5": "RV"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not a known convention: use acdc, mnms, ukbb, ukbb4 or a JSON file such as"),
        ("[]", "is not a known convention"),
        ("{}", "is not a known convention"),
        ('{"1": "spleen"}', "names the segment 'spleen'"),
        ('{"LV": 1, "RV": 1}', "gives the value 1 two names"),
        ('{"LV": [1]}', "must be like"),
    ],
)
def test_what_is_no_convention_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(LabelError, match=words):
        read_convention(str(tmp_path / "x.json"))
    with pytest.raises(LabelError, match="is not a known convention"):
        read_convention("acdd")


@given(
    st.sampled_from(["u1", "i1", "i2", "u2", "i4", "u8", "i8", ">i2", "f4"]),
    st.lists(st.integers(0, 127), min_size=0, max_size=30),
    st.sampled_from([0, -1, 2**62]),
)
def test_counted_values_are_those_that_sorting_finds(kind: str, drawn: list[int], sign: int) -> None:
    info = np.iinfo(kind) if np.dtype(kind).kind in "iu" else None
    shift = 0 if info is None or not sign else info.min if sign < 0 else info.max - 127
    part = np.array([value + shift for value in drawn], kind)
    assert np.array_equal(_values(part), np.unique(part))
