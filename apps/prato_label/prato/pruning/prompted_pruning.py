"""The pruning of one forward call: what a network's blocks ask at every stage, whatever the network."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PruningPlan, StageRecord
from prato.pruning.tokens import KeptTokens, LivingTokens
from prato.runtime.region import Region


@dataclass
class PromptedPruning:
    """Scores tokens, prunes them, and keeps the records.

    Raises:
        KeyError: the plan prunes at a stage that the network has no relevance projections for.

    Attributes:
        relevance: a network's projections by stage number.
        plan: what to prune. prompts: the boxes. image_size: pixels along each axis of the network's input.
        stages: what was done so far.
    """

    relevance: nn.ModuleDict
    plan: PruningPlan
    prompts: PromptBatch
    image_size: tuple[int, ...]
    stages: list[StageRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number in self.plan.after:
            self.relevance[str(number)]

    def start(self, grid: tuple[int, ...]) -> Tensor:
        """bool (B, Z): the tokens of ``grid`` that the first block sees."""
        return self.plan.start(self.prompts, grid, self.image_size)

    def score(self, number: int, tokens: Tensor, grid: tuple[int, ...], alive: Tensor) -> Tensor:
        """(B, Z): what ``tokens`` (B, Z, C) are ranked by at stage ``number``; ``alive`` is bool (B, Z)."""
        plan = self.plan
        relevance = self.relevance[str(number)](tokens, grid, self.image_size, self.prompts, plan.k, alive, plan.weights)
        return plan.scores(relevance, self.prompts)

    def prune(self, name: str, grid: tuple[int, ...], score: Tensor, alive: Tensor) -> StageRecord:
        """Let the tokens of ``grid`` with the highest ``score`` (B, Z) among the ``alive`` (B, Z) go on."""
        held = self.plan.held(self.prompts, grid, self.image_size)
        self.stages.append(StageRecord(name, grid, score, self.plan.select(score, alive, self.prompts.prompted, held)))
        return self.stages[-1]

    def kept(self, alive: Tensor) -> LivingTokens:
        """The tokens that are ``alive`` (bool, B, Z), to run blocks on; asked for once at the start and once after every stage."""
        return KeptTokens(alive)

    def gate(self, record: StageRecord, before: Tensor, gate: Tensor | None) -> Tensor:
        """The 0/1 mask of ``record`` with a gradient to its score, times the ``gate`` of stages before; ``before`` is who lived then."""
        soft = self.plan.straight_through(record.relevance, record.alive, before)
        return soft if gate is None else gate * soft

    def decoded(self, training: bool) -> Region:
        """The part of the image to decode, once all stages have pruned."""
        if training or self.plan.decode == "all":
            return Region.whole(self.image_size)
        return kept_region(self.stages[-1], self.prompts)


def kept_region(stage: StageRecord, prompts: PromptBatch) -> Region:
    """The smallest region of the image that holds every prompt and every token that ``stage`` kept, in any sample of the batch."""
    kept = Region.from_mask(stage.alive.unflatten(1, stage.grid))
    token = [n // g for n, g in zip(prompts.size, stage.grid)]
    start, stop = (tuple(a * t for a, t in zip(ends, token)) for ends in (kept.start, kept.stop))
    return prompts.footprint(prompts.size).union(start, stop)


def first_gate(alive: Tensor, dtype: torch.dtype) -> Tensor | None:
    """``alive`` as numbers; None when every token lives, so that blocks may run as they are."""
    return None if bool(alive.all()) else alive.to(dtype)
