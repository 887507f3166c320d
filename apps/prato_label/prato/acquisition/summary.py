"""What a network sees in the box, in a few numbers: by them two hearts can be told apart or found alike."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PruningPlan


class BoxSummary:
    """While the block lasts, what the last pruning stage of ``network`` is asked is kept: it looks at the tokens under the box."""

    def __init__(self, network: Any, plan: PruningPlan | None) -> None:
        self._asked: list[tuple[Any, ...]] = []
        self._watched = None if plan is None else network.relevance[str(max(plan.after))]

    def __enter__(self) -> BoxSummary:
        keep = lambda module, arguments, result: self._asked.append(arguments)  # noqa: E731
        self._hook: Any = nullcontext() if self._watched is None else self._watched.register_forward_hook(keep)
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.__exit__(*error)

    @torch.inference_mode()
    def mean(self) -> Tensor | None:
        """float32 (C',) on the CPU: layer-normed tokens under the boxes, mean over slices, boxes and bins; None where nothing is pruned."""
        found = [_pooled(*arguments) for arguments in self._asked]
        return torch.cat(found).mean(0).cpu() if found else None


def _pooled(tokens: Tensor, grid: tuple[int, ...], image_size: tuple[int, ...], prompts: PromptBatch, k: int, *_: object) -> Tensor:
    """(boxes, C') of what ``Relevance`` is called with."""
    normed = F.layer_norm(tokens.float(), tokens.shape[-1:])
    feature_map = normed.transpose(1, 2).unflatten(2, grid)
    queries, valid = prompts.queries(feature_map, k)
    return queries[valid]
