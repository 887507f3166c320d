"""Masks with known contents for the tests of the cardiac table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from PratoLabelLib.measures.cardiac import find_flags

LABELS = {"RV cavity": 1, "myocardium": 2, "LV cavity": 3}
#: The same structures under other numbers.
SWAPPED = {"LV cavity": 1, "myocardium": 2, "RV cavity": 3}


def ellipsoid(shape: tuple[int, ...], spacing: tuple[float, ...], centre: tuple[float, ...], axes: tuple[float, ...]) -> np.ndarray:
    """The voxels whose centres lie in the ellipsoid with the half ``axes`` (mm) about ``centre`` (mm)."""
    grid = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing)), indexing="ij")
    return sum(((g - c) / a) ** 2 for g, c, a in zip(grid, centre, axes)) <= 1


def heart(slices: int = 6) -> np.ndarray:
    """(K, J, I): in every slice a ring of myocardium round an LV of 64 voxels, and an RV beside it."""
    mask = np.zeros((slices, 24, 32), np.uint8)
    mask[:, 5:17, 15:27] = LABELS["myocardium"]
    mask[:, 7:15, 17:25] = LABELS["LV cavity"]
    mask[:, 6:16, 6:15] = LABELS["RV cavity"]
    return mask


def flag_sentences(mask: np.ndarray, labels: Mapping[str, int], slice_axis: int) -> list[str]:
    """What the flags of ``mask`` say."""
    return [flag.sentence for flag in find_flags(mask, labels, slice_axis)]
