"""Where each pixel lies as seen from a click: how far from it and from the contours of the mask, and what lies between.

A click in the middle of a wrong part says how thick that part is: the contour of its structure lies about twice as far out there as
the click does, and less beyond. Networks of small kernels learn that slowly from pictures, and a perceptron learns it at once from these.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from prato.data.structures import NUM_CLASSES
from prato.models.click_refiner import PLACED

#: Pixels that count as far from a contour, from the click, and along a contour.
_CONTOUR, _FAR, _ALONG = 10.0, 40.0, 20.0
#: Pixels of a structure that is large.
_LARGE = 1000.0


def geometry(grey: np.ndarray, mask: np.ndarray, scores: np.ndarray, newest: tuple[int, np.ndarray] | None) -> np.ndarray:
    """float32 (PLACED, h, w), of the order of 1; first the new stroke's structure, one-hot. All is 0 where no stroke is new.

    Args:
        grey: float32 (h, w). mask: uint8 (h, w). scores: float32 (classes, h, w) in 0..1, or zeros.
        newest: class and int (n, 2) places of the new stroke.
    """
    shape = (mask.shape[0], mask.shape[1])
    found = np.zeros((PLACED, *shape), np.float32)
    if newest is None:
        return found
    structure, places = newest
    at = tuple(places[((places >= 0) & (places < shape)).all(1)].T)
    if not len(at[0]):
        return found
    classes = np.arange(NUM_CLASSES)
    there = int(np.bincount(mask[at], minlength=NUM_CLASSES).argmax())
    inside, wanted = mask == there, mask == structure
    outward, nearest = _distance(wanted)
    depth, _ = _distance(~inside)
    click = np.zeros(shape, bool)
    click[at] = True
    away, stroke = _distance(click)
    along = np.hypot(*(nearest - nearest[:, stroke[0], stroke[1]]))  # between the contour's pixels next to this one and to the stroke
    out0, smooth = outward[at].mean(), ndimage.gaussian_filter(grey, 1.0)
    likely, gap = scores[structure] - scores.max(0), scores[structure] - scores[there]
    slope = np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)) / 4
    lines = [
        away / _FAR, outward / _CONTOUR, out0 / _CONTOUR, np.minimum(outward / (out0 + 1), 4) / 2, depth / _CONTOUR,
        depth[at].mean() / _CONTOUR, along / _ALONG, np.minimum(along / (out0 + 1), 8) / 4, likely, likely[at].mean(), gap, gap[at].mean(),
        np.clip(gap - gap[at].mean(), -1, 1), grey, grey - grey[at].mean(), smooth - smooth[at].mean(),
        np.abs(smooth - smooth[at].mean()), slope, np.sqrt(inside.sum() / _LARGE), np.sqrt(wanted.sum() / _LARGE),
    ]  # fmt: skip
    known = [(classes == structure)[:, None, None], (classes == there)[:, None, None], mask == classes[:, None, None], scores]
    found[: 4 * NUM_CLASSES] = np.concatenate([np.broadcast_to(each, (NUM_CLASSES, *shape)) for each in known])
    for number, line in enumerate(lines, 4 * NUM_CLASSES):
        found[number] = np.minimum(line, 4.0)
    return found


def _distance(where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels from each pixel to the nearest in ``where``, and which that is, int (2, h, w); _FAR and the pixel itself if there is none."""
    if not where.any():
        return np.full(where.shape, _FAR), np.indices(where.shape)
    found, nearest = ndimage.distance_transform_edt(~where, return_indices=True)
    return found, nearest
