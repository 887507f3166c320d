"""What looks implausible in a mask: on small masks made for each flag."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from prato.data.structures import STRUCTURES
from prato.function.ventricles import MYOCARDIAL_DENSITY, cardiac_function
from PratoLabelLib.measures.cardiac import MYOCARDIAL_DENSITY_G_PER_ML, compute_function, find_flags, flag_function
from tests.slicer_module.cardiac_masks import LABELS, SWAPPED, ellipsoid, flag_sentences, heart


def test_a_sound_heart_has_no_flags() -> None:
    assert flag_sentences(heart(), LABELS, 0) == []
    assert flag_sentences(np.where(heart() == 1, 3, np.where(heart() == 3, 1, heart())), SWAPPED, 0) == []


@pytest.mark.parametrize("name", LABELS)
def test_a_missing_structure(name: str) -> None:
    mask = heart()
    mask[mask == LABELS[name]] = 0
    flag = f"{name[0].upper()}{name[1:]} is missing altogether."
    assert flag_sentences(mask, LABELS, 0) == [flag]
    assert flag_sentences(mask, {key: value for key, value in LABELS.items() if key != name}, 0) == []


def test_a_flag_names_its_slices() -> None:
    mask = heart()
    mask[3:5][mask[3:5] == 1] = 0
    assert find_flags(mask, LABELS, 0)[0].slices == (3, 4)
    assert find_flags(np.zeros((4, 8, 8), np.uint8), LABELS, 0)[0].slices == ()


def test_an_empty_mask() -> None:
    flags = flag_sentences(np.zeros((4, 8, 8), np.uint8), LABELS, 0)
    assert flags == [f"{name} is missing altogether." for name in ("RV cavity", "Myocardium", "LV cavity")]


def test_empty_slices_between_filled_ones() -> None:
    mask = heart()
    mask[1][mask[1] == 1] = 0
    mask[3:5][mask[3:5] == 1] = 0
    assert flag_sentences(mask, LABELS, 0) == [
        "RV cavity is missing in slices 2, 4 and 5, between slices that contain it.",
        "RV cavity is in 3 parts: 180 voxels lie apart from the largest, in slices 3 and 6.",
    ]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_count_along_the_axis_that_is_named(axis: int) -> None:
    mask = heart()
    mask[2] = 0
    flags = flag_sentences(np.moveaxis(mask, 0, axis), LABELS, axis)
    assert "Myocardium is missing in slice 3, between slices that contain it." in flags
    assert "LV cavity is missing in slice 3, between slices that contain it." in flags
    assert len([s for s in flags if "parts" in s]) == 3 and len(flags) == 6


def test_slices_that_end_early_are_no_gap() -> None:
    mask = heart()
    mask[0] = mask[5] = 0
    mask[1][mask[1] == 1] = 0
    assert flag_sentences(mask, LABELS, 0) == []


def test_a_speck_apart() -> None:
    mask = heart()
    mask[3, 1, 30] = LABELS["LV cavity"]
    flags = flag_sentences(mask, LABELS, 0)
    assert "LV cavity is in 2 parts: 1 voxel lies apart from the largest, in slice 4." in flags
    mask[3, 1, 30] = LABELS["myocardium"]
    assert flag_sentences(mask, LABELS, 0) == ["Myocardium is in 2 parts: 1 voxel lies apart from the largest, in slice 4."]


def test_voxels_that_touch_by_a_corner_are_one_part() -> None:
    mask = np.zeros((3, 5, 5), np.uint8)
    mask[0, 0, 4] = mask[1, 1, 3] = mask[2, 2, 2] = 1
    assert flag_sentences(mask, {"RV cavity": 1}, 0) == []
    mask[1, 1, 3] = 0
    assert flag_sentences(mask, {"RV cavity": 1}, 0)[-1] == "RV cavity is in 2 parts: 1 voxel lies apart from the largest, in slice 3."


def test_an_apical_cap_joined_by_the_lv_alone_is_no_part() -> None:
    mask = heart()
    mask[5] = 0
    mask[5, 9:13, 19:23] = LABELS["myocardium"]  # under the middle of the LV: the ring above is two voxels away
    assert flag_sentences(mask, LABELS, 0) == []
    assert flag_sentences(mask, {"myocardium": 2}, 0) == ["Myocardium is in 2 parts: 16 voxels lie apart from the largest, in slice 6."]


@pytest.mark.parametrize("density", [0.02, 0.1, 0.3])
def test_parts_are_those_that_scipy_finds(density: float) -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        mask = (rng.random(rng.integers(1, 14, 3)) < density).astype(np.uint8)
        mask[0, 0, 0] = 1
        parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
        flags = [s for s in flag_sentences(mask, {"RV cavity": 1}, 1) if "parts" in s]
        sizes = np.bincount(parts[parts > 0])
        if count == 1:
            assert flags == []
        else:
            assert [int(n) for n in re.findall(r"in (\d+) parts: (\d+) voxel", flags[0])[0]] == [count, sizes.sum() - sizes.max()]


def test_an_lv_that_is_not_enclosed() -> None:
    mask = heart()
    mask[1, 7:15, 25:27] = 0  # the wall is gone on one side
    mask[4, 7:15, 15:17] = LABELS["RV cavity"]  # the RV broke through
    assert flag_sentences(mask, LABELS, 0) == ["LV cavity is not enclosed by myocardium in 2 of its 6 slices: slices 2 and 5."]


def test_one_open_voxel_in_a_long_outline_is_let_pass() -> None:
    mask = heart()
    mask[2, 10, 25] = mask[2, 10, 26] = 0  # one of 28 outline voxels
    assert flag_sentences(mask, LABELS, 0) == []
    mask[2, 11, 25] = 0  # two
    assert flag_sentences(mask, LABELS, 0) == ["LV cavity is not enclosed by myocardium in 1 of its 6 slices: slice 3."]


def test_an_lv_at_the_edge_of_the_image_is_not_enclosed() -> None:
    mask = heart()[:, :, :25]
    assert flag_sentences(mask, LABELS, 0) == ["LV cavity is not enclosed by myocardium in 6 of its 6 slices: slices 1, 2, 3, 4, 5 and 6."]


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_flags_come_while_the_hand_is_still_on_the_mouse(noise: float) -> None:
    shape, spacing = (12, 256, 256), (9.0, 1.0, 1.0)
    mask = np.zeros(shape, np.uint8)
    mask[ellipsoid(shape, spacing, (50, 128, 90), (60, 70, 40))] = 1
    mask[ellipsoid(shape, spacing, (50, 128, 150), (60, 50, 50))] = 2
    mask[ellipsoid(shape, spacing, (50, 128, 150), (50, 38, 38))] = 3
    speckled = np.random.default_rng(0).random(shape) < noise
    mask[speckled] = np.random.default_rng(1).integers(0, 4, shape)[speckled]
    times = []
    for _ in range(5):
        began = time.process_time()
        flag_sentences(mask, LABELS, 0)
        times.append(time.process_time() - began)
    assert min(times) < 0.1


@pytest.mark.parametrize(
    ("lv", "rv", "sentences"),
    [
        ((150, 60), (160, 80), []),
        ((150, 60), (160, 100), ["The stroke volumes differ (LV 90 ml, RV 60 ml)"]),
        ((150, 60), (0, 0), []),
        ((60, 60), (80, 80), []),
        ((60, 150), (80, 160), ["The heart holds more blood at end-systole than at end-diastole"]),
        ((60, 150), (0, 0), ["The heart holds more blood at end-systole than at end-diastole"]),
        ((150, 60), (80, 90), ["The stroke volumes differ (LV 90 ml, RV -10 ml)"]),
    ],
)
def test_ventricles_that_pump_differently_much(lv: tuple[float, float], rv: tuple[float, float], sentences: list[str]) -> None:
    found = [flag.sentence for flag in flag_function(compute_function(*lv), compute_function(*rv))]
    assert len(found) == len(sentences) and all(flag.startswith(start) for flag, start in zip(found, sentences))


@given(*(st.sampled_from([0, 1, 59, 60, 100, 120, 124, 125, 126, 150]) for _ in range(4)))
def test_the_server_finds_the_same_implausible(lv_edv: int, lv_esv: int, rv_edv: int, rv_esv: int) -> None:
    """The panel measures without a server, and must not contradict the study's page."""
    masks = np.zeros((400, 1, 1, 2), np.uint8)  # voxels of 1 ml
    for t, (lv, rv) in enumerate(((lv_edv, rv_edv), (lv_esv, rv_esv))):
        masks[:lv, ..., t], masks[200 : 200 + rv, ..., t] = STRUCTURES["LV cavity"], STRUCTURES["RV cavity"]
    measured = cardiac_function(masks, (10.0, 10.0, 10.0), phases=(0, 1))
    assert measured is not None
    served = [text for text in measured.warnings if text.startswith(("The stroke volumes", "The heart holds"))]
    lv, rv = compute_function(lv_edv, lv_esv), compute_function(rv_edv, rv_esv)
    if lv_edv and rv_edv:
        assert [flag.sentence for flag in flag_function(lv, rv)] == served
    for own, theirs in ((lv, measured.lv), (rv, measured.rv)):
        if own is not None:
            assert (own.stroke_volume_ml, own.ejection_fraction) == pytest.approx((theirs.sv_ml, theirs.ef_percent))
    assert MYOCARDIAL_DENSITY_G_PER_ML == MYOCARDIAL_DENSITY
