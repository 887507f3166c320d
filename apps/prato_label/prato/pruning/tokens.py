"""The tokens that still take part in a call, as blocks compute them: packed, padded to a known number, or all of them gated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from monai.networks.blocks import TransformerBlock
from torch import Tensor

from prato.pruning.straight_through import gated_block


class TokenBuffer(Protocol):
    """The living tokens of a (B, Z, C) canvas, between two pruning stages."""

    def gather(self, canvas: Tensor) -> Tensor:
        """Those of ``canvas``, in the buffer's own layout."""

    def run(self, block: TransformerBlock, tokens: Tensor) -> Tensor:
        """One MONAI ``TransformerBlock`` on what :meth:`gather` gave."""

    def scatter(self, canvas: Tensor, tokens: Tensor) -> Tensor:
        """``canvas`` with the living tokens replaced; a token that has left keeps the value it had."""


class PackedTokens:
    """Living tokens packed one sample after the other, so that blocks run on them alone, without dropout.

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
        attention = block.attn
        q, k, v = attention.qkv(block.norm1(tokens)).unflatten(-1, (3, attention.num_heads, -1)).unbind(1)
        tokens = tokens + attention.out_proj(packed_attention(q, k, v, self.counts, self.counts).flatten(1))
        return tokens + block.mlp(block.norm2(tokens))

    def scatter(self, canvas: Tensor, tokens: Tensor) -> Tensor:
        return canvas.masked_scatter(self.alive.unsqueeze(-1), tokens.to(canvas.dtype))


class PaddedTokens:
    """As :class:`PackedTokens`, in a (B, count, C) tensor whose last rows, where a sample has fewer tokens alive, are idle.

    No shape depends on which tokens are alive (see ``prato.pruning.static_shapes``).
    """

    def __init__(self, alive: Tensor, count: int, is_full: bool) -> None:
        """Args: alive: bool (B, Z), at least one and at most ``count`` a sample; exactly so many where it ``is_full``."""
        # in the order of the grid, and then the dead
        self._places = alive.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :count].unsqueeze(2)
        self._real = None if is_full else torch.arange(count, device=alive.device) < alive.sum(1, keepdim=True)

    def gather(self, canvas: Tensor) -> Tensor:
        """(B, Z, C) -> (B, count, C)."""
        return canvas.gather(1, self._places.expand(-1, -1, canvas.shape[2]))

    def run(self, block: TransformerBlock, tokens: Tensor) -> Tensor:
        return run_block(block, tokens, None if self._real is None else self._real[:, None, None])

    def scatter(self, canvas: Tensor, tokens: Tensor) -> Tensor:
        if self._real is not None:
            tokens = torch.where(self._real.unsqueeze(2), tokens, self.gather(canvas).to(tokens.dtype))
        return canvas.scatter(1, self._places.expand(-1, -1, canvas.shape[2]), tokens.to(canvas.dtype))


class GatedTokens:
    """All tokens, gated by numbers that carry a gradient: the numbers of :class:`PackedTokens`, while training.

    In the plan's mode "mask" they are multiplied by the gate once and take part in all that follows: eq. 5 of the paper as it stands.
    """

    def __init__(self, gate: Tensor | None, is_masking: bool) -> None:
        """Args: gate: (B, Z) of 0 and 1; None when every token lives, so that blocks may run as they are."""
        self.gate, self.is_masking = gate, is_masking

    def gather(self, canvas: Tensor) -> Tensor:
        return canvas * self.gate.unsqueeze(-1) if self.is_masking and self.gate is not None else canvas

    def run(self, block: TransformerBlock, tokens: Tensor) -> Tensor:
        return block(tokens) if self.gate is None or self.is_masking else gated_block(block, tokens, self.gate)

    def scatter(self, canvas: Tensor, tokens: Tensor) -> Tensor:
        return tokens


def packed_attention(q: Tensor, k: Tensor, v: Tensor, queries: Sequence[int], keys: Sequence[int]) -> Tensor:
    """Attention (N, heads, d) of each sample's queries on its own keys, the samples packed one after the other.

    Args:
        q: (N, heads, d). k, v: (M, heads, d).
        queries, keys: how many of them each sample has, at least one.
    """
    if len(set(queries)) == 1 and len(set(keys)) == 1:
        q, k, v = (x.unflatten(0, (len(queries), -1)).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)
    split = (x.transpose(0, 1).unsqueeze(0).split(list(counts), dim=2) for x, counts in ((q, queries), (k, keys), (v, keys)))
    return torch.cat([F.scaled_dot_product_attention(*sample) for sample in zip(*split)], dim=2).squeeze(0).transpose(0, 1)


def run_block(block: TransformerBlock, tokens: Tensor, attended: Tensor | None = None) -> Tensor:
    """One MONAI ``TransformerBlock``, without dropout, on ``tokens`` (B, n, C).

    Args:
        attended: bool, broadcast to (B, heads, n, n), the keys that a query attends to; None for all.
    """
    attention = block.attn
    q, k, v = attention.qkv(block.norm1(tokens)).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attended).transpose(1, 2).flatten(2)
    tokens = tokens + attention.out_proj(mixed)
    return tokens + block.mlp(block.norm2(tokens))
