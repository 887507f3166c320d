"""The overview, a coarse look at the whole stack of slices: tokens of 8 pixels that tell the rest of a network what they show."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prato.runtime.region import Region

#: Pixels of the network's input along the edge of a token of the overview, and of one that its transformer looks at.
TOKEN, COARSE = 8, 16
#: Coarse tokens round a part of the slices that its own depend on, through the convolutions before and after the transformer.
_RIM = 2
#: Keys and values (B * S, heads, N, C / heads) of the tokens that a transformer block attends to.
KeysValues = tuple[Tensor, Tensor]


class SliceAttention(nn.Module):
    """Attention along a stack: each token attends to those at its place in all slices. Zero-initialised, it changes nothing at first.

    Args:
        dim: token width. heads: attention heads.
    """

    #: Distances between slices, in slices, that have a bias of their own; farther ones share the last.
    REACH = 8
    #: Scores that are held at once where no gradient is wanted: 16 MiB, however long the stack.
    MAX_SCORES = 2**22

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros(heads, self.REACH + 1))
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (B, S, N, C): B stacks of S slices of N tokens each; the same shape."""
        batch, slices, count, _ = x.shape
        if torch.is_grad_enabled() or batch * count * self.heads * slices**2 <= self.MAX_SCORES:
            return self._attend(x)
        places = max(1, self.MAX_SCORES // (batch * self.heads * slices**2))  # places know nothing of one another
        return torch.cat([self._attend(part) for part in x.split(places, 2)], 2)

    def _attend(self, x: Tensor) -> Tensor:
        batch, slices, count, dim = x.shape
        q, k, v = self.qkv(self.norm(x)).view(batch, slices, count, 3, self.heads, -1).permute(3, 0, 2, 4, 1, 5).unbind()
        places = torch.arange(slices, device=x.device)
        distance = (places.unsqueeze(0) - places.unsqueeze(1)).abs().clamp_max(self.REACH)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + self.bias[:, distance]
        mixed = _softmax(scores).to(v.dtype) @ v  # (B, N, heads, S, C / heads)
        return x + self.proj(mixed.permute(0, 3, 1, 2, 4).reshape(batch, slices, count, dim))


class OverviewBlock(nn.Module):
    """A pre-norm transformer block on the tokens of whole slices, with attention along the stack before the MLP."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.along = SliceAttention(dim, heads)
        self.linear1, self.linear2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor, elsewhere: KeysValues | None = None) -> tuple[Tensor, KeysValues]:
        """``x`` (B, S, N, C); the same shape, and the keys and values of ``x``.

        Args:
            elsewhere: of other places in the slices, to which these attend, too.
        """
        batch, slices, count, dim = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch * slices, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()
        mixed = (
            _attention(q, k, v) if elsewhere is None else _attention(q, torch.cat([k, elsewhere[0]], 2), torch.cat([v, elsewhere[1]], 2))
        )
        x = x + self.proj(mixed.transpose(1, 2).reshape(batch, slices, count, dim))
        x = self.along(x)
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x)))), (k, v)


def _softmax(scores: Tensor) -> Tensor:
    """Softmax along the last axis. On a CPU torch's own is slow where that is no longer than a stack has slices."""
    if scores.device.type != "cpu" or torch.is_grad_enabled():
        return scores.softmax(-1)
    weights = (scores - scores.amax(-1, keepdim=True)).exp_()
    return weights.div_(weights.sum(-1, keepdim=True))


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if q.device.type != "cpu" or not q.requires_grad:
        return F.scaled_dot_product_attention(q, k, v)
    with torch.autocast("cpu", enabled=False):  # there, the gradient takes twice as long in bfloat16
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float())


def _cut(grid: Tensor, place: Region) -> Tensor:
    """The part ``place`` of ``grid`` (B, S, h, w, ...), a view."""
    return grid[:, :, place.slices[0], place.slices[1]]


class OverviewMemory(NamedTuple):
    """What an overview made of stacks (B, S, ...), for others that differ from them in a part of the slices alone.

    Attributes:
        tokens: (B, S, h, w, dim), as :meth:`Overview.forward` returns them.
        coarse: (B, S, h / 2, w / 2, dim), those of the last transformer block.
        part: where others differ, on the grid of coarse tokens.
        elsewhere: of each block, outside of ``part``.
    """

    tokens: Tensor
    coarse: Tensor
    part: Region
    elsewhere: tuple[KeysValues, ...]


