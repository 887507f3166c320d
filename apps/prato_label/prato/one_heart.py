"""There is one heart in a box: what lies apart from it in a mask is no part of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from prato.box import Box
from prato.labels import STRUCTURES

#: Voxels that share a corner hang together; so do those on both sides of one slice without any, where an artefact has spoilt it.
_TOUCHING = np.ones((3, 3, 3), dtype=bool)
_OVER_A_SLICE = np.ones((1, 1, 3), dtype=bool)
#: Each of these is one cavity. The myocardium of a coarse stack may come in parts near the apex: they need only lie next to a structure.
_CAVITIES = tuple(value for name, value in STRUCTURES.items() if name.endswith("cavity"))
#: Share of the largest part below which a part in a box is taken for an island: a box may show little of the heart.
_ISLAND = 0.1


def one_heart(mask: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """``mask`` without islands: for each box one part of each cavity stays, and of all structures together one part.

    Args:
        mask: uint8 (X, Y, Z), values of ``prato.labels``.
        boxes: prompts in voxels, at least one. Each keeps the largest part that it touches, or, if that is an island, the largest of all.

    Returns:
        A new array of the same kind.
    """
    around = Box.around(mask)
    if around is None:
        return mask.copy()
    inner = mask[around.slices].copy()  # a small part of the image, as a rule
    inside = [tuple(slice(max(s.start - a, 0), max(s.stop - a, 0)) for s, a in zip(box.slices, around.start)) for box in boxes]
    for value in _CAVITIES:
        inner[(inner == value) & ~_kept(inner == value, inside, _OVER_A_SLICE)] = 0
    inner[~_kept(inner > 0, inside, _TOUCHING)] = 0
    out = np.zeros_like(mask)
    out[around.slices] = inner
    return out


def _kept(found: np.ndarray, inside: list[tuple[slice, ...]], bridge: np.ndarray) -> np.ndarray:
    """bool: the parts of ``found`` that stay; gaps that ``bridge`` spans from both sides part nothing."""
    parts, count = ndimage.label(ndimage.binary_dilation(found, bridge), _TOUCHING)
    if count < 2:
        return found
    parts[~found] = 0
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest, kept = sizes.argmax(), set()
    for place in inside:
        touched = np.unique(parts[place])
        best = touched[sizes[touched].argmax()] if len(touched) else 0
        kept.add(int(best if sizes[best] >= _ISLAND * sizes[largest] else largest))
    return np.isin(parts, list(kept))
