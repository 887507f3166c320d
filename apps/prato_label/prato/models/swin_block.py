"""The blocks of one Swin stage, with all tokens or on the living ones alone (2D and 3D).

Where tokens are dropped, those that are computed are packed into rows, and a token has three numbers: its *cell* on the grid, its *row*
among the packed tokens, and, other in every block, its *slot* in the attention windows. ``slot_of_row`` is a tensor that holds, for
every row, its slot; and so on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets.swin_unetr import BasicLayer, SwinTransformerBlock, WindowAttention
from torch import Tensor

from prato.models.swin_windows import SwinWindows
from prato.pruning.straight_through import masked_softmax


def dense_swin_blocks(layer: BasicLayer, x: Tensor) -> Tensor:
    """All blocks of a MONAI stage on ``x`` (B, *grid, C), as the stage itself runs them, without its patch merging."""
    grid = tuple(x.shape[1:-1])
    mask = SwinWindows(layer, grid, grid, x.device).shift_mask()
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
    packed = _PackedCells.living(alive)
    canvas = x.flatten(0, -2)  # (B * cells, C)
    tokens = canvas if packed.holds_all else canvas.index_select(0, packed.cell_of_row)  # (n, C)
    for block in layer.blocks:
        tokens = _run_packed(block, tokens, packed.place(SwinWindows(block, grid, tuple(x.shape[1:-1]), x.device)))
    return (tokens if packed.holds_all else canvas.index_copy(0, packed.cell_of_row, tokens)).view_as(x)


def masked_swin_blocks(layer: BasicLayer, x: Tensor, alive: Tensor, grid: tuple[int, ...]) -> Tensor:
    """The numbers of :func:`pruned_swin_blocks` with all tokens computed: no shape depends on which of them live. The same arguments."""
    packed = _PackedCells.all(alive)
    tokens, living = x.flatten(0, -2), alive.reshape(-1, 1)
    for block in layer.blocks:
        changed = _run_packed(block, tokens, packed.place(SwinWindows(block, grid, tuple(x.shape[1:-1]), x.device)))
        tokens = torch.where(living, changed, tokens)
    return tokens.view_as(x)


def relaxed_swin_block(block: SwinTransformerBlock, x: Tensor, keep: Tensor) -> Tensor:
    """The same numbers with every window computed, and a gradient to ``keep`` (B, *grid), which is 0 or 1 with a straight-through tail."""
    grid = tuple(x.shape[1:-1])
    windows = SwinWindows(block, grid, grid, x.device)
    keys = windows.split(keep.unsqueeze(-1), outside=1.0).squeeze(-1)
    attention = block.attn
    qkv = attention.qkv(windows.split(block.norm1(x), outside=0.0))  # (B * W, N, 3C)
    q, k, v = qkv.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)  # each (B * W, heads, N, d)
    scores = (q * attention.scale) @ k.transpose(-2, -1) + _position_bias(attention, qkv.shape[1]).transpose(0, 1)
    if windows.is_shifted:
        mask = windows.shift_mask()
        scores = (scores.unflatten(0, (-1, len(mask))) + mask.unsqueeze(1)).flatten(0, 1)
    attended = attention.proj((masked_softmax(scores, keys) @ v).transpose(1, 2).flatten(2))
    gate = keep.unsqueeze(-1)
    x = x + gate * windows.join(attended)
    return x + gate * block.mlp(block.norm2(x))


@dataclass(frozen=True)
class _PackedCells:
    """Which cells have their tokens computed, and in which rows.

    Attributes:
        cell_of_row: (n,), counting on from sample to sample.
        row_of_cell: (B, cells + 1); the last column is the padding of the grid, row n; a cell whose token is not computed has row n + 1.
        is_dead: bool (n + 1,), rows that are computed but are no keys; None where all that are computed are living.
    """

    cell_of_row: Tensor
    row_of_cell: Tensor
    is_dead: Tensor | None = None

    @classmethod
    def living(cls, alive: Tensor) -> _PackedCells:
        """The living tokens' alone, of bool (B, *cells)."""
        cell_of_row = alive.flatten().nonzero().squeeze(1)
        row_of_cell = torch.full((alive.numel(),), len(cell_of_row) + 1, device=alive.device)
        row_of_cell[cell_of_row] = torch.arange(len(cell_of_row), device=alive.device)
        return cls(cell_of_row, F.pad(row_of_cell.view(len(alive), -1), (0, 1), value=len(cell_of_row)))

    @classmethod
    def all(cls, alive: Tensor) -> _PackedCells:
        """All of bool (B, *cells), those of dead tokens too."""
        cells = torch.arange(alive.numel(), device=alive.device)
        return cls(cells, F.pad(cells.view(len(alive), -1), (0, 1), value=len(cells)), F.pad(~alive.flatten(), (0, 1)))

    @property
    def holds_all(self) -> bool:
        """Whether every cell is computed."""
        return len(self.cell_of_row) == len(self.row_of_cell) * (self.row_of_cell.shape[1] - 1)

    def place(self, windows: SwinWindows) -> _PackedWindows:
        """Where the rows lie in a block's ``windows``."""
        cell_of_slot, slot_of_cell = windows.slots()
        size, batch, n = cell_of_slot.shape[1], len(self.row_of_cell), len(self.cell_of_row)
        row_of_slot = self.row_of_cell.index_select(1, cell_of_slot.flatten()).view(-1, size)  # (B * W, N)
        if batch == 1:
            slot_of_row = slot_of_cell.index_select(0, self.cell_of_row)
        else:
            sample = self.cell_of_row.div(len(slot_of_cell), rounding_mode="floor")
            slot_of_row = slot_of_cell[self.cell_of_row % len(slot_of_cell)] + sample * cell_of_slot.numel()
        mask = windows.shift_mask() if windows.is_shifted else None  # (W, N, N)
        if 2 * n < batch * len(slot_of_cell):  # else, windows without a token are not worth what choosing costs
            has_token = (row_of_slot < n).any(1)
            chosen = has_token.nonzero().squeeze(1)  # (T,)
            row_of_slot = row_of_slot.index_select(0, chosen)
            window = slot_of_row.div(size, rounding_mode="floor")
            slot_of_row = (has_token.cumsum(0) - 1)[window] * size + slot_of_row % size
            mask = None if mask is None else mask[chosen % len(mask)]
        elif mask is not None:
            mask = mask.repeat(batch, 1, 1)
        if self.is_dead is not None:
            return _PackedWindows(row_of_slot, slot_of_row, mask, self.is_dead[row_of_slot])
        return _PackedWindows(row_of_slot, slot_of_row, mask, None if self.holds_all else row_of_slot > n)


