"""What the labeller should know of a mask by itself, as whether it can be a heart at all, and of the prompts that it answers."""

from __future__ import annotations

import numpy as np

from prato.data.labels.anatomy import FEW_SLICES, is_lv_open, missing_structures
from prato.prompts.box import Box

#: Share of the mask outside the box from which the box is said to cut the target.
_CUT = 0.03
#: Share of the box's area that the mask's own box fills in plane, below which the box is said to be far too large.
_LOOSE = 0.35
#: Share of the mask inside the box below which the box is said to miss the target.
_MISSED = 0.25
#: What is said of a mask, by name.
MASK_WARNINGS = ("mask_is_empty", "structure_is_missing", "lv_cavity_is_open")


def mask_warnings(mask: np.ndarray, spacing: tuple[float, ...], slices: int) -> list[str]:
    """Names of ``MASK_WARNINGS``: whatever the image looks like, a heart has all structures, and its LV cavity lies in the myocardium.

    Args:
        mask: uint8 (X, Y, Z), values of ``prato.data.structures``, slices along Z.
        spacing: of its voxels, mm.
        slices: how many of its slices the heart was looked for in.
    """
    if not mask.any():
        return ["mask_is_empty"]
    is_missing = slices >= FEW_SLICES and bool(missing_structures(mask))
    return ["structure_is_missing"] * is_missing + ["lv_cavity_is_open"] * is_lv_open(mask, spacing)


def box_warnings(boxes: list[Box], mask: np.ndarray, *, are_bounds: bool = True) -> list[str]:
    """What the labeller should know of ``boxes``, given the ``mask`` on the same grid.

    Args:
        are_bounds: whether somebody drew them to hold the heart: others cannot be too small or too large.
    """
    target = mask > 0
    total = np.count_nonzero(target)
    outside = np.copy(target)
    for box in boxes:
        outside[box.slices] = False
    held = total - np.count_nonzero(outside)
    if total == 0 or held < _MISSED * total:
        return ["box_misses_target"]
    if not are_bounds:
        return []
    found = []
    if held < (1 - _CUT) * total:
        found.append("box_cut_by_target")
    tight = Box.around(target)
    if tight is not None and tight.in_plane.voxels < _LOOSE * Box.union(boxes).in_plane.voxels:
        found.append("box_far_larger_than_target")
    return found
