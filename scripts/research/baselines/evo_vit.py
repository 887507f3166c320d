"""Evo-ViT: slow updates for the tokens that the class token attends to, one fast update for all others (Xu et al., AAAI 2022)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from monai.networks.blocks import TransformerBlock
from monai.networks.nets import ViT
from torch import Tensor, nn

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
from scripts.research.baselines.token_buffer import mark, put, take, top

_MEMORY = 0.5
_CLASS_WEIGHT = 0.1


@register_baseline("evo_vit")
class EvoViT(TokenMethod):
    """No token is dropped: from block ``dense`` + 1 on, the share ``keep`` with the highest class attention runs through the block, and one
    representative token stands for the rest.

    Class attention is what the class token gives to a token, summed over heads; from the second block on it is averaged with its past
    (half and half), for the tokens that ran; the others keep theirs. The representative is the mean of the rest, by class attention;
    what the block adds to it is added to each of them. The choice is hard in training as in evaluation, and made anew for every block.

    UNETR has no class token, so the method brings one. A linear layer on it tells which structures are in the slice; its cross-entropy,
    times 0.1, is the auxiliary loss (in the paper: the class of the photograph).
    """

    def __init__(self, host: Host, dense: int = 4, keep: float = 0.5) -> None:
        super().__init__()
        self.dense, self.keep = dense, check_share("keep", keep)
        self.class_token = nn.Parameter(torch.zeros(1, 1, host.dim))
        nn.init.trunc_normal_(self.class_token, std=0.02)
        self.present = nn.Sequential(nn.LayerNorm(host.dim), nn.Linear(host.dim, host.classes - 1))

    def encode(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> MethodOutput:
        summary, patches = self.class_token.expand(len(tokens), -1, -1).to(tokens.dtype), tokens
        attention = tokens.new_zeros(tokens.shape[:2])
        hidden: dict[int, Tensor] = {}
        stages: list[StageRecord] = []
        for number, block in numbered_blocks(vit):
            if number <= self.dense:
                summary, patches, seen = _whole(block, summary, patches)
                attention = seen if number == 1 else _MEMORY * attention + (1 - _MEMORY) * seen
            else:
                chosen = top(attention, math.ceil(self.keep * patches.shape[1]))
                stages.append(StageRecord(f"block {number}", inputs.grid, attention.detach(), mark(chosen, patches.shape[1])))
                summary, patches, attention = slow_fast(block, summary, patches, attention, chosen)
            if number in SKIPS:
                hidden[number] = patches

        def presence(logits: Tensor, label: Tensor) -> Tensor:
            says = self.present(summary[:, 0])
            there = torch.stack([(label == c).flatten(1).any(1) for c in range(1, says.shape[1] + 1)], dim=1)
            return _CLASS_WEIGHT * F.binary_cross_entropy_with_logits(says, there.to(says.dtype))

        return MethodOutput(hidden, vit.norm(patches), tuple(stages), {"presence": presence} if self.training else {})


def _whole(block: TransformerBlock, summary: Tensor, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.cat((summary, patches), dim=1)
    attended = attend(block, x)
    x = mlp_residual(block, x + attended.update)
    return x[:, :1], x[:, 1:], class_attention(attended.weight)


def class_attention(weight: Tensor) -> Tensor:
    """(B, n): what the first token of ``weight`` (B, heads, 1 + n, 1 + n) gives to each other one, summed over heads."""
    return weight[:, :, 0, 1:].sum(1)


def slow_fast(
    block: TransformerBlock, summary: Tensor, patches: Tensor, attention: Tensor, chosen: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One block on the class token, the ``chosen`` patches, and the representative of all others.

    Args:
        block: a transformer block. summary: class token (B, 1, C). patches: (B, Z, C).
        attention: class attention (B, Z). chosen: int64 (B, k), places of the patches that run, in ascending order.

    Returns:
        summary, patches and attention after the block.
    """
    weight = attention.scatter(1, chosen, 0.0)
    weight = weight / weight.sum(1, keepdim=True)
    representative = weight.unsqueeze(1) @ patches
    x = torch.cat((summary, take(patches, chosen), representative), dim=1)
    attended = attend(block, x)
    x = mlp_residual(block, x + attended.update)
    patches = put(patches + (x[:, -1:] - representative), chosen, x[:, 1:-1])
    seen = class_attention(attended.weight)[:, :-1]
    attention = attention.scatter(1, chosen, _MEMORY * attention.gather(1, chosen) + (1 - _MEMORY) * seen)
    return x[:, :1], patches, attention
