"""Pruning while training: every token is computed, those that leave are gated by 0, and the relevance gets a gradient all the same."""

from __future__ import annotations

import torch
from monai.networks.blocks import TransformerBlock
from torch import Tensor


def straight_through_mask(relevance: Tensor, keep: Tensor, alive: Tensor, threshold: float | None, temperature: float) -> Tensor:
    """The 0/1 mask of ``keep`` as numbers that pass a gradient to ``relevance``, as a sigmoid of the distance to the cut.

    Args:
        relevance: (B, Z). keep: bool (B, Z), the tokens that stay. alive: bool (B, Z), those that were there before.
        threshold: on sigmoid(relevance); None where the cut lies between the lowest that stayed and the highest that left.
        temperature: slope of the sigmoid.
    """
    probability = torch.sigmoid(relevance)
    if threshold is not None:
        cut = torch.full_like(probability[:, :1], threshold)
    else:
        lowest_kept = probability.masked_fill(~keep, 2.0).amin(1, keepdim=True)
        highest_gone = probability.masked_fill(keep | ~alive, -1.0).amax(1, keepdim=True)
        cut = torch.where(highest_gone >= 0, (lowest_kept + highest_gone) / 2, lowest_kept - 1.0).detach()
    soft = torch.sigmoid((probability - cut) / temperature)
    return keep.to(soft.dtype) + (soft - soft.detach())


def masked_softmax(scores: Tensor, keep: Tensor) -> Tensor:
    """Softmax over keys, each weighted by ``keep``, with a gradient to ``keep``; a token always sees itself, so no row is empty.

    Args:
        scores: (B, heads, N, N).
        keep: (B, N), 1 for a key that takes part and 0 for one that does not (numbers, so that they may carry a gradient).

    Returns:
        (B, heads, N, N); with 0/1 ``keep`` the rows of living tokens equal the softmax over the living keys alone.

    Source: the attention relaxation of DynamicViT (Rao et al., NeurIPS 2021), without its smoothing term.
    """
    eye = torch.eye(keep.shape[1], device=scores.device)
    return _weighted_softmax(scores, (keep.unsqueeze(1) * (1 - eye) + eye).unsqueeze(1))


def gated_softmax(scores: Tensor, gate: Tensor) -> Tensor:
    """Softmax of ``scores`` (B, heads, n, m) over keys weighted by ``gate`` (B, m), at least one of it above 0, with a gradient to it."""
    return _weighted_softmax(scores, gate[:, None, None].float())


def gated_block(block: TransformerBlock, x: Tensor, gate: Tensor) -> Tensor:
    """Run a MONAI ``TransformerBlock`` on all of ``x`` (B, Z, C) while only tokens with ``gate`` (B, Z) take part and change."""
    attention = block.attn
    q, k, v = attention.input_rearrange(attention.qkv(block.norm1(x)))
    weight = attention.drop_weights(masked_softmax(q @ k.transpose(-2, -1) * attention.scale, gate))
    attended = attention.drop_output(attention.out_proj(attention.out_rearrange(weight @ v)))
    gate = gate.unsqueeze(-1)
    x = x + gate * attended
    return x + gate * block.mlp(block.norm2(x))


def _weighted_softmax(scores: Tensor, weights: Tensor) -> Tensor:
    dtype, scores = scores.dtype, scores.float()
    top = scores.masked_fill(weights.detach() <= 0, float("-inf")).amax(-1, keepdim=True).detach()
    # a removed key may score far above the living ones; unbounded, the gradient to its weight drowns all others (norms of 1e8 were seen)
    weight = torch.exp((scores - top).clamp_max(0.0)) * weights
    return (weight / weight.sum(-1, keepdim=True)).to(dtype)
