"""The small network with which DynamicViT and STP score a token: what it is itself, beside what the living tokens are on the whole."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TokenScorer(nn.Module):
    """Layer norm, a linear layer and GELU; half of the channels stay the token's own, half become the mean over living tokens; an MLP.

    Source: Rao et al., "DynamicViT: Efficient Vision Transformers with Dynamic Token Sparsification", NeurIPS 2021.

    Args:
        dim: token width, a multiple of 4.
        outputs: numbers a token.
    """

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        widths = (dim, dim // 2, dim // 4)
        self.head = nn.Sequential(
            nn.Linear(widths[0], widths[1]), nn.GELU(), nn.Linear(widths[1], widths[2]), nn.GELU(), nn.Linear(widths[2], outputs)
        )

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, n, outputs) of ``tokens`` (B, n, dim); ``mask`` (B, n), 1 for a token that counts in the mean and 0 for one that does not."""
        local, wide = self.embed(tokens).chunk(2, dim=-1)
        if mask is None:
            mean = wide.mean(1, keepdim=True)
        else:
            weight = mask.unsqueeze(-1)
            mean = (wide * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1.0)
        return self.head(torch.cat((local, mean.expand_as(wide)), dim=-1))
