"""What a prediction says besides its mask: how undecided the network is, and what it sees in the prompts."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PruningPlan


def mean_entropy(logits: Tensor, kept: Tensor) -> float:
    """Mean entropy of the predicted classes over the pixels in ``kept``, as a share of the largest there can be (0..1); 0 over none.

    Args:
        logits: (B, classes, H, W). kept: bool (B, H, W).
    """
    log_p = torch.log_softmax(torch.nan_to_num(logits.float(), nan=0.0), dim=1)
    entropy = -(log_p.exp() * log_p).sum(1)[kept] / math.log(logits.shape[1])
    return float(entropy.mean()) if entropy.numel() else 0.0


class PromptSummary:
    """The features under the prompts in a few numbers, by which two hearts can be told apart or found alike.

    While the block lasts, the queries of the last pruning stage of ``network`` are collected.
    """

    def __init__(self, network: Any, plan: PruningPlan | None) -> None:
        self._calls: list[tuple[Any, ...]] = []
        self._relevance = None if plan is None else network.relevance[str(max(plan.prune_after))]

    def __enter__(self) -> PromptSummary:
        collect = lambda module, arguments, result: self._calls.append(arguments)  # noqa: E731
        self._hook: Any = nullcontext() if self._relevance is None else self._relevance.register_forward_hook(collect)
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.__exit__(*error)

    @torch.inference_mode()
    def mean(self) -> Tensor | None:
        """float32 (C',) on the CPU: mean of the layer-normed queries over slices and prompts; None where nothing is pruned."""
        queries = [_queries(*arguments) for arguments in self._calls]
        return torch.cat(queries).mean(0).cpu() if queries else None


def _queries(tokens: Tensor, grid: tuple[int, ...], prompts: PromptBatch, k: int, *_: object) -> Tensor:
    """(queries, C') of what ``Relevance`` is called with."""
    normed = F.layer_norm(tokens.float(), tokens.shape[-1:])
    queries, valid = prompts.queries(normed.transpose(1, 2).unflatten(2, grid), k)
    return queries[valid]
