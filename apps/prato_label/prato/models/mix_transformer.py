"""The encoder stages of SegFormer (Mix Transformer), whole or on the living tokens alone.

Source: Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers", NeurIPS 2021. Written here because
the libraries that have it import torchvision, which not every build of torch can.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.layers import DropPath
from torch import Tensor, nn

from prato.pruning.straight_through import gated_softmax
from prato.pruning.tokens import PackedTokens, packed_attention

_EXPANSION = 4
_EPSILON = 1e-6


class MixBlock(nn.Module):
    """Self-attention with keys from a coarser grid, then an MLP that mixes neighbours with a depthwise convolution.

    Args:
        dim: channels. heads: of the attention. reduction: cells along an axis that become one key. drop_path: chance to skip, in training.
    """

    def __init__(self, dim: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.norm1, self.norm2 = nn.LayerNorm(dim, _EPSILON), nn.LayerNorm(dim, _EPSILON)
        self.query, self.key, self.value, self.project = (nn.Linear(dim, dim) for _ in range(4))
        if reduction > 1:
            self.reduce, self.reduce_norm = nn.Conv2d(dim, dim, reduction, reduction), nn.LayerNorm(dim)
        self.expand, self.contract = nn.Linear(dim, _EXPANSION * dim), nn.Linear(_EXPANSION * dim, dim)
        self.mix = nn.Conv2d(_EXPANSION * dim, _EXPANSION * dim, 3, padding=1, groups=_EXPANSION * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """``x`` (B, h, w, C) after the block; with a ``gate`` (B, h, w) of 0 and 1 only tokens with 1 are seen and change."""
        shown = x.new_ones(1) if gate is None else gate.unsqueeze(-1)
        normed = self.norm1(x)
        keys = self._reduced(normed * shown)
        bias = None if gate is None else F.max_pool2d(gate.unsqueeze(1), self.reduction).flatten(1)
        x = x + shown * self.drop_path(self._attended(normed.flatten(1, 2), keys, bias).view_as(x))
        hidden = self._mixed(self.expand(self.norm2(x)) * shown)
        return x + shown * self.drop_path(self.contract(F.gelu(hidden)))

    def run_dropping(self, x: Tensor, alive: Tensor) -> Tensor:
        """The same numbers, in evaluation, with the tokens ``alive`` (bool (B, h, w)) alone computed; the others keep their values."""
        canvas, kept = x.flatten(1, 2), PackedTokens(alive.flatten(1))
        tokens = kept.gather(canvas)
        normed = self.norm1(tokens)
        if self.reduction > 1:
            cells = PackedTokens(F.max_pool2d(alive.to(x.dtype).unsqueeze(1), self.reduction).flatten(1) > 0)
            windows = self._windows(kept.scatter(torch.zeros_like(canvas), normed).view_as(x))
            weight = self.reduce.weight.permute(0, 2, 3, 1).flatten(1)
            keys, counts = self.reduce_norm(F.linear(cells.gather(windows), weight, self.reduce.bias)), cells.counts
        else:
            keys, counts = normed, kept.counts
        q, k, v = (x.unflatten(-1, (self.heads, -1)) for x in (self.query(normed), self.key(keys), self.value(keys)))
        tokens = tokens + self.project(packed_attention(q, k, v, kept.counts, counts).flatten(1))
        hidden = self.expand(self.norm2(tokens))
        spread = kept.scatter(hidden.new_zeros(*canvas.shape[:2], hidden.shape[-1]), hidden)
        hidden = kept.gather(self._mixed(spread.unflatten(1, x.shape[1:3])).flatten(1, 2))
        return kept.scatter(canvas, tokens + self.contract(F.gelu(hidden))).view_as(x)

    def _attended(self, normed: Tensor, keys: Tensor, gate: Tensor | None) -> Tensor:
        """(B, n, C) of queries from ``normed`` (B, n, C) on ``keys`` (B, m, C), of which ``gate`` (B, m) are seen."""
        q, k, v = (
            layer(values).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, values in ((self.query, normed), (self.key, keys), (self.value, keys))
        )
        if gate is None:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = gated_softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, gate) @ v
        return self.project(mixed.transpose(1, 2).flatten(2))

    def _reduced(self, normed: Tensor) -> Tensor:
        """(B, h, w, C) -> keys (B, m, C)."""
        if self.reduction == 1:
            return normed.flatten(1, 2)
        return self.reduce_norm(self.reduce(normed.movedim(-1, 1)).flatten(2).transpose(1, 2))

    def _windows(self, values: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, m, r * r * C): what one key is made of."""
        r = self.reduction
        return values.unflatten(2, (-1, r)).unflatten(1, (-1, r)).transpose(2, 3).flatten(3).flatten(1, 2)

    def _mixed(self, hidden: Tensor) -> Tensor:
        return self.mix(hidden.movedim(-1, 1)).movedim(1, -1)


class MixStage(nn.Module):
    """Overlapping patch embedding, then blocks, then a layer norm.

    Args:
        source: channels that come in. dim: channels. patch: side of the embedded patch. stride: cells from one patch to the next.
        heads, reduction: of the blocks. drop_paths: one chance a block.
    """

    def __init__(self, source: int, dim: int, patch: int, stride: int, heads: int, reduction: int, drop_paths: list[float]) -> None:
        super().__init__()
        self.embed = nn.Conv2d(source, dim, patch, stride, padding=patch // 2)
        self.embed_norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(MixBlock(dim, heads, reduction, chance) for chance in drop_paths)
        self.norm = nn.LayerNorm(dim, _EPSILON)

    def embedded(self, x: Tensor) -> Tensor:
        """(B, source, H, W) -> tokens (B, h, w, dim)."""
        return self.embed_norm(self.embed(x).movedim(1, -1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, source, H, W) -> (B, dim, h, w)."""
        x = self.embedded(x)
        for block in self.blocks:
            x = block(x)
        return self.norm(x).movedim(-1, 1)
