"""The pruning of one forward call: what an encoder asks at every stage, whatever the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prato.prompts.batch import PromptBatch
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

    def start(self, grid: tuple[int, ...]) -> Tensor:
        """bool (B, Z): the tokens of ``grid`` that the first block sees."""
        return self.plan.start(self.prompts, grid)

    def first_gate(self, alive: Tensor, dtype: torch.dtype) -> Tensor | None:
        """``alive`` as numbers; None when tokens are dropped, not gated, and when every token lives, so that blocks may run as they are."""
        return alive.to(dtype) if self.is_relaxed and not bool(alive.all()) else None

    def score(self, number: int, tokens: Tensor, grid: tuple[int, ...], alive: Tensor, frame: Region | None = None) -> Tensor:
        """(B, Z): what the tokens of ``grid`` are ranked by at stage ``number``: their relevance, or numbers drawn at random.

        Args:
            tokens: (B, N, C), those of ``frame``. alive: bool (B, N).
            frame: the part of ``grid`` that they lie in, all of it for None; what lies outside gets a relevance of 0.
        """
        plan, prompts = self.plan, self.prompts
        frame = frame or Region.whole(grid)
        if not frame.is_whole:
            token = [s // g for s, g in zip(self.image_size, grid)]
            corner, pixels = (tuple(a * t for a, t in zip(cells, token)) for cells in (frame.start, frame.cells))
            prompts = prompts.crop(corner, pixels)
        # also where tokens are ranked at random: what is compared is the choice, at the same cost
        relevance = self.relevance[str(number)](tokens, frame.cells, prompts, plan.k, alive, plan.weights)
        score = frame.place(relevance.unflatten(1, frame.cells)).flatten(1)
        if plan.score_by == "relevance":
            return score
        # the same for the same prompts
        source = torch.Generator().manual_seed(self.prompts.seed)
        return torch.randn(score.shape, generator=source).to(score)

    def prune(self, name: str, grid: tuple[int, ...], score: Tensor, alive: Tensor) -> StageRecord:
        """Let the tokens of ``grid`` with the highest ``score`` (B, Z) among the ``alive`` (B, Z) go on."""
        protected = self.plan.protected(self.prompts, grid)
        self.stages.append(StageRecord(name, grid, score, self.plan.select(score, alive, self.prompts.prompted, protected)))
        return self.stages[-1]

    def gate(self, score: Tensor, keep: Tensor, before: Tensor, gate: Tensor | None) -> Tensor | None:
        """The gate after a stage: its 0/1 mask with a gradient to its ``score``, times the ``gate`` of stages before.

        Args:
            score: (B, Z). keep: bool (B, Z), the tokens that stay. before: bool (B, Z), those that lived until then.

        Returns:
            None where tokens are dropped, not gated.
        """
        if not self.is_relaxed:
            return None
        soft = straight_through_mask(score, keep, before, self.plan.threshold, self.plan.temperature)
        return soft if gate is None else gate * soft

    def buffer(self, alive: Tensor, gate: Tensor | None) -> TokenBuffer:
        """The tokens that are ``alive`` (bool, B, Z), to run transformer blocks on; made once at the start and once after every stage."""
        if self.is_relaxed:
            return GatedTokens(gate, self.is_masking)
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
