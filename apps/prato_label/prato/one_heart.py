"""There is one heart in a box: what lies apart from it in a mask is no part of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from prato.box import Box
from prato.labels import STRUCTURES

#: Voxels that share a corner hang together.
_TOUCHING = np.ones((3, 3, 3), dtype=bool)
#: Each of these is one cavity. The myocardium of a coarse stack may come in parts near the apex: they need only touch a structure.
_CAVITIES = tuple(value for name, value in STRUCTURES.items() if name.endswith("cavity"))


def one_heart(mask: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """``mask`` without islands: one part of each cavity stays, and of all structures together one part.

    Args:
        mask: uint8 (X, Y, Z), values of ``prato.labels``.
        boxes: prompts in voxels. The largest part stays, wherever it lies: a box may show little of the heart. Of several boxes each
            keeps, besides, the largest part that it touches.

    Returns:
        A new array of the same kind.
    """
    around = Box.around(mask)
    if around is None:
        return mask.copy()
    inner = mask[around.slices].copy()  # a small part of the image, as a rule
    inside = [tuple(slice(max(s.start - a, 0), max(s.stop - a, 0)) for s, a in zip(box.slices, around.start)) for box in boxes]
    for value in _CAVITIES:
        inner[(inner == value) & ~_kept(inner == value, inside)] = 0
    inner[~_kept(inner > 0, inside)] = 0
    out = np.zeros_like(mask)
    out[around.slices] = inner
    return out


def _kept(found: np.ndarray, inside: list[tuple[slice, ...]]) -> np.ndarray:
    """bool: the connected parts of ``found`` that stay."""
    parts, count = ndimage.label(found, _TOUCHING)
    if count < 2:
        return found
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    touched = [np.unique(parts[place]) for place in inside] if len(inside) > 1 else []
    return np.isin(parts, [sizes.argmax(), *(names[sizes[names].argmax()] for names in touched if names.any())])
