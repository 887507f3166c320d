"""TRAM: tokens ranked by the attention that reaches them in two steps, summed over the layers (Expert Systems with Applications, 2025)."""

from __future__ import annotations

import math

import torch
from monai.networks.nets import ViT
from torch import Tensor

from prato.pruning.record import StageRecord
from scripts.research.baselines.block import attend, mlp_residual
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
from scripts.research.baselines.token_buffer import TokenBuffer, top


@register_baseline("tram")
class TRAM(TokenMethod):
    """In each of the blocks ``within``, between attention and MLP, the share ``keep`` of the living tokens with the highest score goes on.

    With A the maximum of the attention over heads, d_j = sum_i A_ij is the attention that token j gets, and c_j = sum_i A_ij * d_i counts
    it by how much its givers get themselves. Block l of L adds (l / L) * c_j to the score. Nothing is learned and there is no loss;
    training and evaluation are the same. A token that left is restored with the value it had.
    """

    def __init__(self, host: Host, within: tuple[int, ...] = (3, 6, 9), keep: float = 0.7) -> None:
        super().__init__()
        self.within, self.keep = tuple(within), check_share("keep", keep)

    def encode(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> MethodOutput:
        buffer, score = TokenBuffer(tokens), tokens.new_zeros(tokens.shape[:2])
        hidden: dict[int, Tensor] = {}
        stages: list[StageRecord] = []
        for number, block in numbered_blocks(vit):
            attended = attend(block, buffer.tokens)
            buffer.tokens = buffer.tokens + attended.update
            score = score + number / len(vit.blocks) * centrality(attended.weight.detach())
            if number in self.within:
                before, chosen = buffer.index, top(score, math.ceil(self.keep * score.shape[1]))
                buffer.keep(chosen)
                stages.append(buffer.record(number, inputs.grid, score, before))
                score = score.gather(1, chosen)
            buffer.tokens = mlp_residual(block, buffer.tokens)
            if number in SKIPS:
                hidden[number] = buffer.restored
        return MethodOutput(hidden, vit.norm(buffer.restored), tuple(stages))


def centrality(weight: Tensor) -> Tensor:
    """c (B, n) of the attention ``weight`` (B, heads, n, n), rows being the givers."""
    strongest = weight.amax(1)
    received = strongest.sum(1)
    return torch.einsum("bij,bi->bj", strongest, received)
