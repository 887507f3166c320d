"""Which part of a stack is computed in detail: the smallest rectangle round the tokens that its overview finds relevant."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from prato.models.overview import TOKEN
from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PruningPlan
from prato.runtime.region import Region

#: Tokens that the overview finds less relevant than tau leave (arXiv 2506.16369, eq. 5).
TAU = 0.1
#: A token belongs to the box that is proposed if it is heart more likely than not.
LIKELY = 0.5
#: Pixels: sides of the region that is computed are no shorter.
SHORTEST = 96
#: Pixels of context that the region shows round the tokens that stay.
RIM = 4
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
    return _without_islands(torch.sigmoid(relevance) > (TAU if plan.threshold is None else plan.threshold))


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


def token_slices(region: Region) -> tuple[slice, ...]:
    """What cuts the tokens of ``region`` (pixels) from their grid."""
    return tuple(slice(a // TOKEN, -(-b // TOKEN)) for a, b in zip(region.start, region.stop))
