"""Which tokens stay: the pruning plan handed to a network (arXiv 2506.16369, eq. 5)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from prato.prompts.batch import PromptBatch
from prato.pruning.relevance import Weights

#: What the wire contract's ``prune`` may be: percent of the living tokens dropped at each stage.
PRUNE_CHOICES = ("off", "25", "50", "75")
#: A training step's ``prune`` by the number that it draws: each up to its limit.
_DRAWN = ((0.60, None), (0.72, "off"), (0.82, "25"), (0.94, "50"), (1.0, "75"))
#: Attributes that model files, training states and experiments store under another name.
_STORED_AS = {"prune_after": "after", "score_by": "choose", "protect_prompted": "boxed"}


@dataclass(frozen=True)
class PruningPlan:
    """When and how tokens leave. One of ``percentile`` and ``threshold`` is set.

    Attributes:
        prune_after: pruning stages, counted from 1: transformer blocks (UNETR), or stages before whose patch merging tokens leave (Swin).
        percentile: percent of the tokens still alive that leave at each stage, 0 <= percentile < 100.
        threshold: fixed tau on sigmoid(relevance), 0 <= tau < 1.
        k: RoIAlign bins along each axis.
        mode: "drop" removes tokens from the computation; "mask" is the paper's multiplication with a 0/1 mask (costs as much as dense).
        decode: "all" decodes the whole image; "kept", in evaluation, the smallest rectangle that holds the kept tokens and the boxes, where
            it gives the same numbers (with batch normalisation); the rest is background.
        score_by: "relevance" ranks tokens by their relevance to the box; "random" by nothing: what the prompt must beat.
        weights: how much each query of the box counts: by its "entropy", the sure ones most; or "equal", all the same, to compare with.
        margin: stage 0: tokens farther than this from every box, in pixels of the input, leave before the first block; None keeps all.
        protect_prompted: tokens that a prompt touches never leave, so that more than the requested share may stay.
        temperature: slope of the straight-through estimator round the cut, used in training only.

    Raises:
        ValueError: a value is out of its range, or not exactly one of ``percentile`` and ``threshold`` is given.
    """

    prune_after: tuple[int, ...]
    percentile: float | None = 25.0
    threshold: float | None = None
    k: int = 5
    mode: Literal["drop", "mask"] = "drop"
    decode: Literal["all", "kept"] = "all"
    score_by: Literal["relevance", "random"] = "relevance"
    weights: Weights = "entropy"
    margin: float | None = None
    protect_prompted: bool = False
    temperature: float = 0.05

    def __post_init__(self) -> None:
        if (self.percentile is None) == (self.threshold is None):
            raise ValueError("A pruning plan needs either a percentile or a threshold, and not both.")
        if self.percentile is not None and not 0 <= self.percentile < 100:
            raise ValueError(f"percentile must be at least 0 and below 100, not {self.percentile}.")
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise ValueError(f"threshold must be at least 0 and below 1, not {self.threshold}.")
        if self.mode not in ("drop", "mask") or self.decode not in ("all", "kept"):
            raise ValueError("A pruning plan's mode is 'drop' or 'mask', and it decodes 'all' or 'kept'.")
        if self.score_by not in ("relevance", "random"):
            raise ValueError(f"A pruning plan scores tokens by 'relevance' or at 'random', not by {self.score_by!r}.")
        if self.weights not in ("entropy", "equal"):
            raise ValueError(f"A pruning plan weights the box's queries by 'entropy' or 'equal', not by {self.weights!r}.")
        if self.margin is not None and not self.margin >= 0:
            raise ValueError(f"margin must be at least 0 pixels, or None for no stage 0, not {self.margin}.")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature}.")
        if self.k < 1 or not self.prune_after or min(self.prune_after) < 1:
            raise ValueError("A pruning plan needs k >= 1, and stages counted from 1.")

    @property
    def unprompted_depth(self) -> int:
        """Blocks or stages, from the first on, whose work depends on no prompt: those up to the first that tokens leave after."""
        return 0 if self.margin is not None else min(self.prune_after)

    @property
    def embedding_key(self) -> Hashable:
        """What of the plan an image's embedding depends on (``PrunableNetwork.encode_image``)."""
        return self.prune_after, self.unprompted_depth, self.mode

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> PruningPlan:
        """The plan that :meth:`to_dict` made ``stored`` of, or that a model file or an experiment holds.

        Raises:
            TypeError, KeyError: ``stored`` is no plan. ValueError: a value is out of its range.
        """
        values = {own: stored[name] for own, name in _STORED_AS.items() if name in stored}
        rest = {name: value for name, value in stored.items() if name not in _STORED_AS.values()}
        return cls(**{**rest, **values, "prune_after": tuple(stored[_STORED_AS["prune_after"]])})

    def to_dict(self) -> dict[str, Any]:
        """The plan as it is stored, in model files among others."""
        return {_STORED_AS.get(name, name): value for name, value in asdict(self).items()}

    def with_override(self, prune: str | None) -> PruningPlan | None:
        """This plan as a request's ``prune`` wants it: None keeps it, "off" is no pruning (None), "25"/"50"/"75" the percentile.

        Raises:
            ValueError: ``prune`` is none of ``PRUNE_CHOICES``.
        """
        if prune is None:
            return self
        if prune not in PRUNE_CHOICES:
            raise ValueError(f"prune must be one of {', '.join(PRUNE_CHOICES)} (as text), not {prune!r}.")
        return None if prune == "off" else replace(self, percentile=float(prune), threshold=None)

    def with_random_override(self, number: float) -> PruningPlan | None:
        """What a training step prunes by that has drawn ``number``, 0 <= number < 1: this plan six times in ten, else what a request may
        choose, so that one set of weights serves every request."""
        return self.with_override(next(prune for limit, prune in _DRAWN if number < limit))

    def start(self, prompts: PromptBatch, grid: tuple[int, ...]) -> Tensor:
        """Stage 0: bool (B, Z), the tokens that the first block sees; all of a sample without a prompt."""
        if self.margin is None:
            return torch.ones(prompts.batch, math.prod(grid), dtype=torch.bool, device=prompts.device)
        return prompts.protected(grid, self.margin) | ~prompts.prompted.unsqueeze(1)

    def protected(self, prompts: PromptBatch, grid: tuple[int, ...]) -> Tensor | None:
        """bool (B, Z), the tokens that never leave; None where the plan protects none."""
        return prompts.protected(grid) if self.protect_prompted else None

    def select(self, score: Tensor, alive: Tensor, prompted: Tensor, protected: Tensor | None = None) -> Tensor:
        """Which tokens stay after this stage.

        Args:
            score: (B, Z), what tokens are ranked by.
            alive: bool (B, Z), at least one per sample.
            prompted: bool (B,); a sample without a prompt keeps all its living tokens.
            protected: bool (B, Z), tokens that stay whatever their score; None for none.

        Returns:
            bool (B, Z), a subset of ``alive`` with at least one token per sample. A percentile keeps exactly
            ceil((1 - percentile/100) * alive) tokens, or all that are protected if they are more; among equal scores the token that comes
            first on the grid stays.
        """
        if protected is not None:
            score = score.masked_fill(protected, float("inf"))
        score = score.masked_fill(~alive, float("-inf"))
        order = score.argsort(dim=1, descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
        if self.percentile is not None:
            living = alive.sum(1, keepdim=True)
            stay = rank < self.quota(living)
        else:
            stay = (torch.sigmoid(score) > (self.threshold or 0.0)) | (rank == 0)
        if protected is not None:
            stay = stay | protected
        return alive & (stay | ~prompted.unsqueeze(1))

    def quota(self, living: Tensor) -> Tensor:
        """How many of ``living`` tokens a plan with a percentile keeps at a stage, before those that it protects."""
        # the small term keeps what is whole but for rounding from becoming one more; in single precision rounding would be larger than that
        return torch.ceil(living.double() * (100.0 - (self.percentile or 0.0)) / 100.0 - 1e-6).clamp_min(1)


def requested_plan(plan: PruningPlan | None, prune: str | None) -> PruningPlan | None:
    """What a request with that ``prune`` is pruned by, see :meth:`PruningPlan.with_override`; nothing where a model has no ``plan``."""
    return None if plan is None else plan.with_override(prune)
