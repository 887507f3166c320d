"""What a labeller points at, as the refiner sees it: channels of a crop round a stroke."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from prato.data.structures import NUM_CLASSES
from prato.refinement.geometry import geometry

#: Pixels of the network over which the trace of a stroke fades.
FADE = 3.0
#: The channel that is the new stroke's trace.
NEWEST = 3 + 2 * NUM_CLASSES
#: Pixels at the border of a crop over which changes fade to nothing: a crop leaves no seam.
RIM = 8
#: Scores that are about the same.
ABOUT = 0.125
#: What the mask so far counts against the refiner's changes: scores of its class, in logits.
TRUST = 3.0


def trace(places: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """float32 ``shape``: 1 at ``places`` int (n, 2), less with the distance from them; those beyond the picture count for nothing."""
    inside = places[((places >= 0) & (places < shape)).all(1)]
    if not len(inside):
        return np.zeros(shape, np.float32)
    away = np.ones(shape, bool)
    away[tuple(inside.T)] = False
    return np.exp(-0.5 * (ndimage.distance_transform_edt(away) / FADE) ** 2).astype(np.float32)


def alike(grey: np.ndarray, mask: np.ndarray, scores: np.ndarray, newest: tuple[int, np.ndarray] | None) -> np.ndarray:
    """float32 (3, h, w): how much brighter each pixel is than the new stroke, how much likelier of its structure, and 1 where a connected
    part of what is about as likely reaches the stroke; arguments as for :func:`refiner_input`."""
    found = np.zeros((3, *mask.shape), np.float32)
    if newest is None:
        return found
    structure, places = newest
    at = tuple(places[((places >= 0) & (places < mask.shape)).all(1)].T)
    if not len(at[0]):
        return found
    found[0] = np.clip(2 * (grey - grey[at].mean()), -1, 1)
    if scores.any():
        likely = scores[structure] - scores[structure][at].mean()
        found[1] = np.clip(2 * likely, -1, 1)
        parts, _ = ndimage.label((likely >= -ABOUT) & (mask != structure), np.ones((3, 3)))
        near = np.unique(parts[at])
        found[2] = np.isin(parts, near[near > 0])
    return found


def refiner_input(
    image: np.ndarray,
    mask: np.ndarray,
    strokes: Sequence[tuple[int, np.ndarray]],
    newest: tuple[int, np.ndarray] | None,
    certain: np.ndarray,
    neighbours: Sequence[np.ndarray | None],
    scores: np.ndarray | None,
) -> np.ndarray:
    """float32 (INPUTS, h, w): what :class:`~prato.models.click_refiner.ClickRefiner` is given of a crop of h x w pixels.

    Args:
        image: float32 (3, h, w) in [-1, 1], the slice between its neighbours. mask: uint8 (h, w), so far.
        strokes: class and int (n, 2) places in the crop, of all strokes so far. newest: the one that is new, if any is.
        certain: bool (h, w), where the mask is right.
        neighbours: uint8 (h, w), the masks of the slices before and after; None unless right.
        scores: float32 (classes, h, w) in 0..1, what the network thought of the slice; None where that is not known.
    """
    shape = (mask.shape[0], mask.shape[1])
    classes = np.arange(NUM_CLASSES)[:, None, None]
    traces = np.zeros((NUM_CLASSES, *shape), np.float32)
    for structure in {structure for structure, _ in strokes}:
        traces[structure] = trace(np.concatenate([places for value, places in strokes if value == structure]), shape)
    new = np.zeros(shape, np.float32) if newest is None else trace(newest[1], shape)
    beside = [np.zeros((NUM_CLASSES, *shape)) if other is None else other == classes for other in neighbours]
    thought = np.zeros((NUM_CLASSES, *shape), np.float32) if scores is None else scores
    known = [image, mask == classes, traces, new[None], certain[None], *beside, thought]
    told = [alike(image[1], mask, thought, newest), geometry(image[1], mask, thought, newest)]
    return np.concatenate([*known, *told]).astype(np.float32)


def fading(shape: tuple[int, int]) -> np.ndarray:
    """float32 ``shape``: 1 inside, less over the last RIM pixels, nearly 0 at the border."""
    lines = [np.minimum(1, (np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) / RIM) for n in shape]
    return np.minimum(lines[0][:, None], lines[1][None]).astype(np.float32)


def keep_touching(before: np.ndarray, after: np.ndarray, places: np.ndarray, reach: float) -> np.ndarray:
    """``after``, but as ``before`` wherever a connected part of what changed comes nowhere within ``reach`` cells of ``places``.

    Args:
        before, after: uint8 (h, w). places: int (n, 2), on the same grid.
    """
    changed = before != after
    if not changed.any():
        return after
    away = np.ones(before.shape, bool)
    away[tuple(places.T)] = False
    parts, _ = ndimage.label(changed, np.ones((3, 3)))
    near = np.unique(parts[ndimage.distance_transform_edt(away) <= reach])
    return np.where(np.isin(parts, near[near > 0]), after, before)