@dataclass(frozen=True)
class _PackedWindows:
    """T windows of N slots, of all samples, in which n packed tokens attend to each other.

    Attributes:
        row_of_slot: (T, N): n for the padding of the grid, n + 1 for a token that is not computed.
        slot_of_row: (n,), counting on from window to window.
        shift_mask: (T, N, N), to be added to the scores; None without a shift.
        is_dead: bool (T, N), slots that are no keys; None where every slot is one. Padding is one, as in MONAI.
    """

    row_of_slot: Tensor
    slot_of_row: Tensor
    shift_mask: Tensor | None
    is_dead: Tensor | None


def _run_packed(block: Any, tokens: Tensor, windows: _PackedWindows) -> Tensor:
    """One block on packed ``tokens`` (n, C)."""
    tokens = tokens + _attend(block.attn, block.norm1(tokens), windows)
    return tokens + block.mlp.linear2(block.mlp.fn(block.mlp.linear1(block.norm2(tokens))))  # no dropout


def _attend(attention: WindowAttention, tokens: Tensor, windows: _PackedWindows) -> Tensor:
    """Window attention (n, C) of packed, normed ``tokens`` (n, C)."""
    heads, size = attention.num_heads, windows.row_of_slot.shape[1]
    # two rows of zeros more: the padding, and whatever is not computed
    qkv = attention.qkv(F.pad(tokens, (0, 0, 0, 2))).index_select(0, windows.row_of_slot.flatten())  # (T * N, 3C)
    qkv = qkv.view(-1, size, 3, heads, tokens.shape[1] // heads).permute(2, 3, 0, 1, 4).contiguous()
    q, k, v = qkv.flatten(1, 2).unbind()  # each (heads * T, N, d)
    scores = torch.bmm(q * attention.scale, k.transpose(1, 2)).view(heads, -1, size, size)  # SDPA takes twice as long on such small windows
    scores += _position_bias(attention, size)
    if windows.shift_mask is not None:
        scores += windows.shift_mask
    if windows.is_dead is not None:  # not -inf: a window of dead tokens alone, which nobody reads, must be no NaN
        scores += (windows.is_dead * (torch.finfo(scores.dtype).min / 2)).unsqueeze(1).to(scores.dtype)
    mixed = torch.bmm(scores.softmax(-1).to(v.dtype).flatten(0, 1), v).view(heads, -1, v.shape[2])  # (heads, T * N, d)
    return attention.proj(mixed.transpose(0, 1).flatten(1).index_select(0, windows.slot_of_row))


def _position_bias(attention: WindowAttention, n: int) -> Tensor:
    """(heads, 1, n, n): the relative position bias."""
    table: Any = attention.relative_position_index
    index = table[:n, :n].reshape(-1)
    return attention.relative_position_bias_table.index_select(0, index).t().reshape(-1, 1, n, n)
