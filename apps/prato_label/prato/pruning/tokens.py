"""Self-attention in which some tokens no longer take part: soft while training, by removal when predicting."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from monai.networks.blocks import TransformerBlock
from torch import Tensor


def masked_softmax(scores: Tensor, keep: Tensor) -> Tensor:
    """Softmax over keys, each weighted by ``keep``, with a gradient to ``keep``; a token always sees itself, so no row is empty.

    Args:
        scores: (B, heads, N, N).
        keep: (B, N), 1 for a key that takes part and 0 for one that does not (numbers, so that they may carry a gradient).

    Returns:
        (B, heads, N, N); with 0/1 ``keep`` the rows of living tokens equal the softmax over the living keys alone.

    Source: the attention relaxation of DynamicViT (Rao et al., NeurIPS 2021), without its smoothing term.
    """
    dtype, scores = scores.dtype, scores.float()
    eye = torch.eye(keep.shape[1], device=scores.device)
    gate = (keep.unsqueeze(1) * (1 - eye) + eye).unsqueeze(1)
    top = scores.masked_fill(gate.detach() <= 0, float("-inf")).amax(-1, keepdim=True).detach()
    # a removed key may score far above the living ones; unbounded, the gradient to its ``keep`` drowns all others (norms of 1e8 were seen)
    weight = torch.exp((scores - top).clamp_max(0.0)) * gate
    return (weight / weight.sum(-1, keepdim=True)).to(dtype)


def relaxed_block(block: TransformerBlock, x: Tensor, keep: Tensor) -> Tensor:
    """Run a MONAI ``TransformerBlock`` on all of ``x`` (B, Z, C) while only tokens with ``keep`` (B, Z) take part and change."""
    attention = block.attn
    q, k, v = attention.input_rearrange(attention.qkv(block.norm1(x)))
    weight = attention.drop_weights(masked_softmax(q @ k.transpose(-2, -1) * attention.scale, keep))
    attended = attention.drop_output(attention.out_proj(attention.out_rearrange(weight @ v)))
    gate = keep.unsqueeze(-1)
    x = x + gate * attended
    return x + gate * block.mlp(block.norm2(x))


def packed_attention(q: Tensor, k: Tensor, v: Tensor, queries: list[int], keys: list[int]) -> Tensor:
    """Attention (N, heads, d) of each sample's queries on its own keys, the samples packed one after the other.

    Args:
        q: (N, heads, d). k, v: (M, heads, d).
        queries, keys: how many of them each sample has, at least one.
    """
    if len(set(queries)) == 1 and len(set(keys)) == 1:
        q, k, v = (x.unflatten(0, (len(queries), -1)).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)
    split = ((x.transpose(0, 1).unsqueeze(0).split(counts, dim=2)) for x, counts in ((q, queries), (k, keys), (v, keys)))
    return torch.cat([F.scaled_dot_product_attention(*sample) for sample in zip(*split)], dim=2).squeeze(0).transpose(0, 1)


def run_block(block: TransformerBlock, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
    """One MONAI ``TransformerBlock``, without dropout, on ``tokens`` (B, n, C).

    Args:
        seen: bool, broadcast to (B, heads, n, n), the keys that a query attends to; None for all.
    """
    attention = block.attn
    q, k, v = attention.qkv(block.norm1(tokens)).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)
    tokens = tokens + attention.out_proj(mixed)
    return tokens + block.mlp(block.norm2(tokens))


class LivingTokens(Protocol):
    """The living tokens of a (B, Z, C) canvas, held as an implementation likes."""

    def gather(self, canvas: Tensor) -> Tensor:
        """Those of ``canvas``."""

    def run(self, block: TransformerBlock, tokens: Tensor) -> Tensor:
        """One MONAI ``TransformerBlock``, without dropout, on what :meth:`gather` gave."""

    def scatter(self, canvas: Tensor, tokens: Tensor) -> Tensor:
        """``canvas`` with the living tokens replaced; a token that has left keeps the value it had."""


class KeptTokens:
    """The living tokens of a (B, Z, C) canvas, packed one sample after the other, so that blocks run on them alone.

    Samples may keep different numbers of tokens: norms and linear layers take all of them in one go, and attention each sample's by itself.
    """

    def __init__(self, alive: Tensor) -> None:
        """Args: alive: bool (B, Z), at least one token per sample."""
        self.alive = alive
        self.counts: list[int] = alive.sum(1).tolist()

    def gather(self, canvas: Tensor) -> Tensor:
        """(B, Z, C) -> (N, C), in the order of the grid."""
        return canvas[self.alive]

    def run(self, block: TransformerBlock, tokens: Tensor) -> Tensor:
        """One MONAI ``TransformerBlock``, without dropout, on the packed tokens."""
        attention = block.attn
        q, k, v = attention.qkv(block.norm1(tokens)).unflatten(-1, (3, attention.num_heads, -1)).unbind(1)
        tokens = tokens + attention.out_proj(packed_attention(q, k, v, self.counts, self.counts).flatten(1))
        return tokens + block.mlp(block.norm2(tokens))

    def scatter(self, canvas: Tensor, tokens: Tensor) -> Tensor:
        """``canvas`` with the living tokens replaced; a token that has left keeps the value it had."""
        return canvas.masked_scatter(self.alive.unsqueeze(-1), tokens.to(canvas.dtype))
