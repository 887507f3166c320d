"""What relevance has to beat: tokens ranked at random, and by how near they lie to the box; each in the place of a network's relevance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prato.prompts.batch import PromptBatch

#: By how much the distance from a box's middle counts beside that from the box: enough to rank tokens that lie within it.
_MIDDLE = 1e-3


class RandomScore(nn.Module):
    """Numbers drawn at random, the same for the same prompts and ``seed``."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    def forward(self, tokens: Tensor, grid: tuple[int, ...], prompts: PromptBatch, *_: Any) -> Tensor:
        """(B, Z) of ``tokens`` (B, Z, C); called as ``prato.pruning.relevance.Relevance`` is."""
        source = torch.Generator().manual_seed(prompts.seed + 7919 * self.seed)
        return torch.randn(tokens.shape[:2], generator=source).to(tokens.device)


class NearestScore(nn.Module):
    """The nearer to a box a token's middle lies, the higher; of those within one, the nearer to its middle."""

    def forward(self, tokens: Tensor, grid: tuple[int, ...], prompts: PromptBatch, *_: Any) -> Tensor:
        """(B, Z), minus distances in pixels; 0 everywhere for a sample without a prompt. Called as ``Relevance`` is."""
        score = tokens.new_full(tokens.shape[:2], float("-inf"), dtype=torch.float32)
        middles = [(torch.arange(n, device=tokens.device) + 0.5) * (pixels / n) for n, pixels in zip(grid, prompts.size)]
        places = torch.stack(torch.meshgrid(*middles, indexing="ij"), -1).flatten(0, -2)
        for group in prompts.groups:
            low, high = group.coordinates.amin(1, keepdim=True), group.coordinates.amax(1, keepdim=True)
            beyond = torch.maximum(low - places, places - high).clamp_min(0).norm(dim=-1)
            near = -beyond - _MIDDLE * (places - (low + high) / 2).norm(dim=-1)
            score = score.scatter_reduce(0, group.sample.unsqueeze(1).expand_as(near), near.float(), "amax")
        return score.masked_fill(~prompts.prompted.unsqueeze(1), 0.0)