class Overview(nn.Module):
    """Tokens of a whole stack on a grid of 8 pixels, from the slices at half their resolution.

    Convolutions reduce the slices to tokens of 16 pixels, transformer blocks let these attend to their own slice and, at their own place,
    to all others; the result joins the convolutions' features of 8 pixels. There are no absolute positions: a depth-wise convolution
    tells neighbours apart, so that slices may have any size.

    Args:
        dim: token width. heads, depth: of the transformer.
    """

    def __init__(self, dim: int = 96, heads: int = 4, depth: int = 4) -> None:
        super().__init__()

        def down(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.GELU())

        self.down1, self.down2, self.down3 = down(1, dim // 4), down(dim // 4, dim // 2), down(dim // 2, dim)
        self.place = nn.Conv2d(dim, dim, 3, 1, 1, groups=dim)
        self.blocks = nn.ModuleList(OverviewBlock(dim, heads) for _ in range(depth))
        self.up, self.skip = nn.Linear(dim, dim), nn.Conv2d(dim // 2, dim, 1)
        self.mix = nn.Sequential(nn.Conv2d(dim, dim, 3, 1, 1, groups=dim), nn.GELU(), nn.Conv2d(dim, dim, 1))
        self.norm = nn.LayerNorm(dim)

    def forward(self, slices: Tensor) -> Tensor:
        """Tokens (B, S, h, w, dim) of ``slices`` (B, S, H, W) at half the network's resolution, H = 4 h and W = 4 w, even h and w."""
        fine, coarse = self._embed(slices)
        tokens = coarse.flatten(2, 3)
        for block in self.blocks:
            tokens, _ = block(tokens)
        return self._refine(fine, tokens.view_as(coarse))

    def remember(self, slices: Tensor, choose: Callable[[Tensor], Region]) -> OverviewMemory:
        """What :meth:`forward` makes of ``slices`` (B, S, H, W), and what :meth:`update` needs of it.

        Args:
            choose: given the tokens (B, S, h, w, dim), says in which part others will differ, on a grid of 16 pixels.
        """
        fine, coarse = self._embed(slices)
        tokens, attended = coarse.flatten(2, 3), []
        for block in self.blocks:
            tokens, keys_values = block(tokens)
            attended.append(keys_values)
        coarse = tokens.view_as(coarse)
        found = self._refine(fine, coarse)
        part = choose(found)
        kept = part.outside(slices.device).flatten()
        return OverviewMemory(found, coarse, part, tuple((keys[:, :, kept], values[:, :, kept]) for keys, values in attended))

    def update(self, slices: Tensor, memory: OverviewMemory) -> Tensor:
        """Tokens, as of :meth:`forward`, of ``slices`` (B, S, H, W) like those of ``memory``, computed anew in its ``part`` alone.

        There they attend to what is remembered of all other places, whose tokens are the remembered ones.
        """
        part = memory.part
        rim, next_to = part.dilate(_RIM), part.dilate(1)
        fine, coarse = self._embed(_cut(slices, rim.upscale(COARSE // 2)))
        tokens = _cut(coarse, part.relative_to(rim)).flatten(2, 3)
        for block, elsewhere in zip(self.blocks, memory.elsewhere):
            tokens, _ = block(tokens, elsewhere)
        coarse, found = _cut(memory.coarse, next_to).clone(), memory.tokens.clone()
        _cut(coarse, part.relative_to(next_to)).copy_(tokens.unflatten(2, part.cells))
        rows, columns = next_to.relative_to(rim).upscale().slices
        refined = self._refine(fine[:, :, rows, columns], coarse)
        _cut(found, part.upscale()).copy_(_cut(refined, part.relative_to(next_to).upscale()))
        return found

    def _embed(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """The convolutions' features of 8 pixels, (B * S, dim / 2, h, w), and coarse tokens (B, S, h / 2, w / 2, dim)."""
        fine = self.down2(self.down1(slices.flatten(0, 1).unsqueeze(1)))
        x = self.down3(fine)
        x = x + self.place(x)
        return fine, x.permute(0, 2, 3, 1).unflatten(0, slices.shape[:2])

    def _refine(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Tokens (B, S, h, w, dim) of what :meth:`_embed` returns, after the transformer."""
        wide = self.up(coarse).flatten(0, 1).permute(0, 3, 1, 2)
        x = self.skip(fine) + F.interpolate(wide, size=fine.shape[2:], mode="bilinear", align_corners=False)
        x = x + self.mix(x)
        return self.norm(x.permute(0, 2, 3, 1)).unflatten(0, coarse.shape[:2])
