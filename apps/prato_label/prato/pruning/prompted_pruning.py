"""The pruning of one forward call: what an encoder asks at every stage, whatever the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prato.prompts.batch import PromptBatch
from prato.pruning.living import LivingTokens
from prato.pruning.plan import PruningPlan
from prato.pruning.record import StageRecord
from prato.pruning.straight_through import straight_through_mask
from prato.pruning.tokens import GatedTokens, PackedTokens, PaddedTokens, TokenBuffer
from prato.runtime.region import Region


@dataclass
class PromptedPruning:
    """Scores tokens, prunes them, and keeps the records.

    Raises:
        KeyError: the plan prunes at a stage that the network has no relevance projections for.

    Attributes:
        relevance: a network's projections by stage number.
        plan: what to prune. prompts: of the batch. image_size: pixels along each axis of the network's input.
        training: whether a gradient is wanted.
        shapes: the network's static shapes for this plan and these prompts; None to compute no more than what is alive.
        stages: what was done so far.
    """

    relevance: nn.ModuleDict
    plan: PruningPlan
    prompts: PromptBatch
    image_size: tuple[int, ...]
    training: bool = False
    shapes: tuple[Any, ...] | None = None
    stages: list[StageRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number in self.plan.prune_after:
            self.relevance[str(number)]  # raises now, not in the middle of the blocks

    @property
    def is_masking(self) -> bool:
        """Whether tokens that leave are multiplied by 0 and stay in the computation, as in the paper's eq. 5."""
        return self.plan.mode == "mask"

    @property
    def is_relaxed(self) -> bool:
        """Whether every token is computed, and those that leave are gated."""
        return self.training or self.is_masking

    def start(self, grid: tuple[int, ...], dtype: torch.dtype) -> LivingTokens:
        """The tokens of ``grid`` that the first block sees; a gate is of ``dtype``."""
        alive = self.plan.start(self.prompts, grid).view(-1, *grid)
        return LivingTokens(alive, alive.to(dtype) if self.is_relaxed and not bool(alive.all()) else None)

    def score(self, number: int, tokens: Tensor, living: LivingTokens, frame: Region | None = None) -> Tensor:
        """(B, *grid): what tokens are ranked by at stage ``number``: their relevance, or numbers drawn at random.

        Args:
            tokens: (B, N, C) or (B, *cells, C), those of ``frame``.
            frame: the part of the grid that all living tokens lie in; what lies outside gets a relevance of 0. None for the whole grid.
        """
        plan, prompts = self.plan, self.prompts
        frame = frame or Region.whole(living.grid)
        if not frame.is_whole:
            token = [s // g for s, g in zip(self.image_size, living.grid)]
            corner, pixels = (tuple(a * t for a, t in zip(cells, token)) for cells in (frame.start, frame.cells))
            prompts = prompts.crop(corner, pixels)
        # also where tokens are ranked at random: what is compared is the choice, at the same cost
        alive = frame.cut(living.alive).flatten(1)
        relevance = self.relevance[str(number)](tokens.flatten(1, -2), frame.cells, prompts, plan.k, alive, plan.weights)
        score = frame.place(relevance.unflatten(1, frame.cells))
        if plan.score_by == "relevance":
            return score
        # the same for the same prompts
        source = torch.Generator().manual_seed(self.prompts.seed)
        return torch.randn(score.flatten(1).shape, generator=source).to(score).view_as(score)

    def prune(self, score: Tensor, living: LivingTokens, frame: Region | None = None) -> LivingTokens:
        """The ``living`` tokens with the highest ``score`` (B, *grid), or those that the prompts protect.

        Args:
            frame: as for :meth:`score`; None, too, while :attr:`is_relaxed`.
        """
        frame = frame or Region.whole(living.grid)
        protected = self.plan.protected(self.prompts, living.grid)
        protected = None if protected is None else frame.cut(protected.view_as(living.alive)).flatten(1)
        rank, alive = frame.cut(score).flatten(1), frame.cut(living.alive).flatten(1)
        keep = self.plan.select(rank, alive, self.prompts.prompted, protected)
        gate = None
        if self.is_relaxed:
            gate = straight_through_mask(rank, keep, alive, self.plan.threshold, self.plan.temperature).view_as(living.alive)
            gate = gate if living.gate is None else living.gate * gate
        return LivingTokens(frame.place(keep.unflatten(1, frame.cells)), gate)

    def record(self, name: str, score: Tensor, living: LivingTokens) -> None:
        """Keep what a stage did: the ``score`` (B, *grid) that it ranked tokens by, and those that go on."""
        self.stages.append(StageRecord(name, living.grid, score.flatten(1), living.alive.flatten(1)))

    def mask(self, x: Tensor, living: LivingTokens) -> Tensor:
        """``x`` (B, *grid, C) as the plan's mode "mask" has it, beta * Y of eq. 5; the same ``x`` in any other mode."""
        return x * living.gate.unsqueeze(-1) if self.is_masking and living.gate is not None else x

    def buffer(self, living: LivingTokens) -> TokenBuffer:
        """The ``living`` tokens, to run transformer blocks on; made once at the start and once after the record of every stage."""
        if self.is_relaxed:
            return GatedTokens(None if living.gate is None else living.gate.flatten(1), self.is_masking)
        alive = living.alive.flatten(1)
        return PackedTokens(alive) if self.shapes is None else PaddedTokens(alive, *self.shapes[len(self.stages)])

    def decoded_region(self) -> Region:
        """The part of the image to decode, once all stages have pruned: all of it, or as the plan's ``decode`` has it the smallest that
        holds every prompt and every token that the last stage kept, in any sample of the batch."""
        if self.training or self.plan.decode == "all":
            return Region.whole(self.image_size)
        last = self.stages[-1]
        kept = Region.from_mask(last.alive.unflatten(1, last.grid))
        token = [n // g for n, g in zip(self.image_size, last.grid)]
        start, stop = (tuple(a * t for a, t in zip(ends, token)) for ends in (kept.start, kept.stop))
        return self.prompts.footprint(self.image_size).union(start, stop)
