"""The prompting conditions of the paper's Table VI, made from the expert label, seeded."""

from __future__ import annotations

import hashlib
from enum import Enum

import numpy as np

from prato.prompts.box import Box


class BoxCondition(str, Enum):
    """How well a box is drawn."""

    tight = "tight"
    oversized = "oversized"
    partial = "partial"
    misleading = "misleading"
    none = "none"


def seeded_rng(*words: str | int) -> np.random.Generator:
    """Random numbers that depend on ``words`` alone, in their order: a study's box is the same whichever others are measured with it."""
    digest = hashlib.sha256(":".join(map(str, words)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def perturb_box(tight: Box, shape: tuple[int, ...], condition: BoxCondition, rng: np.random.Generator, across: int = 2) -> Box | None:
    """The box that a labeller under ``condition`` draws round a target whose tight box is ``tight`` (voxels of an image of ``shape``), with
    its slices across the axis ``across``.

    oversized: each in-plane side 1.5 to 2 times as long, somewhere round the target. partial: half of the in-plane area, cut along one
    axis. misleading: as large as the tight box, beside it (in-plane overlap 0), as far as the image has room; the tight box where the
    target fills the image. none: None. Slices are the target's in every case. Clipped to the image.
    """
    if condition is BoxCondition.none:
        return None
    start, stop = list(tight.start), list(tight.stop)
    in_plane = [axis for axis in range(3) if axis != across]
    if condition is BoxCondition.oversized:
        for a in in_plane:
            extra = round(tight.size[a] * rng.uniform(0.5, 1.0))
            before = int(rng.integers(0, extra + 1))
            start[a], stop[a] = max(start[a] - before, 0), min(stop[a] + extra - before, shape[a])
    elif condition is BoxCondition.partial:
        a = in_plane[int(rng.integers(2))]
        half = max(1, round(tight.size[a] / 2))
        if rng.random() < 0.5:
            start[a] = stop[a] - half
        else:
            stop[a] = start[a] + half
    elif condition is BoxCondition.misleading:
        # the side with the most room, of the two axes and directions; there may be less room than the box is long
        room = {(a, d): (start[a] if d < 0 else shape[a] - stop[a]) for a in in_plane for d in (-1, 1)}
        ample = [side for side, free in room.items() if free >= tight.size[side[0]]] or [max(room, key=lambda side: room[side])]
        a, direction = ample[int(rng.integers(len(ample)))]
        length = min(tight.size[a], max(room[a, direction], 1))
        start[a], stop[a] = (start[a] - length, start[a]) if direction < 0 else (stop[a], stop[a] + length)
        start[a], stop[a] = max(start[a], 0), min(stop[a], shape[a])
        if stop[a] <= start[a]:
            return tight  # nowhere to go
    return Box(tuple(start), tuple(stop))
