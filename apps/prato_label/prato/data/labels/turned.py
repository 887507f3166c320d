"""Whether a label lies on its image mirrored or turned, as where a program reversed its voxels and left its header: no grid tells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.ndimage import find_objects

from prato.data.structures import STRUCTURES

#: By how much the mean DSC with a proposal must rise as a label is turned, and what it must reach then. In docs/results/turned_labels.csv
#: that of experts' labels always falls, by .23 at least, so that of a turned copy rises as much, and that of a copy that was put right is
#: .68 at least, also with the proposals of the worst network. A label a little beside the proposal gains less: a heart in the middle of an
#: image comes nearer to it, mirrored.
_RISE, _REACHED = 0.15, 0.6


@dataclass(frozen=True)
class Turn:
    """A way to turn a label about, in ``words``; its mean DSC with a proposal before and after it."""

    words: str
    before: float
    after: float


def find_turn(label: np.ndarray, proposal: np.ndarray, axis: int) -> Turn | None:
    """The way to turn ``label`` about that makes it like ``proposal``, where it is far less like it as it is; None for any other.

    Args:
        label, proposal: (X, Y, Z) or (X, Y, Z, T) of one shape, values of ``prato.data.structures``.
        axis: lies across the slices.
    """
    before, *others = agreements(label, proposal, axis)
    words, after = max(others, key=lambda found: found[1], default=("", 0.0))
    return Turn(words, before[1], after) if after >= max(_REACHED, before[1] + _RISE) else None


def agreements(label: np.ndarray, proposal: np.ndarray, axis: int) -> list[tuple[str, float]]:
    """The mean DSC, in 0..1, of ``label`` with ``proposal``, as it is ("") and turned about in every way, over the structures that either
    holds; 0 where they hold none."""
    held = (proposal > 0).any(3) if proposal.ndim == 4 else proposal > 0
    cut = next(iter(find_objects(held.view(np.uint8))), ())  # the rest of either holds nothing of both
    theirs = proposal[cut]
    total = {value: np.count_nonzero(label == value) + np.count_nonzero(theirs == value) for value in STRUCTURES.values()}
    found = []
    for words, turned in [("", label), *turns(label, axis)]:
        both = np.bincount(theirs[turned[cut] == theirs], minlength=max(total) + 1)
        found.append((words, float(np.mean([2 * both[value] / count for value, count in total.items() if count] or [0.0]))))
    return found


def turns(label: np.ndarray, axis: int) -> Iterator[tuple[str, np.ndarray]]:
    """Views of ``label`` turned about in every way that leaves its shape as it is, and what has to be done to it for that, in words."""
    rows, columns = sorted({0, 1, 2} - {axis})
    is_square = label.shape[rows] == label.shape[columns]
    for exchanged, *reversed_axes in product((False, True), repeat=4):
        along = [number for number, chosen in zip((rows, columns, axis), reversed_axes) if chosen]
        if (exchanged and not is_square) or not (exchanged or along) or any(label.shape[number] == 1 for number in along):
            continue
        turned = np.swapaxes(label, rows, columns) if exchanged else label
        words = [_in_plane(exchanged, rows in along, columns in along, "ijk"[rows], "ijk"[columns])]
        words += ["in reverse slice order"] * (axis in along)
        yield " and ".join(filter(None, words)), np.flip(turned, along)


def _in_plane(exchanged: bool, by_row: bool, by_column: bool, rows: str, columns: str) -> str:
    if exchanged:
        return "turned by a quarter" if by_row != by_column else "mirrored at a diagonal"
    if by_row and by_column:
        return "turned by half"
    return f"mirrored along {rows if by_row else columns}" if by_row or by_column else ""
