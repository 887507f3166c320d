"""The prompts of a whole batch on a network's input: what a network is given, whatever kinds of prompts it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from prato.prompts.base import Prompt
from prato.runtime.region import Region


class PixelGrid(NamedTuple):
    """Where an image lies on a network's input, for each axis of the input.

    Attributes:
        axes: which axis of the image lies along it.
        scale: pixels a voxel; negative where it runs the other way.
        corner: the pixel at which the input begins, counted from the first voxel's outer edge.
    """

    axes: tuple[int, ...]
    scale: tuple[float, ...]
    corner: tuple[int, ...]


@dataclass(frozen=True)
class PromptGroup:
    """N prompts of one ``kind``: float32 ``coordinates`` (N, P, D) in pixels of the input, and int64 ``sample`` (N,), whose they are."""

    kind: type[Prompt]
    coordinates: Tensor
    sample: Tensor


@dataclass(frozen=True)
class PromptBatch:
    """All prompts of a batch.

    Attributes:
        groups: the prompts, by their kind and number of positions. A sample that is in none of them has no prompt.
        batch: number of samples.
        size: of the network's input in pixels, D numbers.
        is_one_each: whether every sample has exactly one prompt, all of one kind and in the samples' order. What is computed with such a
            batch asks the device for nothing, so that it can be captured.
    """

    groups: tuple[PromptGroup, ...]
    batch: int
    size: tuple[int, ...]
    is_one_each: bool = False

    @classmethod
    def from_voxels(cls, per_sample: Sequence[Sequence[Prompt]], size: Sequence[int], grid: PixelGrid) -> PromptBatch:
        """From each sample's prompts as they were drawn, none for "no prompt": the one way from an image's voxels to a network's pixels.

        Args:
            size: of the input in pixels. grid: where the image lies on it.
        """
        along = list(zip(*grid))
        placed = [
            [(type(prompt), [[at[axis] * s - c for axis, s, c in along] for at in prompt.coordinates]) for prompt in prompts]
            for prompts in per_sample
        ]
        return cls.from_pixels(placed, size)

    @classmethod
    def from_pixels(cls, per_sample: Sequence[Sequence[tuple[type[Prompt], Any]]], size: Sequence[int]) -> PromptBatch:
        """From each sample's prompts as kind and (P, D) positions in pixels of the input; clipped to it, each as its kind has it.

        Raises:
            ValueError: positions that are not finite, or of another number of axes than ``size``.
        """
        size = tuple(int(n) for n in size)
        found: dict[tuple[type[Prompt], int], tuple[list[Tensor], list[int]]] = {}
        for index, prompts in enumerate(per_sample):
            for kind, positions in prompts:
                coordinates = torch.as_tensor(positions, dtype=torch.float32)
                if coordinates.ndim != 2 or coordinates.shape[1] != len(size):
                    raise ValueError(f"A prompt here has positions on {len(size)} axes, not shape {tuple(coordinates.shape)}.")
                if not torch.isfinite(coordinates).all():
                    raise ValueError("A prompt must be finite numbers; NaN or infinity was given.")
                clipped = kind.clip(coordinates, size)
                if clipped is not None:
                    rows, owners = found.setdefault((kind, len(clipped)), ([], []))
                    rows.append(clipped)
                    owners.append(index)
        groups = tuple(PromptGroup(kind, torch.stack(rows), torch.tensor(owners)) for (kind, _), (rows, owners) in found.items())
        one_each = [owners for _, owners in found.values()] == [list(range(len(per_sample)))]
        return cls(groups, len(per_sample), size, one_each)

    @classmethod
    def of(cls, kind: type[Prompt], per_sample: Sequence[Sequence[Any]], size: Sequence[int]) -> PromptBatch:
        """Prompts of one ``kind``, each (P, D) positions in pixels of the input; as :meth:`from_pixels`."""
        return cls.from_pixels([[(kind, positions) for positions in prompts] for prompts in per_sample], size)

    @classmethod
    def one_each(cls, kind: type[Prompt], coordinates: Tensor, size: tuple[int, ...]) -> PromptBatch:
        """The prompts ``coordinates`` (B, P, D), in pixels of the input, one for each sample."""
        count = len(coordinates)
        return cls((PromptGroup(kind, coordinates, torch.arange(count, device=coordinates.device)),), count, size, True)

    @classmethod
    def empty(cls, batch: int, size: Sequence[int]) -> PromptBatch:
        """A batch without any prompt."""
        return cls((), batch, tuple(size))

    @property
    def is_empty(self) -> bool:
        """Whether no sample has a prompt."""
        return not self.groups

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.groups[0].coordinates.device if self.groups else torch.device("cpu")

    @property
    def prompted(self) -> Tensor:
        """bool (batch,): which samples have a prompt."""
        if self.is_one_each:
            return torch.ones(self.batch, dtype=torch.bool, device=self.device)
        hit = torch.zeros(self.batch, dtype=torch.bool, device=self.device)
        for group in self.groups:
            hit[group.sample] = True
        return hit

    @property
    def seed(self) -> int:
        """A number that follows from the prompts, and from nothing else."""
        return int(sum(group.coordinates.double().sum().item() for group in self.groups) * 1000) % 2**31

    def to(self, device: torch.device) -> PromptBatch:
        """The same prompts on ``device``."""
        moved = tuple(PromptGroup(group.kind, group.coordinates.to(device), group.sample.to(device)) for group in self.groups)
        return PromptBatch(moved, self.batch, self.size, self.is_one_each)

    def crop(self, corner: tuple[int, ...], size: tuple[int, ...]) -> PromptBatch:
        """The same prompts on the part of the input that begins at pixel ``corner`` and has ``size`` pixels."""
        moved = tuple(
            PromptGroup(g.kind, torch.stack([g.coordinates[..., axis] - a for axis, a in enumerate(corner)], dim=-1), g.sample)
            for g in self.groups
        )
        return PromptBatch(moved, self.batch, size, self.is_one_each)

    def queries(self, features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """What relevance is measured against.

        Args:
            features: (B, C, *grid) over the whole input.
            k: how finely a prompt is sampled, along each axis.

        Returns:
            (B, M, C), padded where a sample has fewer queries than others, and bool (B, M), which of them are real.
        """
        parts = []
        for group in self.groups:
            # no tensor made of numbers: a GPU would be waited for
            scales = [n / pixels for n, pixels in zip(features.shape[2:], self.size)]
            cells = torch.stack([group.coordinates[..., axis] * scale for axis, scale in enumerate(scales)], dim=-1)
            queries = group.kind.queries(features, cells.to(features.dtype), group.sample, k)
            if self.is_one_each:
                return queries, torch.ones(queries.shape[:2], dtype=torch.bool, device=queries.device)
            parts.append(_by_sample(queries, group.sample, self.batch))
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return features.new_zeros(self.batch, 1, features.shape[1]), torch.zeros(
                self.batch, 1, dtype=torch.bool, device=features.device
            )
        return torch.cat([queries for queries, _ in parts], dim=1), torch.cat([valid for _, valid in parts], dim=1)

    def protected(self, grid: tuple[int, ...], margin: float = 0.0) -> Tensor:
        """bool (batch, Z): tokens of ``grid`` that a prompt of their sample touches, or comes within ``margin`` pixels of."""
        hits = [group.kind.protected(group.coordinates, self.size, grid, margin) for group in self.groups]
        if self.is_one_each:
            return hits[0].flatten(1)
        touched = torch.zeros(self.batch, *grid, dtype=torch.int32, device=self.device)
        for group, hit in zip(self.groups, hits):
            touched.index_add_(0, group.sample, hit.int())
        return (touched > 0).flatten(1)

    def pinned(self, grid: tuple[int, ...]) -> Tensor:
        """bool (batch, Z): tokens of ``grid`` that a prompt touches which does not locate the heart, but knows what is there."""
        clicks = tuple(group for group in self.groups if not group.kind.locates)
        return PromptBatch(clicks, self.batch, self.size).protected(grid)

    def footprint(self, grid: tuple[int, ...], margin: float = 0.0) -> Region:
        """The smallest region of ``grid`` that holds every prompt of the batch, at least one, and ``margin`` pixels round it."""
        first, *others = (group.kind.footprint(group.coordinates, self.size, grid, margin) for group in self.groups)
        for other in others:
            first = first.union(other.start, other.stop)
        return first

    def guidance(self) -> Tensor | None:
        """float32 (batch, channels, *size): the prompts as input channels, zeros for a sample without any; None for no such picture."""
        pictures = [(g.sample, g.kind.guidance(g.coordinates, self.size)) for g in self.groups]
        channels = []
        for sample, picture in pictures:
            if picture is not None:
                index = sample.view(-1, *(1,) * (picture.ndim - 1)).expand_as(picture)
                canvas = picture.new_zeros(self.batch, *picture.shape[1:])
                channels.append(canvas.scatter_reduce(0, index, picture, "amax"))
        return torch.cat(channels, dim=1) if channels else None


def _by_sample(regions: Tensor, sample: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """(N, m, C) queries of all prompts -> (B, M, C) of each sample, padded, and bool (B, M) which are real."""
    per_prompt, dim = regions.shape[1:]
    counts = torch.bincount(sample, minlength=batch)
    most = max(int(counts.max()), 1) if batch else 1
    queries = regions.new_zeros(batch, most, per_prompt, dim)
    valid = torch.zeros(batch, most, dtype=torch.bool, device=regions.device)
    order = sample.argsort(stable=True)
    owner = sample[order]
    slot = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[owner]
    queries = queries.index_put((owner, slot), regions[order])
    valid[owner, slot] = True
    return queries.flatten(1, 2), valid.repeat_interleave(per_prompt, dim=1)
