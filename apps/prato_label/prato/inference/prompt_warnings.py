"""What the labeller should know of prompts, given the mask that they are answered with."""

from __future__ import annotations

import numpy as np

from prato.prompts.box import Box

#: Share of the mask outside the box from which the box is said to cut the target.
_CUT = 0.03
#: Share of the box's area that the mask's own box fills in plane, below which the box is said to be far too large.
_LOOSE = 0.35
#: Share of the mask inside the box below which the box is said to miss the target.
_MISSED = 0.25


def search_warnings(source: str, mask: np.ndarray) -> list[str]:
    """What the labeller should know of where the heart was looked for, and whether it was found."""
    return ["whole_image"] * (source == "whole_image") + ["mask_is_empty"] * (not mask.any())


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
