"""What is said against a mask by itself: never of an expert's, nor of a generated heart, always of one that cannot be a heart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prato.data.nifti import read_volume
from prato.data.structures import STRUCTURES
from prato.data.studies.ed_es import NamedPhases
from prato.inference.prediction import CinePrediction, Prediction
from prato.inference.prediction_warnings import mask_warnings
from prato.phantom.frames import make_phantom
from prato.prompts.box import Box
from tests.real_data import require_real_data

RV, MYO, LV = STRUCTURES.values()
SPACING = (1.5, 1.5, 9.0)


def heart(slices: int = 6, wall: float = 4.0, x: float = 0.0) -> np.ndarray:
    """uint8 (X, Y, Z) at ``SPACING``: rings round discs, with a crescent beside them."""
    i, j = np.meshgrid(np.arange(60) - 32 - x, np.arange(50) - 25, indexing="ij")
    plane, r = np.zeros((60, 50), np.uint8), np.hypot(i, j)
    plane[np.hypot(i + 14, j) < 12] = RV
    plane[r < 12 + wall] = MYO
    plane[r < 12] = LV
    return np.repeat(plane[:, :, None], slices, 2)


@given(st.integers(1, 12), st.floats(1.5, 6), st.floats(-4, 4))
def test_a_heart_is_not_warned_of_however_few_slices_are_looked_at(slices: int, wall: float, x: float) -> None:
    assert mask_warnings(heart(slices, wall, x), SPACING, slices) == []


@given(st.integers(1, 40))
def test_nor_is_a_generated_one(number: int) -> None:
    phantom = make_phantom(0, number)
    spacing = tuple(np.linalg.norm(phantom.affine[:3, :3], axis=0))
    for mask in phantom.labels.values():
        assert mask_warnings(mask, spacing, mask.shape[2]) == []


@pytest.mark.slow
def test_nor_is_an_expert_s() -> None:
    masks = [read_volume(path) for path in sorted(require_real_data("acdc").glob("patient*/*_gt.nii.gz"))]
    assert len(masks) >= 200 and not any(mask_warnings(mask.array, mask.spacing, mask.array.shape[2]) for mask in masks)


@pytest.mark.parametrize("missing", [RV, MYO, LV])
def test_a_missing_structure_is_named_unless_too_little_is_looked_at(missing: int) -> None:
    mask = heart()
    mask[mask == missing] = 0
    assert "structure_is_missing" in mask_warnings(mask, SPACING, 6)
    assert "structure_is_missing" not in mask_warnings(mask, SPACING, 3)
    mask[:2, :2, 0] = missing  # some voxels are none
    assert "structure_is_missing" in mask_warnings(mask, SPACING, 6)


@given(st.integers(3, 20), st.sampled_from((0, RV)))
def test_a_cavity_that_its_wall_does_not_enclose_is_open(width: int, outside: int) -> None:
    mask = heart()
    gap = mask[:, 25 - width // 2 : 26 + width // 2]
    gap[gap == MYO] = outside
    assert mask_warnings(mask, SPACING, 6) == ["lv_cavity_is_open"]


def test_a_cavity_at_the_border_of_the_image_is_open() -> None:
    assert mask_warnings(heart()[32:], SPACING, 6)[-1:] == ["lv_cavity_is_open"]


def test_near_the_apex_a_cavity_may_be_as_small_as_a_pixel_of_its_wall() -> None:
    mask = heart()
    mask[..., -1] = 0
    mask[30:34, 24:27, -1] = LV
    assert mask_warnings(mask, SPACING, 6) == []


@pytest.mark.parametrize("axis", [0, 2])
def test_a_mask_that_was_corrected_since_is_judged_anew_by_as_many_slices(axis: int) -> None:
    whole, lacking, spacing = heart(), heart(), np.roll(SPACING, axis - 2)
    lacking[lacking == RV] = 0
    whole, lacking = (np.moveaxis(mask, 2, axis) for mask in (whole, lacking))
    said = {"box": Box.whole(whole.shape), "box_source": "proposed", "kept_fraction": {}, "gflops": 1.0, "gflops_dense": 1.0}
    found = Prediction(lacking, None, latency_ms={}, model_version="0", slices=6, **said, warnings=["unit_ignored", "structure_is_missing"])
    corrected = found.with_mask(whole, spacing, axis)
    assert corrected.mask is whole and corrected.reply()["warnings"] == ["unit_ignored"]
    assert corrected.with_mask(lacking, spacing, axis).warnings == found.warnings
    assert replace(corrected, slices=2).with_mask(lacking, spacing, axis).warnings == ["unit_ignored"]
    cine = CinePrediction(np.stack([whole, lacking], -1), (0, 1), (corrected, found), tuple(spacing), axis, True)
    assert cine.with_mask(cine.mask[..., ::-1]).warnings == {"unit_ignored": [0, 1], "structure_is_missing": [0]}


def test_a_voxel_size_that_was_guessed_is_told_beside_the_volumes() -> None:
    mask = np.stack([heart(), heart(slices=6, wall=2.0)], -1)
    said = {"box": Box.whole(mask.shape[:3]), "box_source": "proposed", "kept_fraction": {}, "gflops": 1.0, "gflops_dense": 1.0}
    found = Prediction(mask[..., 0], None, latency_ms={}, model_version="0", slices=6, **said, warnings=["voxel_size_uncertain"])
    cine = CinePrediction(mask, (0, 1), (found, found), SPACING, 2, True, NamedPhases.of_manifest(0, 1))
    told = "The image's header gives more than one voxel size, and the more plausible one is used: volumes may be wrong."
    function = cine.function()
    assert function is not None and function.warnings[0] == told


def test_nothing_is_only_empty() -> None:
    assert mask_warnings(np.zeros((9, 9, 5), np.uint8), SPACING, 5) == ["mask_is_empty"]
