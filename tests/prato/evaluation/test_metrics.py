"""Scores against figures known beforehand."""

import math

import numpy as np
import pytest

from prato.data.structures import STRUCTURES
from prato.evaluation.metrics import case_metrics, structure_dice

SPACING = (2.0, 1.0, 8.0)


def block(start, stop, value):
    mask = np.zeros((20, 20, 6), np.uint8)
    mask[tuple(slice(a, b) for a, b in zip(start, stop))] = value
    return mask


@pytest.mark.parametrize(("name", "value"), STRUCTURES.items())
def test_a_shift_by_one_voxel(name, value):
    truth, moved = block((5, 5, 1), (10, 10, 5), value), block((6, 5, 1), (11, 10, 5), value)
    scores = case_metrics(moved, truth, SPACING)[name]
    assert scores["dice"] == pytest.approx(0.8)
    assert scores["iou"] == pytest.approx(4 / 6)
    # one voxel along the first axis is 2 mm
    assert scores["hd95"] == pytest.approx(2.0)
    perfect = case_metrics(truth, truth, SPACING)[name]
    assert perfect == {"dice": 1.0, "iou": 1.0, "hd95": 0.0}


def test_a_structure_at_the_border_of_the_image_is_measured_too():
    truth = block((0, 0, 0), (20, 20, 6), 2)
    assert case_metrics(truth, truth, SPACING)["myocardium"] == {"dice": 1.0, "iou": 1.0, "hd95": 0.0}


def test_a_flat_image_and_another_structure():
    """In an image the border alone is surface."""
    truth, moved = block((5, 5, 1), (10, 10, 2), 1)[..., 1], block((7, 5, 1), (12, 10, 2), 1)[..., 1]
    assert case_metrics(moved, truth, (1.0, 1.0), {"lesion": 1}) == {
        "lesion": {"dice": pytest.approx(0.6), "iou": pytest.approx(3 / 7), "hd95": pytest.approx(2.0)}
    }


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_one_slice_is_the_plane_that_it_is(axis: int) -> None:
    """As a volume it would be all surface, and most of that would lie on the other mask."""
    truth, moved = np.zeros((2, 60, 60), np.uint8)
    truth[10:40, 10:40], moved[16:46, 10:40] = 1, 1
    spacing = np.insert([1.5, 1.5], axis, 8.0)
    flat = case_metrics(np.expand_dims(moved, axis), np.expand_dims(truth, axis), tuple(spacing))["RV cavity"]
    assert flat == case_metrics(moved, truth, (1.5, 1.5))["RV cavity"]
    assert flat["hd95"] == pytest.approx(6 * 1.5)
    missed = case_metrics(np.zeros((60, 60, 1), np.uint8), truth[..., None], (1, 1, 8))["RV cavity"]
    assert missed["hd95"] == pytest.approx(math.hypot(60, 60))


def test_spacings_may_be_whole_numbers() -> None:
    truth, moved = block((5, 5, 1), (10, 10, 5), 1), block((6, 5, 1), (11, 10, 5), 1)
    assert case_metrics(moved, truth, (1.5, 1.5, 8))["RV cavity"]["hd95"] == pytest.approx(1.5)


def test_empty_masks():
    truth = block((5, 5, 1), (10, 10, 5), 1)
    empty = np.zeros_like(truth)
    scores = case_metrics(empty, truth, SPACING)
    assert scores["RV cavity"] == {"dice": 0.0, "iou": 0.0, "hd95": pytest.approx(math.hypot(40, 20, 48))}
    assert scores["LV cavity"] == {"dice": 1.0, "iou": 1.0, "hd95": 0.0}


def test_the_dice_alone_is_that_of_all_metrics():
    truth = block((5, 5, 1), (10, 10, 5), 1) + block((12, 5, 1), (15, 10, 5), 2)
    moved = block((6, 5, 1), (11, 10, 5), 1) + block((2, 5, 1), (4, 10, 5), 2)
    every = case_metrics(moved, truth, SPACING)
    assert structure_dice(moved, truth) == {name: pytest.approx(every[name]["dice"]) for name in STRUCTURES}
    assert structure_dice(moved, truth) == {"RV cavity": 0.8, "myocardium": 0.0, "LV cavity": 1.0}


def test_hd95_is_the_larger_of_both_directions() -> None:
    """A line of 40 voxels lies on one of 80, which is up to 22 voxels away from it: pooled, both would give less."""
    short, long = np.zeros((90, 3, 3), np.uint8), np.zeros((90, 3, 3), np.uint8)
    short[20:60, 1, 1], long[2:82, 1, 1] = 1, 1
    away = np.r_[np.arange(1, 19), np.arange(1, 23), np.zeros(40)]  # from the longer line to the shorter one
    scores = case_metrics(short, long, (2.0, 1.0, 1.0))["RV cavity"]
    assert scores["hd95"] == pytest.approx(2 * np.percentile(away, 95), abs=1e-4)
    assert case_metrics(long, short, (2.0, 1.0, 1.0))["RV cavity"]["hd95"] == scores["hd95"]
