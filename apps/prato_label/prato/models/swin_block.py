"""The blocks of one Swin stage on the living tokens alone (2D and 3D)."""

from __future__ import annotations

import math
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

from prato.pruning.straight_through import masked_softmax
from prato.runtime.tensor_cache import cached_tensors

#: Bytes of the masks, and as many of the layouts; one mask of a 3D network may take tens of MB.
_MAX_BYTES = 64 * 2**20


@cached_tensors(_MAX_BYTES)
def _shift_mask(padded: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], device: torch.device) -> Tensor:
    """MONAI's mask of what a shifted window must not join; made once a size, as making it takes as long as a block."""
    with torch.inference_mode(False):
        return compute_mask(list(padded), window, shift, device)


def dense_swin_blocks(layer: BasicLayer, x: Tensor) -> Tensor:
    """All blocks of a MONAI stage on ``x`` (B, *grid, C), as the stage itself runs them, without its patch merging."""
    grid = tuple(x.shape[1:-1])
    window, shift = get_window_size(grid, layer.window_size, layer.shift_size)
    mask = _shift_mask(tuple(math.ceil(g / w) * w for g, w in zip(grid, window)), window, shift, x.device)
    for block in layer.blocks:
        x = block(x, mask)
    return x


def pruned_swin_blocks(layer: BasicLayer, x: Tensor, alive: Tensor, grid: tuple[int, ...]) -> Tensor:
    """All blocks of a MONAI stage on the living tokens alone; the others keep their values and are seen by nobody.

    Args:
        x: (B, *cells, C), a part of the grid that holds all living tokens, and begins and ends between two windows or where the grid ends.
        alive: bool (B, *cells), at least one True.
        grid: tokens along each axis of the whole grid.
    """
    count, cells = alive.shape[0], math.prod(x.shape[1:-1])
    places = alive.flatten().nonzero().squeeze(1)
    dense = len(places) == count * cells
    # a row for each living token, then one for the padding and one for whatever is dead
    rows = torch.full((count * cells,), len(places) + 1, device=x.device)
    rows[places] = torch.arange(len(places), device=x.device)
    rows = F.pad(rows.view(count, cells), (0, 1), value=len(places))
    canvas = x.flatten(0, -2)
    tokens = canvas if dense else canvas.index_select(0, places)
    block: Any
    for block in layer.blocks:
        tokens = _on_living(block, tokens, places, rows, _Windows(block, x.shape, grid, x.device))
    return (tokens if dense else canvas.index_copy(0, places, tokens)).view_as(x)


def masked_swin_blocks(layer: BasicLayer, x: Tensor, alive: Tensor, grid: tuple[int, ...]) -> Tensor:
    """The numbers of :func:`pruned_swin_blocks` with all tokens computed: no shape depends on which of them live. The same arguments."""
    count, cells = alive.shape[0], math.prod(x.shape[1:-1])
    tokens, living = x.flatten(0, -2), alive.flatten()
    places = torch.arange(count * cells, device=x.device)
    rows = F.pad(places.view(count, cells), (0, 1), value=count * cells)
    dead = F.pad(~living, (0, 1))
    block: Any
    for block in layer.blocks:
        changed = _on_living(block, tokens, places, rows, _Windows(block, x.shape, grid, x.device), dead)
        tokens = torch.where(living.unsqueeze(1), changed, tokens)
    return tokens.view_as(x)


