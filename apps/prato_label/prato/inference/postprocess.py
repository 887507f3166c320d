"""There is one heart in an image: small parts that lie apart from it in a mask are no part of it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from prato.data.structures import STRUCTURES
from prato.prompts.box import Box

#: Voxels that share a corner hang together.
_TOUCHING = np.ones((3, 3, 3), dtype=bool)
#: Each of these is one cavity. The myocardium of a coarse stack may come in parts near the apex: they need only touch a structure.
_CAVITIES = tuple(value for name, value in STRUCTURES.items() if name.endswith("cavity"))
#: Share of the largest part's voxels below which another is an island: a slice that was missed in the middle may well part a heart in two.
_ISLAND = 0.3


def one_heart(mask: np.ndarray) -> np.ndarray:
    """``mask`` (uint8, X, Y, Z, values of ``prato.data.structures``) without islands of a cavity, or of all structures together; a new
    array."""
    around = Box.around(mask)
    if around is None:
        return np.copy(mask)
    out = np.copy(mask)  # in the same order of memory
    inner = out[around.slices].T  # a small part, as a rule; its longest axes last, which label goes along in less time
    for value in _CAVITIES:
        _clear_islands(inner, inner == value)
    _clear_islands(inner, inner > 0)
    return out


def _clear_islands(mask: np.ndarray, found: np.ndarray) -> None:
    """Make background, in ``mask``, of the parts of ``found`` that are small beside its largest."""
    parts, count = ndimage.label(found, _TOUCHING)
    if count > 1:
        sizes = np.bincount(parts.ravel())[1:]
        mask[np.isin(parts, np.flatnonzero(sizes < _ISLAND * sizes.max()) + 1)] = 0
