"""What a prediction says besides its mask: how undecided the network is, and what it sees in the prompts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PruningPlan

_T = TypeVar("_T")


class MeanEntropy:
    """Mean entropy of the predicted classes over the pixels that were kept, as a share of the largest there can be (0..1)."""

    def __init__(self) -> None:
        self._sum, self._pixels = 0.0, 0

    def add(self, logits: Tensor, kept: Tensor) -> None:
        """Count the pixels in ``kept``, bool (B, H, W), with their ``logits`` (B, classes, H, W)."""
        log_p = torch.log_softmax(torch.nan_to_num(logits.float(), nan=0.0), dim=1)
        entropy = -(log_p.exp() * log_p).sum(1)[kept] / math.log(logits.shape[1])
        self._sum, self._pixels = self._sum + float(entropy.sum()), self._pixels + entropy.numel()

    def mean(self) -> float:
        """Over all pixels that were counted; 0 over none."""
        return self._sum / self._pixels if self._pixels else 0.0


class PromptSummary:
    """The features under the prompts in a few numbers, by which two hearts can be told apart or found alike.

    They are the queries of the last pruning stage of ``network``. What a call of it that was given up has asked does not count.
    """

    def __init__(self, network: Any, plan: PruningPlan | None) -> None:
        self._calls: list[tuple[Any, ...]] = []
        self._relevance = None if plan is None else network.relevance[str(max(plan.prune_after))]

    def listen(self, call: Callable[[], _T]) -> tuple[_T, list[tuple[Any, ...]]]:
        """What ``call`` returns, and the queries that the network made meanwhile, for :meth:`add`."""
        heard: list[tuple[Any, ...]] = []
        if self._relevance is None:
            return call(), heard
        with self._relevance.register_forward_hook(lambda module, arguments, result: heard.append(arguments)):
            return call(), heard

    def add(self, heard: list[tuple[Any, ...]]) -> None:
        """Count the queries of a call that has come to its end."""
        self._calls += heard

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