def _on_living(
    block: SwinTransformerBlock, tokens: Tensor, places: Tensor, rows: Tensor, frame: _Windows, dead: Tensor | None = None
) -> Tensor:
    """One block on ``tokens`` (n, C).

    Args:
        tokens: the living ones. places: (n,), their cells, those of all samples in a row.
        rows: (B, cells + 1), for each cell its token, n for the padding and n + 1 for what is dead.
        dead: where all are given, bool (n + 1,), those that are no keys; the padding is one.
    """
    attention, n, heads = block.attn, len(tokens), block.attn.num_heads
    layout, slots = frame.layout()
    count, cells, size = len(rows), rows.shape[1] - 1, layout.shape[1]
    slot_rows = rows.index_select(1, layout.flatten()).view(-1, size)  # (T windows, N)
    back = (
        slots.index_select(0, places) if count == 1 else slots[places % cells] + places.div(cells, rounding_mode="floor") * layout.numel()
    )
    taken: Tensor | None = None
    if 2 * n < count * cells:  # the others are not worth what choosing costs
        used = (slot_rows < n).any(1)
        taken = used.nonzero().squeeze(1)
        slot_rows = slot_rows.index_select(0, taken)
        back = (used.cumsum(0) - 1)[back.div(size, rounding_mode="floor")] * size + back % size
    # two rows more: padding beyond the grid stays a key, as in MONAI; what is dead is masked
    qkv = attention.qkv(F.pad(block.norm1(tokens), (0, 0, 0, 2))).index_select(0, slot_rows.flatten())
    q, k, v = qkv.view(-1, size, 3, heads, tokens.shape[1] // heads).permute(2, 3, 0, 1, 4).contiguous().flatten(1, 2).unbind()
    scores = torch.bmm(q * attention.scale, k.transpose(1, 2)).view(heads, -1, size, size)  # SDPA takes twice as long on such small windows
    scores += _relative(attention, size)
    if frame.shifted:
        scores += _masks_of_windows(frame.shift_mask(), len(slot_rows), taken)
    if n < count * cells or dead is not None:  # a window of dead tokens alone, which nobody reads, must be no NaN
        gone = slot_rows > n if dead is None else dead[slot_rows]
        scores += (gone * (torch.finfo(scores.dtype).min / 2)).unsqueeze(1).to(scores.dtype)
    mixed = torch.bmm(scores.softmax(-1).to(v.dtype).flatten(0, 1), v).view(heads, -1, v.shape[2])
    tokens = tokens + attention.proj(mixed.transpose(0, 1).flatten(1).index_select(0, back))
    return tokens + block.mlp.linear2(block.mlp.fn(block.mlp.linear1(block.norm2(tokens))))  # no dropout


def _masks_of_windows(mask: Tensor, windows: int, taken: Tensor | None) -> Tensor:
    """The mask ``mask`` (a sample's windows, N, N) of a shift for the windows ``taken``, or all, of every sample: (T, N, N)."""
    if taken is not None:
        return mask[taken % len(mask)]
    return mask.repeat(windows // len(mask), 1, 1)


def relaxed_swin_block(block: SwinTransformerBlock, x: Tensor, keep: Tensor) -> Tensor:
    """The same numbers with every window computed, and a gradient to ``keep`` (B, *grid), which is 0 or 1 with a straight-through tail."""
    frame = _Windows(block, x.shape, tuple(x.shape[1:-1]), x.device)
    keys = frame.split(keep.unsqueeze(-1), outside=1.0).squeeze(-1)
    attention = block.attn
    windows = attention.qkv(frame.split(block.norm1(x), outside=0.0))
    q, k, v = windows.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    scores = (q * attention.scale) @ k.transpose(-2, -1) + _relative(attention, windows.shape[1]).transpose(0, 1)
    if frame.shifted:
        scores = (scores.unflatten(0, (-1, len(frame.shift_mask()))) + frame.shift_mask().unsqueeze(1)).flatten(0, 1)
    attended = attention.proj((masked_softmax(scores, keys) @ v).transpose(1, 2).flatten(2))
    gate = keep.unsqueeze(-1)
    x = x + gate * frame.join(attended)
    return x + gate * block.mlp(block.norm2(x))


@cached_tensors(_MAX_BYTES)
def _layout(
    cells: tuple[int, ...], padded: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """(windows, N): the cell in each slot of a window, or their number for padding; (cells,): each cell's slot, windows in a row."""
    count = math.prod(cells)
    with torch.inference_mode(False):
        numbers = torch.arange(count, device=device).view(1, *cells, 1)
        layout = _windows(numbers, padded, window, shift, count).squeeze(-1)
        flat = layout.flatten()
        slots = torch.empty(count + 1, dtype=torch.int64, device=device)
        slots[flat] = torch.arange(len(flat), device=device)
        return layout, slots[:-1].clone()


def _windows(x: Tensor, padded: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], outside: float) -> Tensor:
    """(B, *cells, C) -> (B * windows, N, C), padded with ``outside``, then shifted."""
    margins = [(0, p - g) for p, g in zip(padded, x.shape[1:-1])]
    x = F.pad(x, [0, 0, *(m for pair in reversed(margins) for m in pair)], value=outside)
    if any(shift):
        x = torch.roll(x, [-s for s in shift], tuple(range(1, x.ndim - 1)))
    return window_partition(x, window)


class _Windows:
    """Cuts a (B, *cells, C) part of a grid into a block's attention windows (padded, then shifted) and puts it together again."""

    def __init__(self, block: SwinTransformerBlock, shape: torch.Size, whole: tuple[int, ...], device: torch.device) -> None:
        self.batch, self.grid = shape[0], tuple(shape[1:-1])
        self.window, self.shift = get_window_size(whole, block.window_size, block.shift_size)
        self.padded = tuple(math.ceil(g / w) * w for g, w in zip(self.grid, self.window))
        self.shifted = any(self.shift)
        self.device = device

    def layout(self) -> tuple[Tensor, Tensor]:
        """See :func:`_layout`."""
        return _layout(self.grid, self.padded, tuple(self.window), tuple(self.shift), self.device)

    def split(self, x: Tensor, outside: float) -> Tensor:
        """(B, *grid, C) -> (B * windows, N, C); ``outside`` fills the padding."""
        return _windows(x, self.padded, self.window, self.shift, outside)

    def join(self, windows: Tensor) -> Tensor:
        """(B * windows, N, C) -> (B, *grid, C)."""
        x = window_reverse(windows.view(-1, *self.window, windows.shape[-1]), self.window, [self.batch, *self.padded])
        if self.shifted:
            x = torch.roll(x, list(self.shift), tuple(range(1, x.ndim - 1)))
        return x[(slice(None), *(slice(g) for g in self.grid))]

    def shift_mask(self) -> Tensor:
        """(windows of one sample, N, N): what the shift must not join."""
        return _shift_mask(self.padded, self.window, self.shift, self.device)


def _relative(attention: WindowAttention, n: int) -> Tensor:
    """(heads, 1, n, n): the relative position bias."""
    table: Any = attention.relative_position_index
    index = table[:n, :n].reshape(-1)
    return attention.relative_position_bias_table.index_select(0, index).t().reshape(-1, 1, n, n)
