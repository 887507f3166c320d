"""Boxes of voxels: half-open bounds in the stored image's own index order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import index

import numpy as np


class PromptError(ValueError):
    """A prompt that cannot be used; the message is one sentence fit to be shown to the person who drew it."""


@dataclass(frozen=True)
class Box:
    """Axis-aligned box ``[start, stop)`` per axis, in voxels of the stored image (no orientation, no spacing).

    ``start`` and ``stop`` are integer tuples of equal length: 2 for an image plane, 3 for a volume (i, j, k). ``stop`` is exclusive, so
    ``array[box.slices]`` is the boxed region and ``stop - start`` its size in voxels.

    Raises:
        PromptError: lengths differ or are not 2 or 3, some are no whole numbers, or some ``stop`` is not above its ``start``.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        try:
            for end in ("start", "stop"):  # integers of numpy and torch become Python's own, which JSON knows
                object.__setattr__(self, end, tuple(map(index, getattr(self, end))))
        except TypeError:
            raise PromptError(f"A box needs whole voxels as start and stop, not {self.start} and {self.stop}.") from None
        if len(self.start) != len(self.stop) or len(self.start) not in (2, 3):
            raise PromptError(f"A box needs 2 or 3 axes with a start and a stop each, not {self.start} and {self.stop}.")
        if any(b <= a for a, b in zip(self.start, self.stop)):
            raise PromptError(f"A box needs start < stop on every axis, not {list(self.bounds)}: draw a box that holds at least one voxel.")

    @classmethod
    def from_bounds(cls, bounds: Sequence[float], shape: Sequence[int]) -> Box:
        """Read ``[i0, i1, j0, j1(, k0, k1)]`` as a client sends it, against the ``shape`` (voxels) of the image it was drawn on.

        Reversed axes are sorted, fractions are widened to whole voxels, the box is clipped to the image, and an axis of zero thickness
        grows to the one voxel it lies in.

        Raises:
            PromptError: wrong length, not numbers, NaN or infinite, area of zero (two or more axes without thickness), or nothing inside.
        """
        n = 2 * len(shape)
        names = ",".join(f"{a}{s}" for a in "ijk"[: len(shape)] for s in "01")
        if isinstance(bounds, (str, bytes)) or not isinstance(bounds, (Sequence, np.ndarray)) or len(bounds) != n:
            raise PromptError(f"roi must be {n} voxel bounds [{names}], not {_shown(bounds)}.")
        try:
            values = [float(v) for v in bounds if not isinstance(v, (bool, str, bytes))]
        except (TypeError, ValueError, OverflowError):  # the last of whole numbers that are larger than any float
            values = []
        if len(values) != n or not all(math.isfinite(v) for v in values):
            raise PromptError(f"roi must be {n} finite numbers [{names}], not {_shown(bounds)}.")
        pairs = [sorted(values[2 * a : 2 * a + 2]) for a in range(len(shape))]
        if sum(lo == hi for lo, hi in pairs) > 1:
            raise PromptError(f"roi {_shown(bounds)} has no area: draw a box with a width and a height of at least one voxel.")
        start, stop = [], []
        for (lo, hi), size in zip(pairs, shape):
            a, b = math.floor(lo), math.ceil(hi)
            if a == b:
                b = a + 1
            if b <= 0 or a >= size:
                raise PromptError(
                    f"roi {_shown(bounds)} lies outside the image of {'x'.join(map(str, shape))} voxels: give bounds within it."
                )
            start.append(max(a, 0))
            stop.append(min(b, size))
        return cls(tuple(start), tuple(stop))

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Box:
        """The box that holds the whole image of ``shape`` voxels."""
        return cls((0,) * len(shape), tuple(int(s) for s in shape))

    @classmethod
    def around(cls, mask: np.ndarray) -> Box | None:
        """The tight box round the non-zero voxels of ``mask`` (2D or 3D); None where there are none."""
        if not mask.any():
            return None
        start, stop = [], []
        for axis in range(mask.ndim):
            hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
            start.append(int(hit[0]))
            stop.append(int(hit[-1]) + 1)
        return cls(tuple(start), tuple(stop))

    @classmethod
    def union(cls, boxes: Iterable[Box]) -> Box:
        """The smallest box that holds all of ``boxes`` (at least one)."""
        boxes = list(boxes)
        return cls(
            tuple(min(v) for v in zip(*(b.start for b in boxes))),
            tuple(max(v) for v in zip(*(b.stop for b in boxes))),
        )

    @property
    def bounds(self) -> tuple[int, ...]:
        """``(i0, i1, j0, j1(, k0, k1))``, as on the wire."""
        return tuple(v for pair in zip(self.start, self.stop) for v in pair)

    @property
    def size(self) -> tuple[int, ...]:
        """Edge lengths in voxels."""
        return tuple(b - a for a, b in zip(self.start, self.stop))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Index that cuts the box out of an array."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop))

    @property
    def in_plane(self) -> Box:
        """The box without its third axis."""
        return Box(self.start[:2], self.stop[:2])

    def rearrange(self, axes: Sequence[int], steps: Sequence[int], shape: Sequence[int]) -> Box:
        """The box on the image of ``shape`` whose axis ``n`` is this one's axis ``axes[n]``, reversed where ``steps[n]`` is -1."""
        start, stop = [], []
        for axis, step, count in zip(axes, steps, shape):
            first, end = self.start[axis], self.stop[axis]
            start.append(first if step > 0 else count - end)
            stop.append(end if step > 0 else count - first)
        return Box(tuple(start), tuple(stop))

    def intersection(self, other: Box) -> Box | None:
        """What both boxes hold; None where they do not meet."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start))
        stop = tuple(min(a, b) for a, b in zip(self.stop, other.stop))
        return Box(start, stop) if all(b > a for a, b in zip(start, stop)) else None

    @property
    def voxels(self) -> int:
        """Number of voxels inside."""
        return math.prod(self.size)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
