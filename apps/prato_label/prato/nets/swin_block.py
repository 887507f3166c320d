"""One Swin transformer block in which windows without a living token are skipped (2D and 3D)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets.swin_unetr import (
    BasicLayer,
    SwinTransformerBlock,
    WindowAttention,
    compute_mask,
    get_window_size,
    window_partition,
    window_reverse,
)
from torch import Tensor

from prato.attention import masked_softmax


@lru_cache(maxsize=64)
def _joined(padded: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], device: torch.device) -> Tensor:
    """MONAI's mask of what a shifted window must not join; made once a size, as making it takes as long as a block."""
    with torch.inference_mode(False):
        return compute_mask(list(padded), window, shift, device)


def dense_swin_blocks(layer: BasicLayer, x: Tensor) -> Tensor:
    """All blocks of a MONAI stage on ``x`` (B, *grid, C), as the stage itself runs them, without its patch merging."""
    grid = tuple(x.shape[1:-1])
    window, shift = get_window_size(grid, layer.window_size, layer.shift_size)
    joined = _joined(tuple(math.ceil(g / w) * w for g, w in zip(grid, window)), window, shift, x.device)
    for block in layer.blocks:
        x = block(x, joined)
    return x


def pruned_swin_block(block: SwinTransformerBlock, x: Tensor, alive: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Run ``block`` on the living tokens alone; the others keep their values and are seen by nobody.

    Args:
        x: (B, *cells, C), a part of the grid that holds all living tokens, and begins and ends between two windows or where the grid ends.
        alive: bool (B, *cells).
        grid: tokens along each axis of the whole grid.
    """
    frame = _Windows(block, x.shape, grid, x.device)
    taken = frame.split(alive.unsqueeze(-1), outside=False).squeeze(-1).any(1).nonzero().squeeze(1)
    # padding beyond the grid stays a key, as in MONAI
    keys = frame.split(alive.unsqueeze(-1), outside=True).squeeze(-1)[taken]
    windows = frame.split(block.norm1(x), outside=0.0)
    blocked = torch.zeros_like(keys, dtype=x.dtype).masked_fill(~keys, float("-inf")).view(len(taken), 1, 1, -1)
    # a window may hold padding alone besides dead tokens, never dead tokens alone: its rows have a key each
    bias = frame.bias(block.attn)[taken % frame.per_sample if frame.shifted else torch.zeros_like(taken)] + blocked
    q, k, v = _qkv(block.attn, windows[taken])
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0).transpose(1, 2).flatten(2)
    update = torch.zeros_like(windows).index_copy(0, taken, block.attn.proj(attended).to(windows.dtype))
    x = torch.where(alive.unsqueeze(-1), x + frame.join(update), x)
    living = x[alive]
    return x.masked_scatter(alive.unsqueeze(-1), living + block.mlp(block.norm2(living)))


def relaxed_swin_block(block: SwinTransformerBlock, x: Tensor, keep: Tensor) -> Tensor:
    """The same numbers with every window computed, and a gradient to ``keep`` (B, *grid), which is 0 or 1 with a straight-through tail."""
    frame = _Windows(block, x.shape, tuple(x.shape[1:-1]), x.device)
    keys = frame.split(keep.unsqueeze(-1), outside=1.0).squeeze(-1)
    q, k, v = _qkv(block.attn, frame.split(block.norm1(x), outside=0.0))
    scores = q @ k.transpose(-2, -1)
    bias = frame.bias(block.attn)
    scores = (scores.unflatten(0, (-1, len(bias))) + bias).flatten(0, 1)
    attended = block.attn.proj((masked_softmax(scores, keys) @ v).transpose(1, 2).flatten(2))
    gate = keep.unsqueeze(-1)
    x = x + gate * frame.join(attended)
    return x + gate * block.mlp(block.norm2(x))


class _Windows:
    """Cuts a (B, *cells, C) part of a grid into a block's attention windows (padded, then shifted) and puts it together again."""

    def __init__(self, block: SwinTransformerBlock, shape: torch.Size, whole: tuple[int, ...], device: torch.device) -> None:
        self.batch, self.grid = shape[0], tuple(shape[1:-1])
        self.window, self.shift = get_window_size(whole, block.window_size, block.shift_size)
        self.padded = tuple(math.ceil(g / w) * w for g, w in zip(self.grid, self.window))
        self.per_sample = math.prod(p // w for p, w in zip(self.padded, self.window))
        self.shifted = any(self.shift)
        self.axes = tuple(range(1, 1 + len(self.grid)))
        self.device = device

    def split(self, x: Tensor, outside: float | bool) -> Tensor:
        """(B, *grid, C) -> (B * windows, N, C); ``outside`` fills the padding."""
        margins = [(0, p - g) for p, g in zip(self.padded, self.grid)]
        x = F.pad(x, [0, 0, *(m for pair in reversed(margins) for m in pair)], value=outside)
        if self.shifted:
            x = torch.roll(x, [-s for s in self.shift], self.axes)
        return window_partition(x, self.window)

    def join(self, windows: Tensor) -> Tensor:
        """(B * windows, N, C) -> (B, *grid, C)."""
        x = window_reverse(windows.view(-1, *self.window, windows.shape[-1]), self.window, [self.batch, *self.padded])
        if self.shifted:
            x = torch.roll(x, list(self.shift), self.axes)
        return x[(slice(None), *(slice(g) for g in self.grid))]

    def bias(self, attention: WindowAttention) -> Tensor:
        """(windows of one sample, or 1 when nothing is shifted; heads; N; N): relative position bias, and what the shift must not join."""
        n = math.prod(self.window)
        table: Any = attention.relative_position_index
        index = table[:n, :n].reshape(-1)
        bias = attention.relative_position_bias_table[index].view(1, n, n, -1).permute(0, 3, 1, 2)
        if self.shifted:
            bias = bias + _joined(self.padded, self.window, self.shift, self.device).unsqueeze(1)
        return bias


def _qkv(attention: WindowAttention, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (already scaled), keys and values, each (windows, heads, N, C / heads)."""
    q, k, v = attention.qkv(windows).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    return q * attention.scale, k, v
