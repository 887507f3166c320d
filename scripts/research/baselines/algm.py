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
from scripts.research.baselines.token_buffer import take, top
from scripts.research.baselines.tome import closest, match, merge, proportional


@register_baseline("algm")
class ALGM(TokenMethod):
    """Between attention and MLP of block ``near``, cells of 2 x 2 tokens whose mean cosine similarity reaches ``threshold`` become a token
    each; in block ``far``, ToMe's pairs that are closer than the mean and a ``far``-th of the standard deviation of all are merged.

    How many merge follows from the image; in training, of a batch, the fewest of any sample, so that all keep as many. Similarity is of
    tokens in cells, and of keys averaged over heads between pairs. Tokens weigh as much as the patches in them, also in attention.
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
        batch, patches = tokens.shape[:2]
        size = tokens.new_ones(batch, patches)
        holder = torch.arange(patches, device=tokens.device).expand(batch, patches)
        name = holder
        hidden: dict[int, Tensor] = {}
        stages: list[StageRecord] = []
        for number, block in numbered_blocks(vit):
            attended = attend(block, tokens, proportional(size))
            tokens = tokens + attended.update
            if number in (self.near, self.far):
                if number == self.near:
                    to, stay = similar_cells(tokens.detach(), inputs.grid, self.threshold)
                else:
                    keys = attended.keys.detach().mean(1)
                    to, stay = match(keys, pairs_above(closest(keys)[0], self.far))
                tokens, size = merge(tokens, size, to, stay.shape[1])
                holder, name = to.gather(1, holder), name.gather(1, stay)
                alive = torch.zeros(batch, patches, dtype=torch.bool, device=tokens.device).scatter(1, name, True)
                stages.append(StageRecord(f"block {number}", inputs.grid, size.gather(1, holder), alive))
            tokens = mlp_residual(block, tokens)
            if number in SKIPS:
                hidden[number] = take(tokens, holder)
        return MethodOutput(hidden, vit.norm(take(tokens, holder)), tuple(stages))


def similar_cells(tokens: Tensor, grid: tuple[int, ...], threshold: float) -> tuple[Tensor, Tensor]:
    """As ``tome.join``: the cells of ``grid`` whose tokens (B, Z, C) are alike, those most alike first."""
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
