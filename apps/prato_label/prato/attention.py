"""Self-attention in which some tokens no longer take part: soft while training, by removal when predicting."""

from __future__ import annotations

import torch
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


class KeptTokens:
    """The living tokens of a (B, Z, C) canvas, gathered so that blocks run on them alone.

    Samples may keep different numbers of tokens: shorter rows are padded, and the padding is masked as attention keys.
    """

    def __init__(self, alive: Tensor) -> None:
        """Args: alive: bool (B, Z), at least one token per sample."""
        counts = alive.sum(1)
        most = int(counts.max())
        # stable: kept tokens stay in grid order
        self.index = alive.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
        ragged = bool((counts != most).any())
        self.valid = torch.arange(most, device=alive.device) < counts.unsqueeze(1) if ragged else None

    def gather(self, canvas: Tensor) -> Tensor:
        """(B, Z, C) -> (B, n, C)."""
        return canvas.gather(1, self.index.unsqueeze(-1).expand(-1, -1, canvas.shape[-1]))

    def run(self, block: TransformerBlock, tokens: Tensor) -> Tensor:
        """One MONAI ``TransformerBlock`` on the gathered tokens."""
        return block(tokens, attn_mask=self.valid)

    def scatter(self, canvas: Tensor, tokens: Tensor) -> Tensor:
        """``canvas`` with the living tokens replaced; a token that has left keeps the value it had."""
        index = self.index.unsqueeze(-1).expand(-1, -1, canvas.shape[-1])
        if self.valid is not None:
            tokens = torch.where(self.valid.unsqueeze(-1), tokens, canvas.gather(1, index))
        return canvas.scatter(1, index, tokens)
