"""There is one heart in an image: small parts that lie apart from it in a mask are no part of it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from prato.data.structures import STRUCTURES
from prato.prompts.box import Box

#: Voxels that share a corner are connected.
_CONNECTIVITY = np.ones((3, 3, 3), dtype=bool)
#: Each of these is one cavity. The myocardium of a coarse stack may come in parts near the apex: they need only touch a structure.
_CAVITIES = tuple(value for name, value in STRUCTURES.items() if name.endswith("cavity"))
#: Share of the largest component's voxels below which another is removed: a slice that was missed in the middle may well part a heart in
#: two.
_MIN_SHARE = 0.3


def remove_small_components(mask: np.ndarray) -> np.ndarray:
    """``mask`` (uint8, X, Y, Z, values of ``prato.data.structures``) without the components of a cavity, or of all structures together,
    that are small beside the largest; a new array.

    MONAI's ``RemoveSmallObjects`` knows absolute sizes alone, and its ``KeepLargestConnectedComponent`` takes half of a heart in two parts.
    """
    around = Box.around(mask)
    if around is None:
        return np.copy(mask)
    out = np.copy(mask)  # in the same order of memory
    inner = out[around.slices].T  # a small part, as a rule; its longest axes last, which label goes along in less time
    for value in _CAVITIES:
        _clear_small(inner, inner == value)
    _clear_small(inner, inner > 0)
    return out


def _clear_small(mask: np.ndarray, selected: np.ndarray) -> None:
    """Make background, in ``mask``, of the components of ``selected`` that are small beside its largest."""
    labels, count = ndimage.label(selected, _CONNECTIVITY)
    if count > 1:
        sizes = np.bincount(labels.ravel())[1:]
        mask[np.isin(labels, np.flatnonzero(sizes < _MIN_SHARE * sizes.max()) + 1)] = 0
