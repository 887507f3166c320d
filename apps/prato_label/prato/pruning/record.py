"""What a call's pruning did: one record for each pruning stage, handed back with the logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class StageRecord:
    """What one pruning stage did.

    Attributes:
        name: for example "block 4" or "stage 2".
        grid: tokens along each axis.
        relevance: (B, Z).
        alive: bool (B, Z), the tokens that go on.
    """

    name: str
    grid: tuple[int, ...]
    relevance: Tensor
    alive: Tensor

    def select(self, samples: slice) -> StageRecord:
        """That of some samples of the batch alone."""
        return StageRecord(self.name, self.grid, self.relevance[samples], self.alive[samples])


@dataclass(frozen=True)
class PrunedOutput:
    """A forward call's logits (B, classes, *image) with the record of its pruning stages (empty when nothing was pruned)."""

    logits: Tensor
    stages: tuple[StageRecord, ...] = ()

    def kept_fraction(self) -> dict[str, Tensor]:
        """By stage, the share (B,) of the grid's tokens that go on."""
        return {stage.name: stage.alive.float().mean(1) for stage in self.stages}

    def token_map(self) -> Tensor:
        """(B, *image) in [0, 1]: share of the pruning stages that the token over each pixel survived; 1 where nothing was pruned."""
        size = tuple(self.logits.shape[2:])
        if not self.stages:
            return self.logits.new_ones(self.logits.shape[0], *size)
        maps = [F.interpolate(s.alive.float().view(-1, 1, *s.grid), size=size, mode="nearest")[:, 0] for s in self.stages]
        return torch.stack(maps).mean(0)
