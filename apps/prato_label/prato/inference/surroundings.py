"""What lies round the heart hardly moves from phase to phase: an overview computes it for one phase of a cine, and remembers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prato.models.base import ImageEmbedding
from prato.models.overview import COARSE, OverviewMemory
from prato.pruning.plan import PruningPlan
from prato.runtime.region import Region

#: Tokens of the overview's transformer that are computed anew on all sides of what the first phase computed in detail.
_RIM = 1
#: Share of the slices from which computing them anew saves too little.
_MOST = 0.75
#: How much phases may differ beyond the heart, as 1 - r of their grey values at 16 pixels: ACDC's end-diastole and end-systole by less
#: than .02; moved by 10 mm, or with the slices in another order, by more than .07.
_UNLIKE = 0.05


@dataclass(frozen=True)
class Surroundings:
    """What the overview of ``network`` made of the slices ``planes`` of one phase: the heart is computed anew in others, and a rim.

    Attributes:
        values: of the slices at 16 pixels, (S, h, w).
    """

    network: Any
    plan: PruningPlan
    planes: tuple[int, ...]
    values: Tensor
    memory: OverviewMemory

    @classmethod
    def of(cls, network: Any, plan: PruningPlan, planes: Sequence[int], slices: Tensor) -> Surroundings | None:
        """Those of ``slices`` (S, H, W), named ``planes``; None where the heart takes up so much of them that little would be saved."""

        def choose(tokens: Tensor) -> Region:
            region: Region = network.choose_regions(tuple(slices.shape[1:]), tokens, [None], plan)[0].region
            return region.downscale(COARSE).dilate(_RIM)

        memory: OverviewMemory = network.remember_stacks(slices.unsqueeze(0), choose)
        values = F.avg_pool2d(slices, COARSE)
        return cls(network, plan, tuple(planes), values, memory) if memory.part.share <= _MOST else None

    def encode(self, planes: Sequence[int], slices: Tensor) -> ImageEmbedding | None:
        """What the overview makes of another phase, ``slices`` (S, H, W).

        None where it has to see all of it: other slices are asked for, they are not the same beyond the heart, or that may reach beyond
        what is computed anew.
        """
        if tuple(planes) != self.planes or not self.differ(F.avg_pool2d(slices, COARSE)) <= _UNLIKE:
            return None
        tokens: Tensor = self.network.update_stacks(slices.unsqueeze(0), self.memory)[0]
        anew = ImageEmbedding(0, {0: tokens[(slice(None), *self.memory.part.upscale().slices)]})
        return None if self._reaches_beyond(self.network.find_heart(anew, self.plan) > 0) else ImageEmbedding(0, {0: tokens})

    def differ(self, values: Tensor) -> float:
        """How much ``values`` (S, h, w) of another phase differ from this one's beyond what is computed anew: 1 - r, NaN for one value."""
        beyond = self.memory.part.outside(values.device)
        return float(1 - torch.corrcoef(torch.stack([phase[:, beyond].flatten() for phase in (self.values, values)]))[0, 1])

    def _reaches_beyond(self, kept: Tensor) -> bool:
        """Whether any of the tokens (S, h, w) that were computed anew is kept that lies next to remembered ones."""
        part, edges = self.memory.part, []
        for axis, (start, stop, size) in enumerate(zip(part.start, part.stop, part.size), 1):
            edges += [kept.select(axis, at) for at, has_neighbours in ((0, start > 0), (-1, stop < size)) if has_neighbours]
        return any(bool(edge.any()) for edge in edges)
