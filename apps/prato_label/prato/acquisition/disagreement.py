"""Masks of one image that hang on where exactly the box was drawn are masks that the model is not sure of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from prato.data.structures import STRUCTURES
from prato.prompts.box import Box


def jittered(box: Box, shape: Sequence[int], fixed: int, share: float, count: int, seed: int) -> list[Box]:
    """``count`` boxes like ``box``, each bound moved by up to ``share`` of the edge, clipped to an image of ``shape`` voxels.

    Args:
        fixed: the axis along which nothing moves: that of the slices.
    """
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        start, stop = list(box.start), list(box.stop)
        for axis in (a for a in range(len(shape)) if a != fixed):
            low, high = (round(float(move) * box.size[axis]) for move in rng.uniform(-share, share, 2))
            start[axis] = min(max(start[axis] + low, 0), shape[axis] - 1)
            stop[axis] = min(max(stop[axis] + high, start[axis] + 1), shape[axis])
        made.append(Box(tuple(start), tuple(stop)))
    return made


def disagreement(masks: Sequence[np.ndarray]) -> float:
    """1 - the mean Dice of all pairs of ``masks`` (at least two; uint8 of one shape, values of ``prato.data.structures``).

    The Dice of a pair is the mean over the structures that at least one of the two holds; 1 where both are empty.
    """
    return 1.0 - float(np.mean([_dice(one, two) for one, two in combinations(masks, 2)]))


def _dice(one: np.ndarray, two: np.ndarray) -> float:
    found = []
    for value in STRUCTURES.values():
        ours, theirs = one == value, two == value
        both = int(ours.sum()) + int(theirs.sum())
        if both:
            found.append(2.0 * int((ours & theirs).sum()) / both)
    return float(np.mean(found)) if found else 1.0
