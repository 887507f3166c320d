"""Simulated clicks are counted as they are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prato.data.nifti import Volume, write_volume
from prato.data.studies.folder import StudyFile
from prato.prompts.clicks import Stroke
from prato.training.simulated_labeller import CAREFUL, CARELESS, SCRIBBLING
from scripts.simulate.click_study import clicks_until, correct_by_clicks, read_study, stamp
from scripts.simulate.simulate_clicks import _whole_part, measure_course
from tests.storage import STORAGES, Storage, oblique


def truth() -> np.ndarray:
    mask = np.zeros((40, 40, 3), np.uint8)
    mask[8:30, 8:30, :] = 2
    mask[14:24, 14:24, :] = 3
    mask[8:30, 32:38, :] = 1
    return mask


def test_whoever_puts_whole_parts_right_needs_a_click_for_each():
    mask = truth()
    mask[8:30, 32:38, 1] = 0
    mask[14:24, 14:20, 2] = 2
    course = correct_by_clicks(mask, truth(), _whole_part(truth()), CAREFUL, 20, 0)
    assert course.wrong == [22 * 6 + 60, 60, 0] and course.right == [True, True] and course.mean[-1] == 1
    measured = measure_course(course)
    assert measured["clicks_to_95"]["mean"] == clicks_until(course.mean, 0.95) == 1
    assert (measured["right_clicks"], measured["raised"], measured["lowered"]) == (2, 2, 0)
    assert measured["wrong_voxels"] == {"0": 192, "5": 0, "10": 0, "20": 0}


def test_a_stamp_is_a_disc_in_mm_on_one_slice():
    before = np.zeros((20, 20, 2), np.uint8)
    after = stamp(4.0, (2.0, 1.0, 8.0))(before, [], Stroke(3, np.array([[10, 10, 1]])))
    assert not before.any() and not after[:, :, 0].any()
    assert (np.flatnonzero(after[:, 10, 1]).tolist(), np.flatnonzero(after[10, :, 1]).tolist()) == ([8, 9, 10, 11, 12], list(range(6, 15)))


def test_clicks_that_take_back_one_another_come_to_an_end():
    mask = truth()
    mask[8:30, 32:38, 1] = 0
    course = correct_by_clicks(mask, truth(), lambda before, _strokes, _new: before, CAREFUL, 5, 0)
    assert len(course.ms) == 5
    course = correct_by_clicks(mask, truth(), stamp(12.0, (1.5, 1.5, 8.0)), SCRIBBLING, 5, 0)
    assert len(course.ms) <= 5


@pytest.mark.parametrize("seed", range(3))
def test_careless_clicks_come_to_an_end(seed):
    mask = truth()
    mask[8:30, 32:38, 1] = 0
    course = correct_by_clicks(mask, truth(), stamp(3.0, (1.5, 1.5, 8.0)), CARELESS, 4, seed)
    assert len(course.ms) == len(course.right) <= 4 and len(course.wrong) == len(course.ms) + 1


@pytest.mark.parametrize("storage", STORAGES[::5], ids=str)
def test_image_and_label_are_on_one_grid_however_the_study_is_stored(storage: Storage, tmp_path: Path) -> None:
    label = truth()[:38]
    usual = oblique(10 * label, (1.5, 1.2, 8.0))
    for name, each in (("image", usual), ("label", Volume(label, usual.affine))):
        stored = storage.volume(each)
        write_volume(tmp_path / f"{name}.nii.gz", stored.array, stored.affine)
    image, drawn = read_study(StudyFile("a", "a", tmp_path / "image.nii.gz", tmp_path / "label.nii.gz"))
    assert np.array_equal(drawn, label)
    assert np.allclose(image.stored.spacing, usual.spacing, atol=1e-5)
    # what networks are shown, too: it has no view of its own any more
    assert np.array_equal(image.stored.array, usual.array) and np.array_equal(image.to_stack(drawn), label)
