"""Pruned calls whose shapes are known before they are made, so that a GPU can be handed one as a whole, and again and again.

Which tokens leave is known on the device alone, and asking it costs more than all the work of a small network. How many leave is known
before, by a plan of percentages. So tokens are packed by counts that hang on plan and boxes alone (UNETR), or computed and masked within
a frame round the box (Swin UNETR, where how many windows keep a token is not known). The numbers are those of dropping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from monai.networks.blocks import TransformerBlock
from torch import Tensor

from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PruningPlan
from prato.pruning.prompted_pruning import PromptedPruning
from prato.pruning.tokens import run_block

#: Token counts that hang on the box are rounded up to multiples of this: other boxes can then be computed in the same shapes.
_BUCKET = 8


def fits(plan: PruningPlan, prompts: PromptBatch) -> bool:
    """Whether a call in evaluation with ``plan`` and ``prompts`` has shapes that are known before it."""
    return plan.mode == "drop" and plan.choose == "relevance" and plan.percentile is not None and prompts.is_one_each and prompts.batch > 0


@dataclass
class FixedPruning(PromptedPruning):
    """The pruning of a call in evaluation, whose ``prompts`` are one for each sample, in shapes that a network's ``shapes`` foretold."""

    shapes: tuple[Any, ...] = ()

    def kept(self, alive: Tensor) -> FixedTokens:
        return FixedTokens(alive, *self.shapes[len(self.stages)])


def token_counts(
    plan: PruningPlan, prompts: PromptBatch, grid: tuple[int, ...], image_size: tuple[int, ...]
) -> tuple[tuple[int, bool], ...]:
    """Before and after each pruning stage: how many tokens of a sample live at most, and whether that is how many live in each."""
    living = plan.start(prompts, grid, image_size).sum(1)
    held = plan.held(prompts, grid, image_size)
    least = torch.ones_like(living) if held is None else held.sum(1)
    bucketed = plan.margin is not None or plan.boxed
    counts = []
    for stage in range(len(plan.after) + 1):
        if stage:
            living = torch.maximum(plan.quota(living), least)
        most = int(living.max())
        counts.append((min(-(-most // _BUCKET) * _BUCKET, math.prod(grid)), False) if bucketed else (most, True))
    return tuple(counts)


class FixedTokens:
    """As ``prato.pruning.tokens.KeptTokens``, in a (B, count, C) tensor whose last rows, where a sample has fewer tokens alive, are
    idle."""

    def __init__(self, alive: Tensor, count: int, full: bool) -> None:
        """Args: alive: bool (B, Z), at least one and at most ``count`` a sample; exactly so many where it is ``full``."""
        # in the order of the grid, and then the dead
        self._places = alive.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :count].unsqueeze(2)
        self._real = None if full else torch.arange(count, device=alive.device) < alive.sum(1, keepdim=True)

    def gather(self, canvas: Tensor) -> Tensor:
        """(B, Z, C) -> (B, count, C)."""
        return canvas.gather(1, self._places.expand(-1, -1, canvas.shape[2]))

    def run(self, block: TransformerBlock, tokens: Tensor) -> Tensor:
        """One MONAI ``TransformerBlock``, without dropout."""
        return run_block(block, tokens, None if self._real is None else self._real[:, None, None])

    def scatter(self, canvas: Tensor, tokens: Tensor) -> Tensor:
        """``canvas`` with the living tokens replaced; a token that has left keeps the value it had."""
        if self._real is not None:
            tokens = torch.where(self._real.unsqueeze(2), tokens, self.gather(canvas).to(tokens.dtype))
        return canvas.scatter(1, self._places.expand(-1, -1, canvas.shape[2]), tokens.to(canvas.dtype))
