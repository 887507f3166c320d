"""Which tokens stay: the pruning plan handed to a network, and the record of what it did (arXiv 2506.16369, eq. 5)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from prato.prompts.batch import PromptBatch
from prato.pruning.relevance import Weights

#: What the wire contract's ``prune`` may ask for: percent of the living tokens dropped at each stage.
PRUNE_CHOICES = ("off", "25", "50", "75")


@dataclass(frozen=True)
class PruningPlan:
    """When and how tokens leave. One of ``percentile`` and ``threshold`` is set.

    Attributes:
        after: pruning stages, counted from 1: transformer blocks (UNETR), or stages before whose patch merging tokens leave (Swin).
        percentile: percent of the tokens still alive that leave at each stage, 0 <= percentile < 100.
        threshold: fixed tau on sigmoid(relevance), 0 <= tau < 1.
        k: RoIAlign bins along each axis.
        mode: "drop" removes tokens from the computation; "mask" is the paper's multiplication with a 0/1 mask (costs as much as dense).
        decode: "all" decodes the whole image; "kept", in evaluation, the smallest rectangle that holds the kept tokens and the boxes, where
            it gives the same numbers (with batch normalisation); the rest is background.
        choose: "relevance" ranks tokens by their relevance to the box; "random" by nothing: what the prompt must beat.
        weights: how much each query of the box counts: by its "entropy", the sure ones most; or "equal", all the same, to be held against.
        margin: stage 0: tokens farther than this from every box, in pixels of the input, leave before the first block; None keeps all.
        boxed: tokens that a box touches never leave, so that more than the asked-for share may stay.
        temperature: slope of the straight-through estimator round the cut, used in training only.

    Raises:
        ValueError: a value is out of its range, or not exactly one of ``percentile`` and ``threshold`` is given.
    """

    after: tuple[int, ...]
    percentile: float | None = 25.0
    threshold: float | None = None
    k: int = 5
    mode: Literal["drop", "mask"] = "drop"
    decode: Literal["all", "kept"] = "all"
    choose: Literal["relevance", "random"] = "relevance"
    weights: Weights = "entropy"
    margin: float | None = None
    boxed: bool = False
    temperature: float = 0.05

    def __post_init__(self) -> None:
        if (self.percentile is None) == (self.threshold is None):
            raise ValueError("A pruning plan has either a percentile or a threshold, not both and not neither.")
        if self.percentile is not None and not 0 <= self.percentile < 100:
            raise ValueError(f"percentile must be at least 0 and below 100, not {self.percentile}.")
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise ValueError(f"threshold must be at least 0 and below 1, not {self.threshold}.")
        if self.mode not in ("drop", "mask") or self.decode not in ("all", "kept"):
            raise ValueError("A pruning plan's mode is 'drop' or 'mask', and it decodes 'all' or 'kept'.")
        if self.choose not in ("relevance", "random"):
            raise ValueError(f"A pruning plan chooses tokens by 'relevance' or at 'random', not by {self.choose!r}.")
        if self.weights not in ("entropy", "equal"):
            raise ValueError(f"A pruning plan weights the box's queries by 'entropy' or 'equal', not by {self.weights!r}.")
        if self.margin is not None and not self.margin >= 0:
            raise ValueError(f"margin must be at least 0 pixels, or None for no stage 0, not {self.margin}.")
        if self.k < 1 or not self.after or min(self.after) < 1:
            raise ValueError("A pruning plan needs k >= 1, and stages counted from 1.")

    @property
    def unprompted(self) -> int:
        """Blocks or stages, from the first on, whose work hangs on no box: those before the first that tokens leave after or before."""
        return 0 if self.margin is not None else min(self.after)

    def asked(self, prune: str | None) -> PruningPlan | None:
        """This plan as a request's ``prune`` wants it: None keeps it, "off" is no pruning (None), "25"/"50"/"75" the percentile.

        Raises:
            ValueError: ``prune`` is none of ``PRUNE_CHOICES``.
        """
        if prune is None:
            return self
        if prune not in PRUNE_CHOICES:
            raise ValueError(f"prune must be one of {', '.join(PRUNE_CHOICES)} (as text), not {prune!r}.")
        return None if prune == "off" else replace(self, percentile=float(prune), threshold=None)

    def start(self, prompts: PromptBatch, grid: tuple[int, ...], image_size: tuple[int, ...]) -> Tensor:
        """Stage 0: bool (B, Z), the tokens that the first block sees; all of a sample without a prompt."""
        if self.margin is None:
            return torch.ones(prompts.batch, math.prod(grid), dtype=torch.bool, device=prompts.device)
        return prompts.protected(grid, self.margin) | ~prompts.prompted.unsqueeze(1)

    def held(self, prompts: PromptBatch, grid: tuple[int, ...], image_size: tuple[int, ...]) -> Tensor | None:
        """bool (B, Z), the tokens that never leave; None where the plan knows no such."""
        return prompts.protected(grid) if self.boxed else None

    def scores(self, relevance: Tensor, prompts: PromptBatch) -> Tensor:
        """What tokens are ranked by, (B, ...): their ``relevance``, or numbers drawn at random, the same for the same boxes."""
        if self.choose == "relevance":
            return relevance
        source = torch.Generator().manual_seed(prompts.seed)
        return torch.randn(relevance.shape, generator=source).to(relevance)

    def select(self, score: Tensor, alive: Tensor, prompted: Tensor, held: Tensor | None = None) -> Tensor:
        """Which tokens stay after this stage.

        Args:
            score: (B, Z), as :meth:`scores` gives it.
            alive: bool (B, Z), at least one per sample.
            prompted: bool (B,); a sample without a prompt keeps all its living tokens.
            held: bool (B, Z), tokens that stay whatever their score; None for no such.

        Returns:
            bool (B, Z), a subset of ``alive`` with at least one token per sample. A percentile keeps exactly
            ceil((1 - percentile/100) * alive) tokens, or all that are held if they are more; among equal scores the token that comes
            first on the grid stays.
        """
        if held is not None:
            score = score.masked_fill(held, float("inf"))
        score = score.masked_fill(~alive, float("-inf"))
        order = score.argsort(dim=1, descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
        if self.percentile is not None:
            living = alive.sum(1, keepdim=True)
            stay = rank < self.quota(living)
        else:
            stay = (torch.sigmoid(score) > (self.threshold or 0.0)) | (rank == 0)
        if held is not None:
            stay = stay | held
        return alive & (stay | ~prompted.unsqueeze(1))

    def quota(self, living: Tensor) -> Tensor:
        """How many of ``living`` tokens a plan with a percentile keeps at a stage, before those that it holds."""
        # the small term keeps 0.75 * 100 from becoming 76 by rounding
        return torch.ceil(living * (100.0 - (self.percentile or 0.0)) / 100.0 - 1e-6).clamp_min(1)

    def straight_through(self, relevance: Tensor, keep: Tensor, alive: Tensor) -> Tensor:
        """The 0/1 mask of ``keep`` as numbers that pass a gradient to ``relevance`` (B, Z), as a sigmoid of the distance to the cut."""
        probability = torch.sigmoid(relevance)
        if self.threshold is not None:
            cut = torch.full_like(probability[:, :1], self.threshold)
        else:
            lowest_kept = probability.masked_fill(~keep, 2.0).amin(1, keepdim=True)
            highest_gone = probability.masked_fill(keep | ~alive, -1.0).amax(1, keepdim=True)
            cut = torch.where(highest_gone >= 0, (lowest_kept + highest_gone) / 2, lowest_kept - 1.0).detach()
        soft = torch.sigmoid((probability - cut) / self.temperature)
        return keep.to(soft.dtype) + (soft - soft.detach())


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
