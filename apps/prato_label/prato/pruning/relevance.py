"""How relevant each token is to the prompted region (arXiv 2506.16369, eqs. 2-4)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prato.prompts.batch import PromptBatch

#: How queries are weighted: by their entropy (eqs. 3 and 4), or all by 1.
Weights = Literal["entropy", "equal"]


def relevance_by_stage(stages: Collection[int], widths: Sequence[int], spatial_dims: int) -> nn.ModuleDict:
    """The :class:`Relevance` of each pruning stage, by its number as text.

    Args:
        stages: blocks or stages, counted from 1, after which tokens may leave.
        widths: of the tokens of each block or stage that the encoder has.

    Raises:
        ValueError: the encoder has no such block or stage.
    """
    missing = [stage for stage in stages if not 1 <= stage <= len(widths)]
    if missing:
        raise ValueError(f"Tokens cannot leave after block or stage {missing[0]}: the encoder has 1 to {len(widths)}.")
    return nn.ModuleDict({str(stage): Relevance(widths[stage - 1], spatial_dims) for stage in stages})


class Relevance(nn.Module):
    """Scores the tokens of one pruning stage against the box prompts.

    Tokens are layer-normed before the projections f1 (prompt) and f2 (token): without it, untrained projections of raw activations rank
    tokens at chance level. Both start as the same random rotation, so that similarity is meaningful before any training.

    Args:
        dim: token width C'.
        spatial_dims: 2 or 3.
    """

    def __init__(self, dim: int, spatial_dims: int) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        self.project_prompt = nn.Linear(dim, dim, bias=False)
        self.project_token = nn.Linear(dim, dim, bias=False)
        nn.init.orthogonal_(self.project_prompt.weight)
        self.project_token.weight.data.copy_(self.project_prompt.weight.data)

    def forward(
        self,
        tokens: Tensor,
        grid: tuple[int, ...],
        prompts: PromptBatch,
        k: int,
        alive: Tensor,
        weights: Weights = "entropy",
    ) -> Tensor:
        """Relevance r_j of every token.

        Args:
            tokens: (B, Z, C') block output on its whole grid, Z = product of ``grid``.
            grid: tokens along each axis.
            prompts: of the batch, on the part of the image that the grid lies on.
            k: RoIAlign bins along each axis; a sample with b boxes asks b * k**D queries.
            alive: bool (B, Z), tokens that may be attended to and ranked.
            weights: of the queries.

        Returns:
            float (B, Z); 0 everywhere for a sample without a prompt. Values of tokens that are not alive mean nothing.
        """
        with torch.autocast(tokens.device.type, enabled=False):  # ranks that training and evaluation agree on need single precision
            normed = F.layer_norm(tokens.float(), tokens.shape[-1:])
            queries, valid = prompts.queries(normed.transpose(1, 2).unflatten(2, grid), k)
            return relevance(self.project_prompt(queries), self.project_token(normed), valid, alive, weights)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # A plain MONAI state dict knows nothing of f1 and f2: it loads strictly, and they keep their initial rotation.
        if not any(name.startswith(prefix) for name in state_dict):
            state_dict.update(self.state_dict(prefix=prefix))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def relevance(v1: Tensor, v2: Tensor, valid: Tensor, alive: Tensor, weights: Weights = "entropy") -> Tensor:
    """Equations 2 to 4 on projected queries and tokens.

    Args:
        v1: (B, M, d) projected prompt queries.
        v2: (B, Z, d) projected tokens.
        valid: bool (B, M), False for padding where samples have fewer boxes than others.
        alive: bool (B, Z).
        weights: of the queries; "equal" is Omega = 1.

    Returns:
        (B, Z): r_j = (1/M) * sum_i Omega_i * S_ij, computed in its collapsed form q . V2_j / sqrt(d) with q = (1/M) * sum_i Omega_i V1_i.
    """
    if weights == "equal":
        weight = valid.to(v1.dtype)
    else:
        similarity = v1 @ v2.transpose(1, 2) / v1.shape[-1] ** 0.5  # eq. 2
        weight = query_weights(similarity, valid, alive)
    count = valid.sum(1, keepdim=True).clamp_min(1)
    query = (weight.unsqueeze(-1) * v1).sum(1) / count
    return (v2 @ query.unsqueeze(-1)).squeeze(-1) / v1.shape[-1] ** 0.5  # eq. 4


def query_weights(similarity: Tensor, valid: Tensor, alive: Tensor) -> Tensor:
    """Omega: sure queries count, unsure ones do not.

    Args:
        similarity: S, (B, M, Z).
        valid: bool (B, M).
        alive: bool (B, Z); at least one per sample.

    Returns:
        (B, M) in [0, 1]: 1 - (rank of the query's entropy, spread evenly over [0, 1]); 1 for a sample's only query, 0 for padding.
    """
    gone = torch.zeros_like(alive, dtype=similarity.dtype).masked_fill(~alive, torch.finfo(similarity.dtype).min / 2)
    log_rho = (similarity + gone.unsqueeze(1)).log_softmax(-1)  # finite, so that 0 * log 0 = 0
    entropy = -torch.linalg.vecdot(log_rho.exp(), log_rho)  # eq. 3
    rank = entropy.masked_fill(~valid, float("inf")).argsort(dim=1, stable=True).argsort(dim=1)
    last = (valid.sum(1, keepdim=True) - 1).clamp_min(1)
    return (1.0 - rank / last).clamp_min(0.0).to(similarity.dtype) * valid
