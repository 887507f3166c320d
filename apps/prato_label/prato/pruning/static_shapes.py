"""Pruned calls whose shapes are known in advance, so that a GPU can capture one as a whole and replay it.

Which tokens leave is known on the device alone, and asking it costs more than all the work of a small network. How many leave is known
before, by a plan of percentages. So tokens are packed by counts that depend on plan and prompts alone (UNETR), or computed and masked
within a frame round the prompt (Swin UNETR, where how many windows keep a token is not known). The numbers are those of dropping.
"""

from __future__ import annotations

import math

import torch

from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PruningPlan

#: Token counts that depend on the prompt are rounded up to multiples of this: other prompts can then be computed in the same shapes.
_BUCKET = 8


def has_static_shapes(plan: PruningPlan, prompts: PromptBatch) -> bool:
    """Whether a call in evaluation with ``plan`` and ``prompts`` has shapes that are known before it."""
    counted_before = plan.mode == "drop" and plan.score_by == "relevance" and plan.percentile is not None
    return counted_before and prompts.is_one_each and prompts.batch > 0


def token_counts(plan: PruningPlan, prompts: PromptBatch, grid: tuple[int, ...]) -> tuple[tuple[int, bool], ...]:
    """Before and after each pruning stage: how many tokens of a sample live at most, and whether that is how many live in each."""
    living = plan.start(prompts, grid).sum(1)
    protected = plan.protected(prompts, grid)
    least = torch.ones_like(living) if protected is None else protected.sum(1)
    bucketed = plan.margin is not None or plan.protect_prompted
    counts = []
    for stage in range(len(plan.prune_after) + 1):
        if stage:
            living = torch.maximum(plan.quota(living), least)
        most = int(living.max())
        counts.append((min(-(-most // _BUCKET) * _BUCKET, math.prod(grid)), False) if bucketed else (most, True))
    return tuple(counts)
