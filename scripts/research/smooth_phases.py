"""A segmented heartbeat without its flicker: contours move smoothly from phase to phase, as the heart does.

Each phase is segmented by itself, so that a voxel at a contour is one structure now, another in the next phase, and the first again. A mean
over neighbouring phases would stop that, and would make the ventricle too large at end-systole, where it is smallest. Here the in-plane
distance of each voxel to every contour is fitted over five phases by a parabola (Savitzky and Golay), which follows a contour that
turns round. A slice that holds a structure in some of the five phases alone is fitted in these, for a valve plane passes a slice at once.
docs/measured/cines.md says what was compared and measured.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import convolve1d
from scipy.signal import savgol_coeffs

from prato.data.distances import signed_distances
from prato.data.structures import NUM_CLASSES
from prato.inference.postprocess import remove_small_components
from prato.prompts.box import Box

#: Phases that a parabola is fitted to.
_WINDOW = 5
#: In fewer phases the heart does more between two of them than a parabola can follow.
_FEW_PHASES = 10
#: mm beyond which it does not matter how far a contour is.
_REACH_MM = 8.0


def smooth_phases(masks: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """``masks`` of a cine, smooth in time; a new array, without the components that are small beside the largest.

    Args:
        masks: uint8 (X, Y, Z, T), values of ``prato.data.structures``, slices along Z: all phases of one cycle, whose last one is followed
            by its first. A cine of fewer than 10 phases, or with one that holds no heart, stays as it is.
        spacing: voxel size in mm along X and Y.
    """
    smoothed = np.copy(masks)
    around = Box.around((masks > 0).any(-1))
    if around is None or masks.shape[-1] < _FEW_PHASES or not (masks > 0).any((0, 1, 2)).all():
        return smoothed
    # beyond one voxel round the heart there is nothing but background in any phase
    part = tuple(slice(max(a - 1, 0), b + 1) for a, b in zip(around.start[:2], around.stop[:2]))
    inner = _fit(_without_blinks(masks[part]), spacing)
    for t in range(masks.shape[-1]):
        smoothed[..., t] = 0
        smoothed[(*part, slice(None), t)] = remove_small_components(inner[..., t])
    return smoothed


def _without_blinks(masks: np.ndarray) -> np.ndarray:
    """``masks`` in which no structure is in a slice, or missing from it, for one phase alone: it is as in the phase before."""
    holds = np.stack([(masks == value).any((0, 1)) for value in range(1, NUM_CLASSES)])  # (structure, Z, T)
    before, after = np.roll(holds, 1, -1), np.roll(holds, -1, -1)
    blinks = ((before == after) & (holds != before)).any(0)
    return np.where(blinks, np.roll(masks, 1, -1), masks)


def _fit(masks: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """uint8, shaped like ``masks``: the class in which each voxel lies deepest, by parabolas through its depths in neighbouring phases."""
    distances, weights = signed_distances(masks, spacing, _REACH_MM), savgol_coeffs(_WINDOW, 2)
    fitted = convolve1d(distances, weights, axis=-1, mode="wrap")
    holds = np.stack([(masks == value).any((0, 1)) for value in range(NUM_CLASSES)])  # (class, Z, T)
    for value, k in zip(*np.nonzero(holds.any(-1) & ~holds.all(-1))):
        depth, here = distances[value, :, :, k], holds[value, k]
        beside = [
            np.where(np.roll(here, step) == here, np.roll(depth, step, -1), depth) for step in range(-(_WINDOW // 2), _WINDOW // 2 + 1)
        ]
        fitted[value, :, :, k] = np.tensordot(weights, beside, 1)
    return fitted.argmax(0).astype(np.uint8)
