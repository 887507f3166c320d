"""A rectangular part of a grid: where there is work, and what is decoded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Region:
    """Half-open bounds on a grid of ``size`` cells along each axis (2 or 3 axes)."""

    start: tuple[int, ...]
    stop: tuple[int, ...]
    size: tuple[int, ...]

    @classmethod
    def whole(cls, size: tuple[int, ...]) -> Region:
        """All of a grid."""
        return cls((0,) * len(size), size, size)

    @classmethod
    def from_mask(cls, cells: Tensor) -> Region:
        """The smallest that holds all cells that are True in bool (B, *grid), in any sample; there is one at least."""
        low, high = torch.stack(torch.aminmax(cells.any(0).nonzero(), dim=0)).tolist()
        return cls(tuple(low), tuple(n + 1 for n in high), tuple(cells.shape[1:]))

    def dilate(self, cells: int) -> Region:
        """With a rim of ``cells``, as far as the grid reaches; beyond it, dense decoding pads with zeros just as well."""
        start = tuple(max(a - cells, 0) for a in self.start)
        return Region(start, tuple(min(b + cells, n) for b, n in zip(self.stop, self.size)), self.size)

    def align(self, steps: tuple[int, ...]) -> Region:
        """Grown until it begins and ends at multiples of ``steps``, as far as the grid reaches."""
        start = tuple(a // s * s for a, s in zip(self.start, steps))
        return Region(start, tuple(min(-(-b // s) * s, n) for b, s, n in zip(self.stop, steps, self.size)), self.size)

    def union(self, start: tuple[int, ...], stop: tuple[int, ...]) -> Region:
        """The smallest that holds it and what lies between ``start`` and ``stop``."""
        return Region(tuple(map(min, self.start, start)), tuple(map(max, self.stop, stop)), self.size)

    def outside(self, device: torch.device) -> Tensor:
        """bool (*size): the cells that do not belong to it."""
        cells = torch.ones(self.size, dtype=torch.bool, device=device)
        cells[self.slices] = False
        return cells

    def relative_to(self, outer: Region) -> Region:
        """The same place on a grid of the cells of ``outer``, which holds it."""
        start, stop = (tuple(a - b for a, b in zip(bounds, outer.start)) for bounds in (self.start, self.stop))
        return Region(start, stop, outer.cells)

    def downscale(self, factor: int = 2) -> Region:
        """The cells that cover it on a grid ``factor`` times as coarse."""
        start, stop = tuple(a // factor for a in self.start), tuple(-(-b // factor) for b in self.stop)
        return Region(start, stop, tuple(n // factor for n in self.size))

    def upscale(self, factor: int = 2) -> Region:
        """The same place on a grid ``factor`` times as fine."""
        return Region(*(tuple(factor * n for n in bounds) for bounds in (self.start, self.stop, self.size)))

    def cut(self, values: Tensor) -> Tensor:
        """``values`` (B, *size, ...) of its cells alone, (B, *cells, ...), in the same memory."""
        return values[(slice(None), *self.slices)]

    def paste(self, values: Tensor, canvas: Tensor) -> Tensor:
        """``canvas`` (B, *size, ...), which stays as it is, with ``values`` (B, *cells, ...) in its cells."""
        if self.is_whole:
            return values
        canvas = canvas.clone()
        self.cut(canvas).copy_(values)
        return canvas

    def place(self, values: Tensor) -> Tensor:
        """``values`` (B, *cells) of its cells on the whole grid, (B, *size), 0 elsewhere."""
        return values if self.is_whole else self.paste(values, values.new_zeros(values.shape[0], *self.size))

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the grid."""
        return self == Region.whole(self.size)

    @property
    def cells(self) -> tuple[int, ...]:
        """Its length along each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop))

    @property
    def slices(self) -> tuple[slice, ...]:
        """What cuts it from the grid."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop))

    @property
    def share(self) -> float:
        """Part of the grid's cells, 0..1."""
        share = 1.0
        for a, b, n in zip(self.start, self.stop, self.size):
            share *= (b - a) / n
        return share
