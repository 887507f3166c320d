"""Records how much each query of the box counts while a network runs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prato.pruning.plan import PruningPlan
from prato.pruning.relevance import query_weights


class QueryWeights:
    """While the block lasts, the arguments of the first pruning stage of ``network`` are kept, to weight its queries afterwards."""

    def __init__(self, network: Any, plan: PruningPlan | None) -> None:
        weighted = plan is not None and plan.score_by == "relevance" and plan.weights == "entropy"
        self._watched: Any = network.relevance[str(min(plan.prune_after))] if plan is not None and weighted else None
        self._calls: list[tuple[Any, ...]] = []

    def __enter__(self) -> QueryWeights:
        if self._watched is not None:
            self._hook = self._watched.register_forward_hook(lambda module, arguments, result: self._calls.append(arguments))
        return self

    def __exit__(self, *_: object) -> None:
        if self._watched is not None:
            self._hook.remove()

    @torch.inference_mode()
    def omega(self) -> Tensor | None:
        """(slices, queries): one minus the rank of each query's entropy; None where the plan does not weight queries."""
        found = []
        for tokens, grid, prompts, k, alive, *_ in self._calls:
            normed = F.layer_norm(tokens.float(), tokens.shape[-1:])
            queries, valid = prompts.queries(normed.transpose(1, 2).unflatten(2, grid), k)
            v1, v2 = self._watched.project_prompt(queries), self._watched.project_token(normed)
            found.append(query_weights(v1 @ v2.transpose(1, 2) / v1.shape[-1] ** 0.5, valid, alive).cpu())
        return torch.cat(found) if found else None
