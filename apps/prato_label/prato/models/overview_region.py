"""Which part of a stack is computed in detail: the smallest rectangle round the tokens that its overview finds relevant."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from prato.models.overview import TOKEN
from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PruningPlan
from prato.pruning.record import StageRecord
from prato.runtime.region import Region

#: Tokens that the overview finds less relevant than tau leave (arXiv 2506.16369, eq. 5).
TAU = 0.1
#: In a slice, tokens that reach this share of tau are decoded, too: in images of another contrast the overview sees less of the heart.
DECODED = 0.5
#: A token belongs to the box that is proposed if it is heart more likely than not.
LIKELY = 0.5
#: Pixels: sides of the region that is computed are no shorter.
SHORTEST = 96
#: A connected group of kept tokens smaller than this share of the largest one is an island.
ISLAND = 0.2


class ChosenRegion(NamedTuple):
    """What is computed in detail of the slices of a stack.

    Attributes:
        region: in pixels, where all of them are encoded.
        decoded: of each slice, the tokens of ``region`` that are decoded, too.
        stages: the record of what was pruned; empty without pruning.
    """

    region: Region
    decoded: tuple[Region, ...]
    stages: tuple[StageRecord, ...]

    @classmethod
    def whole(cls, size: tuple[int, ...], slices: int) -> ChosenRegion:
        """All of ``slices`` slices of ``size`` pixels."""
        return cls(region := Region.whole(size), (Region.whole(token_grid(region)),) * slices, ())


def prompted_box(prompts: PromptBatch | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """The box round all prompts that locate the heart, float32 (1, 2, 2) in pixels, and bool (1,), whether there are any."""
    places = [group.coordinates for group in prompts.groups if group.kind.locates] if prompts else []
    if not places:
        return torch.tensor([[[0.0, 0.0], [float(TOKEN), float(TOKEN)]]], device=device), torch.zeros(1, dtype=torch.bool, device=device)
    low = torch.stack([at.amin((0, 1)) for at in places]).amin(0)
    high = torch.stack([at.amax((0, 1)) for at in places]).amax(0)
    return torch.stack([low, high]).unsqueeze(0).to(device), torch.ones(1, dtype=torch.bool, device=device)


def relevant_tokens(relevance: Tensor, plan: PruningPlan, share: float = 1.0) -> Tensor:
    """bool (S, h, w): the tokens whose sigmoid(relevance) is above ``share`` of the plan's threshold, but those in small islands: an island
    beside the heart would cost as much as the rectangle round both.
    """
    return _without_islands(torch.sigmoid(relevance) > share * (TAU if plan.threshold is None else plan.threshold))


def _without_islands(keep: Tensor) -> Tensor:
    islands, count = ndimage.label(keep.cpu().numpy(), np.ones((3, 3, 3)))
    if count < 2:
        return keep
    sizes = np.bincount(islands.ravel())
    sizes[0] = 0
    return keep & torch.from_numpy(np.isin(islands, np.flatnonzero(sizes >= ISLAND * sizes.max()))).to(keep.device)


def heart_region(found: Tensor) -> tuple[range, Region]:
    """The slices, and the tokens of the grid, in which the heart lies as far as is seen.

    From the first to the last slice of which a token stays, as a slice that is left out is lost. In plane round those that are heart more
    likely than not: all that stay reach farther than the heart does, sometimes by far.

    Args:
        found: (S, h, w), the probability of each token that stays, 0 of those that leave; one stays at least.
    """
    planes = found.flatten(1).any(1).nonzero().flatten().tolist()
    likely = _without_islands(found > LIKELY)
    return range(planes[0], planes[-1] + 1), Region.from_mask(likely if bool(likely.any()) else found > 0)


def computed_region(keep: Tensor, size: tuple[int, ...], step: int, share: float = 0.0) -> Region:
    """The pixels of an image of ``size`` that are computed: round the kept tokens (S, h, w) of all slices, on the token grid.

    Args:
        step: pixels that the region's sides are multiples of, as far as the image reaches.
        share: of the image's tokens that the region holds at least; it grows on all sides until it does.
    """
    kept = Region.from_mask(keep)
    while kept.share < share:
        kept = kept.dilate(1)
    start, stop = [], []
    for a, b, n in zip(kept.start, kept.stop, size):
        low, high = a * TOKEN, b * TOKEN
        length = min(max(SHORTEST, -(-(high - low) // step) * step), n)
        first = round(((low + high) / 2 - length / 2) / TOKEN) * TOKEN
        start.append(min(max(first, 0), (n - length) // TOKEN * TOKEN))
        stop.append(min(start[-1] + length, n))
    return Region(tuple(start), tuple(stop), size)


def decoded_tokens(near: Tensor, region: Region) -> tuple[Region, ...]:
    """Of each slice, the tokens of ``region`` (pixels) that are decoded: a rectangle round what is ``near`` the heart there and next to it.

    All of them where neither the slice nor a neighbour has any, beyond the heart: it was asked for.

    Args:
        near: bool (S, h, w), of the whole slices.
    """
    inside, everything = near[(slice(None), *token_slices(region))], Region.whole(token_grid(region))
    seen = [inside[max(k - 1, 0) : k + 2] for k in range(len(inside))]
    return tuple(Region.from_mask(cells) if bool(cells.any()) else everything for cells in seen)


def token_grid(region: Region) -> tuple[int, ...]:
    """How many tokens ``region`` (pixels) has along each axis."""
    return tuple(-(-n // TOKEN) for n in region.cells)


def token_slices(region: Region) -> tuple[slice, ...]:
    """What cuts the tokens of ``region`` (pixels) from their grid."""
    return tuple(slice(a // TOKEN, -(-b // TOKEN)) for a, b in zip(region.start, region.stop))


def cut_window(slices: Tensor, region: Region, multiple: int) -> Tensor:
    """``slices`` (K, channels, H, W) in ``region``, with rows and columns added until the sides are multiples of so many pixels."""
    window = slices[(slice(None), slice(None), *region.slices)]
    beyond = [-n % multiple for n in region.cells]
    if any(beyond):
        window = F.pad(window, (0, beyond[1], 0, beyond[0]), value=-1.0)
    return window.contiguous(memory_format=torch.channels_last)


def cut_place(level: Tensor, place: Region) -> Tensor:
    """``level`` (K, C, *grid), of the same resolution as ``place`` or finer, at that place."""
    return level[(slice(None), slice(None), *place.upscale(level.shape[2] // place.size[0]).slices)]


def cut_tokens(tokens: Tensor, corner: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, S, H, W, C) -> (B, S, *grid, C), from ``corner`` (B, 2) on."""
    rows = corner[:, :1] + torch.arange(grid[0], device=corner.device)
    columns = corner[:, 1:] + torch.arange(grid[1], device=corner.device)
    batch = torch.arange(len(tokens), device=corner.device)[:, None, None]
    return tokens.permute(0, 2, 3, 1, 4)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2, 4)
