"""Which part of a stack is computed in detail: the smallest rectangle round the tokens that its overview finds relevant."""

from __future__ import annotations

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
#: Pixels: sides of the region that is computed are no shorter.
SHORTEST = 96
#: Pixels of context that the region shows round the tokens that stay.
RIM = 4
#: Pixels round a slice's own tokens that are decoded with them.
SLICE_RIM = 2
#: A connected group of kept tokens smaller than this share of the largest one is an island.
ISLAND = 0.2


def prompted_box(prompts: PromptBatch | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """The box round all prompts that locate the heart, float32 (1, 2, 2) in pixels, and bool (1,), whether there are any."""
    places = [group.coordinates for group in prompts.groups if group.kind.locates] if prompts else []
    if not places:
        return torch.tensor([[[0.0, 0.0], [float(TOKEN), float(TOKEN)]]], device=device), torch.zeros(1, dtype=torch.bool, device=device)
    low = torch.stack([at.amin((0, 1)) for at in places]).amin(0)
    high = torch.stack([at.amax((0, 1)) for at in places]).amax(0)
    return torch.stack([low, high]).unsqueeze(0).to(device), torch.ones(1, dtype=torch.bool, device=device)


def relevant_tokens(relevance: Tensor, plan: PruningPlan) -> Tensor:
    """bool (S, h, w): the tokens whose sigmoid(relevance) is above the plan's threshold, but those in small islands: an island beside the
    heart would cost as much as the rectangle round both.
    """
    keep = torch.sigmoid(relevance) > (TAU if plan.threshold is None else plan.threshold)
    islands, count = ndimage.label(keep.cpu().numpy(), np.ones((3, 3, 3)))
    if count > 1:
        sizes = np.bincount(islands.ravel())
        sizes[0] = 0
        keep &= torch.from_numpy(np.isin(islands, np.flatnonzero(sizes >= ISLAND * sizes.max()))).to(keep.device)
    return keep


def computed_region(keep: Tensor, size: tuple[int, ...], step: int, share: float = 0.0) -> Region:
    """The pixels of an image of ``size`` that are computed: round the kept tokens (S, h, w) of all slices, with a rim, on the token grid.

    Args:
        step: pixels that the region's sides are multiples of, as far as the image reaches.
        share: of the image's tokens that the region holds at least; it grows on all sides until it does.
    """
    kept = Region.from_mask(keep)
    while kept.share < share:
        kept = kept.dilate(1)
    start, stop = [], []
    for a, b, n in zip(kept.start, kept.stop, size):
        low, high = max(a * TOKEN - RIM, 0), min(b * TOKEN + RIM, n)
        length = min(max(SHORTEST, -(-(high - low) // step) * step), n)
        first = round(((low + high) / 2 - length / 2) / TOKEN) * TOKEN
        start.append(min(max(first, 0), (n - length) // TOKEN * TOKEN))
        stop.append(min(start[-1] + length, n))
    return Region(tuple(start), tuple(stop), size)


def kept_in_slices(keep: Tensor, region: Region) -> Tensor:
    """bool (S, h, w): the smallest rectangle of each slice that holds the tokens to ``keep``, as far as ``region`` (pixels) reaches."""
    reached = torch.zeros_like(keep[0])
    reached[token_slices(region)] = True
    return _between(keep.any(2)).unsqueeze(2) & _between(keep.any(1)).unsqueeze(1) & reached


def _between(marked: Tensor) -> Tensor:
    """bool (S, n): the places from the first to the last that is ``marked``."""
    count = marked.shape[1]
    places = torch.arange(count, device=marked.device)
    first, last = torch.where(marked, places, count).amin(1, keepdim=True), torch.where(marked, places, -1).amax(1, keepdim=True)
    return (first <= places) & (places <= last)


def decoded_parts(region: Region, stages: tuple[StageRecord, ...], count: int) -> list[Region]:
    """Of each of ``count`` slices, the part of ``region`` (pixels) that is decoded, on a grid of its own: the rectangle of its tokens that
    are alive in ``stages``, with a rim; without stages all, without such tokens a part of no pixels.
    """
    cells, parts = region.cells, []
    if not stages:
        return [Region.whole(cells)] * count
    alive = stages[-1].alive.view(count, *stages[-1].grid)[(slice(None), *token_slices(region))].cpu()
    for own in alive:
        kept = Region.from_mask(own.unsqueeze(0)).upscale(TOKEN).dilate(SLICE_RIM) if bool(own.any()) else Region.empty(cells)
        parts.append(kept)
    return parts


def fine_region(part: Region, reach: int) -> Region:
    """``part`` with ``reach`` pixels more on all sides, grown to sides of whole multiples of 16, so that few shapes occur.

    It lies on the grid of features of 4 pixels, as sides of the grid are multiples of 16 do.
    """
    region = part.dilate(reach).align((4, 4))
    start, stop = [], []
    for a, b, n in zip(region.start, region.stop, region.size):
        length = min(-(-(b - a) // 16) * 16, n)
        start.append(min(a, n - length))
        stop.append(start[-1] + length)
    return Region(tuple(start), tuple(stop), region.size)


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


def cut_features(features: Tensor, region: Region) -> Tensor:
    """``features`` (K, C, h, w) of slices in ``region`` (pixels), whatever their resolution."""
    scale = region.size[0] // features.shape[2]
    rows, columns = region.downscale(scale).slices
    return features[:, :, rows, columns].contiguous(memory_format=torch.channels_last)


def cut_tokens(tokens: Tensor, corner: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, S, H, W, C) -> (B, S, *grid, C), from ``corner`` (B, 2) on."""
    rows = corner[:, :1] + torch.arange(grid[0], device=corner.device)
    columns = corner[:, 1:] + torch.arange(grid[1], device=corner.device)
    batch = torch.arange(len(tokens), device=corner.device)[:, None, None]
    return tokens.permute(0, 2, 3, 1, 4)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2, 4)
