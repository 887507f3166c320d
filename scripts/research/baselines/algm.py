"""ALGM: similar neighbours become one at once, and half-way similar tokens from anywhere.

Source: Norouzi et al., "ALGM: Adaptive Local-then-Global Token Merging for Efficient Semantic Segmentation with Plain Vision Transformers",
CVPR 2024 (arXiv 2406.09936).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.nets import ViT
from torch import Tensor

from prato.pruning.record import StageRecord
from scripts.research.baselines.block import attend, mlp_residual
from scripts.research.baselines.cells import join_cells, token_cells
from scripts.research.baselines.merged_tokens import MergedTokens
from scripts.research.baselines.method import (
    SKIPS,
    EncoderInput,
    Host,
    MethodOutput,
    TokenMethod,
    check_share,
    numbered_blocks,
    register_baseline,
)
from scripts.research.baselines.token_buffer import top
from scripts.research.baselines.tome import closest, match


@register_baseline("algm")
class ALGM(TokenMethod):
    """Between attention and MLP of block ``near``, cells of 2 x 2 tokens whose mean cosine similarity reaches ``threshold`` become a token
    each; in block ``far``, ToMe's pairs that are closer than the mean and a ``far``-th of the standard deviation of all are merged.

    How many merge follows from the image; in training, of a batch, the fewest of any sample, so that all keep as many. Similarity is the
    cosine of the tokens themselves. A merged token is the mean of its patches; in attention it counts as one, as in the authors' code.
    Nothing is learned, there is no loss; every patch is restored with the value of the token that holds it.
    """

    def __init__(self, host: Host, near: int = 1, far: int = 5, threshold: float = 0.88) -> None:
        super().__init__()
        if not 1 <= near < far:
            raise ValueError(f"ALGM merges near tokens first: near must be at least 1 and below far, not {near} and {far}.")
        self.near, self.far, self.threshold = near, far, check_share("threshold", threshold)

    def encode(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> MethodOutput:
        if self.training or len(tokens) == 1:
            return self._encode(vit, tokens, inputs)
        found = [self._encode(vit, sample, inputs) for sample in tokens.split(1)]
        stages = tuple(
            StageRecord(own[0].name, own[0].grid, torch.cat([s.relevance for s in own]), torch.cat([s.alive for s in own]))
            for own in zip(*(each.stages for each in found))
        )
        hidden = {number: torch.cat([each.hidden[number] for each in found]) for number in SKIPS}
        return MethodOutput(hidden, torch.cat([each.last for each in found]), stages)

    def _encode(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> MethodOutput:
        merged = MergedTokens(tokens)
        hidden: dict[int, Tensor] = {}
        stages: list[StageRecord] = []
        for number, block in numbered_blocks(vit):
            if number in (self.near, self.far):
                merged.tokens = merged.tokens + attend(block, merged.tokens).update
                merged.merge(*self._pairs(number, merged.tokens.detach(), inputs.grid))
                merged.tokens = mlp_residual(block, merged.tokens)
                stages.append(merged.record(number, inputs.grid))
            else:
                merged.tokens = block(merged.tokens)
            if number in SKIPS:
                hidden[number] = merged.restored
        return MethodOutput(hidden, vit.norm(merged.restored), tuple(stages))

    def _pairs(self, number: int, tokens: Tensor, grid: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """As ``merged_tokens.join``: which of ``tokens`` are merged in block ``number``."""
        if number == self.near:
            return similar_cells(tokens, grid, self.threshold)
        return match(tokens, pairs_above(closest(tokens)[0], self.far))


def similar_cells(tokens: Tensor, grid: tuple[int, ...], threshold: float) -> tuple[Tensor, Tensor]:
    """As ``merged_tokens.join``: the cells of ``grid`` whose tokens (B, Z, C) are alike, those most alike first."""
    cells = token_cells(grid, tokens.device)
    direction = F.normalize(tokens.float(), dim=-1)[:, cells]  # (B, cells, 2**D, C)
    count = cells.shape[1]
    likeness = (direction.sum(2).square().sum(-1) - count) / (count * (count - 1))  # the mean over pairs
    chosen = top(likeness, int((likeness >= threshold).sum(1).amin()))
    return join_cells(cells[chosen], tokens.shape[1])


def pairs_above(similarity: Tensor, depth: int) -> int:
    """How many pairs of ``similarity`` (B, m) are merged: those above mean + standard deviation / ``depth``; of a batch, the fewest."""
    limit = similarity.mean() + similarity.std(1).mean() / depth
    return int((similarity >= limit).sum(1).amin())
