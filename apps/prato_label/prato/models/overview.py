"""The overview, a coarse look at the whole stack of slices: tokens of 8 pixels that say where the heart is, whatever the prompt."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prato.prompts.roi_align import roi_align
from prato.pruning.relevance import relevance

#: Pixels of the network's input along the edge of a token of the overview.
TOKEN = 8


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

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (B, S, N, C); the same shape."""
        batch, slices, count, dim = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch * slices, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()
        mixed = _attention(q, k, v)
        x = x + self.proj(mixed.transpose(1, 2).reshape(batch, slices, count, dim))
        x = self.along(x)
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


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
        batch, count = slices.shape[:2]
        x = self.down1(slices.flatten(0, 1).unsqueeze(1))
        fine = self.down2(x)
        x = self.down3(fine)
        x = x + self.place(x)
        grid = x.shape[2:]
        tokens = x.flatten(2).transpose(1, 2).view(batch, count, grid[0] * grid[1], -1)
        for block in self.blocks:
            tokens = block(tokens)
        wide = self.up(tokens).flatten(0, 1).transpose(1, 2).unflatten(2, grid)
        x = self.skip(fine) + F.interpolate(wide, size=fine.shape[2:], mode="bilinear", align_corners=False)
        x = x + self.mix(x)
        return self.norm(x.permute(0, 2, 3, 1)).unflatten(0, (batch, count))


class HeartRelevance(nn.Module):
    """Relevance of the overview's tokens (arXiv 2506.16369, eqs. 2-4), with a query of its own for the heart beside those of the box.

    The box's queries say what the prompted region looks like; the learned one says what hearts look like, and is all that is asked where
    there is no box. Whether a token lies in the box counts by one learned weight.

    Args:
        dim: token width. k: RoIAlign bins along each axis.
    """

    def __init__(self, dim: int, k: int = 5) -> None:
        super().__init__()
        self.k = k
        self.project_prompt, self.project_token = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        nn.init.orthogonal_(self.project_prompt.weight)
        self.project_token.weight.data.copy_(self.project_prompt.weight.data)
        self.heart = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.offset = nn.Parameter(torch.tensor(-2.0))
        self.inside = nn.Parameter(torch.zeros(()))
        self.prompt_scale = nn.Parameter(torch.tensor(0.1))

    def forward(self, tokens: Tensor, box: Tensor, has_box: Tensor) -> Tensor:
        """Logits of relevance (B, S, h, w).

        Args:
            tokens: (B, S, h, w, dim).
            box: (B, 2, 2), start and stop in pixels of the network's input; that of a stack without a box means nothing.
            has_box: bool (B,).
        """
        batch, slices, height, width = tokens.shape[:4]
        with torch.autocast(tokens.device.type, enabled=False):
            flat = tokens.float().flatten(0, 1)
            cells = (box / TOKEN).repeat_interleave(slices, 0)
            sample = torch.arange(len(flat), device=flat.device)
            regions = roi_align(flat.permute(0, 3, 1, 2), cells, sample, self.k).flatten(2).transpose(1, 2)
            # the tokens' projection is applied to what they are multiplied with, which are fewer
            queries, tokens = self.project_prompt(regions) @ self.project_token.weight, flat.flatten(1, 2)
            known = torch.ones(queries.shape[:2], dtype=torch.bool, device=flat.device)
            alive = torch.ones(tokens.shape[:2], dtype=torch.bool, device=flat.device)
            prompted = relevance(queries, tokens, known, alive).view(batch, slices, height, width)
            own = (tokens @ (self.heart @ self.project_token.weight)).view(batch, slices, height, width)
            given = has_box.view(-1, 1, 1, 1).float()
            return self.offset + own + given * (self.prompt_scale * prompted + self.inside * coverage(box, (height, width)).unsqueeze(1))


def coverage(box: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, *grid) in [0, 1]: the share of each token that ``box`` (B, 2, 2), in pixels, covers."""
    shares = []
    for axis, cells in enumerate(grid):
        start = torch.arange(cells, device=box.device, dtype=box.dtype) * TOKEN
        low, high = box[:, 0, axis, None], box[:, 1, axis, None]
        shares.append(((high.minimum(start + TOKEN) - low.maximum(start)) / TOKEN).clamp(0, 1))
    return shares[0].unsqueeze(2) * shares[1].unsqueeze(1)


def box_features(box: Tensor, has_box: Tensor, corner: Tensor, grid: tuple[int, int]) -> Tensor:
    """What a token may know of the prompt: (B, *grid, 6), zeros without a box.

    Its share in the box, its distances to the box's four sides in tokens (at most 4, divided by 4), and that there is a box.

    Args:
        box: (B, 2, 2), start and stop in pixels. has_box: bool (B,).
        corner: (B, 2), the grid's first pixel. grid: tokens along each axis.
    """
    seen = box - corner.unsqueeze(1)
    sides = []
    for axis, cells in enumerate(grid):
        middle = (torch.arange(cells, device=box.device, dtype=box.dtype) + 0.5) * TOKEN
        for side in (seen[:, 0, axis, None], seen[:, 1, axis, None]):
            line = ((middle - side) / (4 * TOKEN)).clamp(-1, 1)
            sides.append((line.unsqueeze(2) if axis == 0 else line.unsqueeze(1)).expand(-1, *grid))
    features = torch.stack([coverage(seen, grid), *sides, torch.ones_like(sides[0])], -1)
    return features * has_box.view(-1, 1, 1, 1).to(features.dtype)
