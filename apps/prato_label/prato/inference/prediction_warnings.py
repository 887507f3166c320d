"""What the labeller should know of a mask by itself, as whether it can be a heart at all, and of the prompts that it answers."""

from __future__ import annotations

import math

import numpy as np

from prato.data.structures import STRUCTURES
from prato.prompts.box import Box

#: Share of the mask outside the box from which the box is said to cut the target.
_CUT = 0.03
#: Share of the box's area that the mask's own box fills in plane, below which the box is said to be far too large.
_LOOSE = 0.35
#: Share of the mask inside the box below which the box is said to miss the target.
_MISSED = 0.25
#: Share of the pixels that border on the LV cavity, in plane, which are no myocardium, from which it is not enclosed. In ACDC's 200 labels
#: the largest is .017.
_OPEN = 0.05
#: Area of the LV cavity, mm2, below which a slice says nothing: near the apex the wall is as wide as a pixel.
_SMALL = 100.0
#: Share of the mask's voxels that the smallest structure takes up, below which it is missing. In ACDC's labels it is .054 at least.
_MISSING = 0.01
#: A stack of fewer slices may well show two structures alone, or one.
_FEW_SLICES = 4
#: What is said of a mask, by name.
MASK_WARNINGS = ("mask_is_empty", "structure_is_missing", "lv_cavity_is_open")
_, _MYO, _LV = STRUCTURES.values()


def mask_warnings(mask: np.ndarray, spacing: tuple[float, ...], slices: int) -> list[str]:
    """Names of ``MASK_WARNINGS``: whatever the image looks like, a heart has all structures, and its LV cavity lies in the myocardium.

    A network leaves it open where it does not know what it sees, and where it takes the outflow tract or the atrium for the LV.

    Args:
        mask: uint8 (X, Y, Z), values of ``prato.data.structures``, slices along Z.
        spacing: of its voxels, mm.
        slices: how many of its slices the heart was looked for in.
    """
    around = Box.around(mask)
    if around is None:
        return ["mask_is_empty"]
    mask = np.pad(mask[around.slices], ((1, 1), (1, 1), (0, 0)))
    counts = np.bincount(mask.ravel(), minlength=4)[1:]
    is_missing = slices >= _FEW_SLICES and counts.min() < _MISSING * counts.sum()
    return ["structure_is_missing"] * is_missing + ["lv_cavity_is_open"] * (_open_share(mask, math.prod(spacing[:2])) > _OPEN)


def box_warnings(boxes: list[Box], mask: np.ndarray) -> list[str]:
    """What the labeller should know of ``boxes``, given the ``mask`` on the same grid."""
    target = mask > 0
    total = np.count_nonzero(target)
    outside = np.copy(target)
    for box in boxes:
        outside[box.slices] = False
    held = total - np.count_nonzero(outside)
    if total == 0 or held < _MISSED * total:
        return ["box_misses_target"]
    found = []
    if held < (1 - _CUT) * total:
        found.append("box_cut_by_target")
    tight = Box.around(target)
    if tight is not None and tight.in_plane.voxels < _LOOSE * Box.union(boxes).in_plane.voxels:
        found.append("box_far_larger_than_target")
    return found


def _open_share(mask: np.ndarray, pixel_mm2: float) -> float:
    """The share of the pixels that border on the LV cavity which are no myocardium; ``mask`` is background along its border."""
    cavity = mask == _LV
    cavity &= np.count_nonzero(cavity, (0, 1)) * pixel_mm2 >= _SMALL
    border = np.zeros_like(cavity)
    for axis in (0, 1):
        for step in (1, -1):
            border |= np.roll(cavity, step, axis)
    border &= mask != _LV
    total = np.count_nonzero(border)
    return np.count_nonzero(border & (mask != _MYO)) / total if total else 0.0
