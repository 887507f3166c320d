"""A simulated labeller, who sees where a mask is wrong and points there, not always accurately."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from prato.data.structures import NUM_CLASSES

#: Pixels by which a hand that draws shakes, and along the stroke between its swings.
_SHAKE, _SWING = 0.5, 4.0
_CONNECTED = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Manner:
    """How a labeller points.

    Attributes:
        middle: share of the clicks in the middle of the wrong part; others lie anywhere in it.
        largest: share of those in the largest part; others in any, the larger ones more often.
        missed: share of the clicks that lie up to ``miss`` pixels beside the part. wrong: share that name any structure.
        scribbles: share that are scribbles.
    """

    middle: float = 1.0
    largest: float = 1.0
    missed: float = 0.0
    miss: int = 3
    wrong: float = 0.0
    scribbles: float = 0.0


#: The one who is trained with, the one who takes care, and the one who does not.
LEARNING = Manner(middle=0.5, largest=0.7, missed=0.1, wrong=0.03, scribbles=0.2)
CAREFUL, CARELESS = Manner(), Manner(middle=0.0, largest=0.5, missed=0.3, wrong=0.05)
#: The one who draws along what is wrong.
SCRIBBLING = Manner(scribbles=1.0)


def wrong_parts(mask: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected parts of one slice that should be one structure and are not: int (h, w), 0 where all is right; their sizes by number."""
    numbers, first = np.zeros(mask.shape, np.int32), 0
    wrong = mask != truth
    if wrong.any():
        for structure in range(NUM_CLASSES):
            parts, count = ndimage.label(wrong & (truth == structure), _CONNECTED)
            numbers[parts > 0] = parts[parts > 0] + first
            first += count
    sizes = np.bincount(numbers.ravel(), minlength=first + 1)
    sizes[0] = 0
    return numbers, sizes


def point_at(
    numbers: np.ndarray, sizes: np.ndarray, truth: np.ndarray, manner: Manner, random: np.random.Generator
) -> tuple[int, np.ndarray]:
    """A stroke on one of the :func:`wrong_parts`, of which there is one at least: its structure, and int (n, 2) pixels."""
    number = int(sizes.argmax()) if random.random() < manner.largest else int(random.choice(len(sizes), p=sizes / sizes.sum()))
    part = numbers == number
    inside = np.argwhere(part)
    structure = int(truth[tuple(inside[0])])
    if random.random() < manner.scribbles and len(inside) > 8:
        return structure, _scribble(inside, random)
    place = middle_of(part) if random.random() < manner.middle else inside[random.integers(len(inside))]
    if random.random() < manner.missed:
        place = np.clip(place + random.integers(-manner.miss, manner.miss + 1, 2), 0, np.array(part.shape) - 1)
    if random.random() < manner.wrong:
        structure = int(random.integers(NUM_CLASSES))
    return structure, place[None]


def middle_of(part: np.ndarray) -> np.ndarray:
    """int (2,): the pixel of ``part``, bool (h, w), that lies farthest from its rim."""
    bounds = ndimage.find_objects(part)[0]
    depth = ndimage.distance_transform_edt(np.pad(part[bounds], 1))[1:-1, 1:-1]
    place = np.array(np.unravel_index(int(depth.argmax()), depth.shape))
    return place + [side.start for side in bounds]


def _scribble(inside: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A freehand stroke through the middle of a part, along its longer axis: int (n, 2), each pixel once. The hand shakes by _SHAKE
    pixels, and now and then leaves the part."""
    centred = inside - inside.mean(0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    pieces = np.array_split(np.argsort(along), max(2, int(np.ptp(along) / _SWING)))
    knots = np.array([inside[piece].mean(0) for piece in pieces]) + random.normal(0, _SHAKE, (len(pieces), 2))
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(knots, axis=0).T))])
    at = np.arange(0, lengths[-1] + 0.5, 0.5)
    line = np.stack([np.interp(at, lengths, side) for side in knots.T], 1)
    return np.asarray(np.unique(np.rint(line).astype(int).clip(inside.min(0), inside.max(0)), axis=0))
