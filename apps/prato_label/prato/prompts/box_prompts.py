"""Box prompts of a whole batch, as tensors on the network's input grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from prato.prompts.box import Box


@dataclass(frozen=True)
class BoxPrompts:
    """All boxes of a batch, flattened: sample ``sample[n]`` is prompted by ``boxes[n]``.

    Attributes:
        boxes: float32 (N, 2, D): start and stop (half-open) in pixels of the network input, D = 2 or 3.
        sample: int64 (N,): index of the sample in the batch.
        batch: number of samples; a sample that no box points to has no prompt.
    """

    boxes: Tensor
    sample: Tensor
    batch: int

    @classmethod
    def build(cls, per_sample: Sequence[Sequence[Box | Sequence[Sequence[float]]]], image_size: Sequence[int]) -> BoxPrompts:
        """Gather the prompts of a batch.

        Args:
            per_sample: for each sample its boxes, each a ``Box`` or ``((start per axis), (stop per axis))`` in input pixels; an empty
                sequence means "no prompt".
            image_size: input size in pixels, D numbers. Boxes are clipped to it.

        A box with less than one pixel inside the image counts as no box; one without thickness on a single axis is kept (RoIAlign samples
        it at one place).

        Raises:
            ValueError: a coordinate is NaN or infinite, or a box has another number of axes than ``image_size``.
        """
        dims = len(image_size)
        rows, owner = [], []
        for index, boxes in enumerate(per_sample):
            for box in boxes:
                corners = torch.as_tensor((box.start, box.stop) if isinstance(box, Box) else box, dtype=torch.float32)
                if corners.shape != (2, dims):
                    raise ValueError(f"A box prompt here has {dims} axes with a start and a stop each, not shape {tuple(corners.shape)}.")
                if not torch.isfinite(corners).all():
                    raise ValueError("A box prompt must be finite numbers; NaN or infinity was given.")
                start, stop = corners.amin(0), corners.amax(0)
                limit = torch.tensor(list(image_size), dtype=torch.float32)
                thin = start == stop
                clipped = torch.stack((start.clamp_min(0.0), torch.minimum(stop, limit)))
                size = clipped[1] - clipped[0]
                outside = (size < 0) | ((size == 0) & ~thin) | (thin & (start >= limit))
                if outside.any() or thin.sum() > 1 or size.masked_fill(thin, 1.0).prod() < 1.0:
                    continue
                rows.append(clipped)
                owner.append(index)
        stacked = torch.stack(rows) if rows else torch.zeros(0, 2, dims)
        return cls(stacked, torch.tensor(owner, dtype=torch.int64), len(per_sample))

    @classmethod
    def none(cls, batch: int, dims: int) -> BoxPrompts:
        """A batch without any prompt."""
        return cls(torch.zeros(0, 2, dims), torch.zeros(0, dtype=torch.int64), batch)

    def to(self, device: torch.device) -> BoxPrompts:
        """The same prompts on ``device``."""
        return BoxPrompts(self.boxes.to(device), self.sample.to(device), self.batch)

    def seen_from(self, corner: tuple[int, ...]) -> BoxPrompts:
        """The same prompts on a part of the input that begins at pixel ``corner``."""
        return BoxPrompts(self.boxes - torch.tensor(corner, dtype=self.boxes.dtype, device=self.boxes.device), self.sample, self.batch)

    @property
    def prompted(self) -> Tensor:
        """bool (batch,): which samples have a prompt."""
        hit = torch.zeros(self.batch, dtype=torch.bool, device=self.boxes.device)
        hit[self.sample] = True
        return hit

    @cached_property
    def each_has_one(self) -> bool:
        """Whether every sample has exactly one box, and they come in the samples' order."""
        return self.sample.tolist() == list(range(self.batch))

    @cached_property
    def corners(self) -> list[list[list[float]]]:
        """The boxes as numbers."""
        corners: list[list[list[float]]] = self.boxes.tolist()
        return corners

    def cells(self, grid: tuple[int, ...], image_size: tuple[int, ...], margin: float) -> list[tuple[slice, ...]]:
        """For each box, where on ``grid`` over ``image_size`` pixels tokens come within ``margin`` pixels of it."""
        token = [size / count for size, count in zip(image_size, grid)]
        return [
            tuple(
                slice(min(max(math.floor((a - margin) / t), 0), n), min(max(math.ceil((b + margin) / t), 0), n))
                for a, b, t, n in zip(*corners, token, grid)
            )
            for corners in self.corners
        ]

    def touched(self, grid: tuple[int, ...], image_size: tuple[int, ...], margin: float) -> Tensor:
        """bool (batch, Z): tokens of ``grid`` over ``image_size`` pixels that come within ``margin`` pixels of a box of their sample."""
        hits = torch.zeros(self.batch, *grid, dtype=torch.bool, device=self.boxes.device)
        owners: dict[tuple[tuple[int, int], ...], list[int]] = {}
        for sample, where in zip(self.sample.tolist(), self.cells(grid, image_size, margin)):
            owners.setdefault(tuple((part.start, part.stop) for part in where), []).append(sample)
        for bounds, samples in owners.items():  # slices of a stack mostly share their box
            some = slice(None) if len(set(samples)) == self.batch else samples
            hits[(some, *(slice(*part) for part in bounds))] = True
        return hits.flatten(1)
