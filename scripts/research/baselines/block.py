"""The two halves of MONAI's transformer block, apart, with the attention laid open."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from monai.networks.blocks import TransformerBlock
from torch import Tensor


class Attended(NamedTuple):
    """Self-attention's ``update`` (B, n, C), its ``weight`` (B, heads, n, n) and its ``keys`` (B, heads, n, C / heads)."""

    update: Tensor
    weight: Tensor
    keys: Tensor


def _plain(scores: Tensor) -> Tensor:
    return scores.softmax(-1)


def attend(block: TransformerBlock, x: Tensor, softmax: Callable[[Tensor], Tensor] = _plain) -> Attended:
    """Self-attention of ``block`` on ``x`` (B, n, C); ``softmax`` makes weights of the scores (B, heads, n, n)."""
    attention = block.attn
    q, k, v = attention.input_rearrange(attention.qkv(block.norm1(x)))
    weight = softmax(q @ k.transpose(-2, -1) * attention.scale)
    mixed = attention.out_rearrange(attention.drop_weights(weight) @ v)
    return Attended(attention.drop_output(attention.out_proj(mixed)), weight, k)


def mlp_residual(block: TransformerBlock, x: Tensor) -> Tensor:
    """The block's second half: its MLP, added to ``x`` (B, n, C)."""
    return x + block.mlp(block.norm2(x))
