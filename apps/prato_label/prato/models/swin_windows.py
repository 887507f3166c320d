"""How the attention windows of a Swin block lie on the grid of its tokens (2D and 3D)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets.swin_unetr import compute_mask, get_window_size, window_partition, window_reverse
from torch import Tensor, nn

from prato.runtime.tensor_cache import cached_tensors

#: Bytes of the shift masks, and as many of the slots; one mask of a 3D network may take tens of MB.
_MAX_BYTES = 64 * 2**20


class SwinWindows:
    """The W windows of N slots each that a block cuts a grid of tokens, or a part of it, into.

    The grid is padded to whole windows and, in every second block, shifted: slots at its ends are padding, and windows there join what
    does not belong together. A *cell* is a place on the grid, a *slot* a place in the windows, both counted as their tensors lie.

    Args:
        block: MONAI's ``SwinTransformerBlock``, or its ``BasicLayer`` for those of its blocks that shift.
        grid: tokens along each axis of the stage's whole grid, by which MONAI chooses window and shift.
        cells: those along each axis of the part, which begins and ends between two windows or where the grid ends.
    """

    def __init__(self, block: nn.Module, grid: tuple[int, ...], cells: tuple[int, ...], device: torch.device) -> None:
        given: Any = block  # torch's modules do not say what type their attributes have
        window, shift = get_window_size(grid, given.window_size, given.shift_size)
        self.cells, self.device = cells, device
        self.window, self.shift = tuple(window), tuple(shift)
        self.padded = tuple(math.ceil(c / w) * w for c, w in zip(cells, self.window))

    @property
    def is_shifted(self) -> bool:
        """Whether the windows of this block are shifted."""
        return any(self.shift)

    def shift_mask(self) -> Tensor:
        """(W, N, N): 0, and far below it between slots that the shift brought together."""
        return _shift_mask(self.padded, self.window, self.shift, self.device)

    def slots(self) -> tuple[Tensor, Tensor]:
        """``cell_of_slot`` (W, N), the number of cells for padding; ``slot_of_cell`` (cells,), counting on from window to window."""
        return _slots(self.cells, self.padded, self.window, self.shift, self.device)

    def split(self, x: Tensor, outside: float) -> Tensor:
        """(B, *cells, C) -> (B * W, N, C); ``outside`` fills the padding."""
        return _split(x, self.padded, self.window, self.shift, outside)

    def join(self, windows: Tensor) -> Tensor:
        """(B * W, N, C) -> (B, *cells, C): what :meth:`split` cut, without the padding."""
        batch = len(windows) * math.prod(self.window) // math.prod(self.padded)
        x = window_reverse(windows.view(-1, *self.window, windows.shape[-1]), self.window, [batch, *self.padded])
        if self.is_shifted:
            x = torch.roll(x, self.shift, tuple(range(1, x.ndim - 1)))
        return x[(slice(None), *(slice(c) for c in self.cells))]


@cached_tensors(_MAX_BYTES)
def _shift_mask(padded: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], device: torch.device) -> Tensor:
    """MONAI's own; made once a size, as making it takes as long as a block."""
    with torch.inference_mode(False):
        return compute_mask(list(padded), window, shift, device)


@cached_tensors(_MAX_BYTES)
def _slots(
    cells: tuple[int, ...], padded: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """See :meth:`SwinWindows.slots`: found by splitting the numbers of the cells."""
    count = math.prod(cells)
    with torch.inference_mode(False):
        numbers = torch.arange(count, device=device).view(1, *cells, 1)
        cell_of_slot = _split(numbers, padded, window, shift, count).squeeze(-1)
        slot_of_cell = torch.empty(count + 1, dtype=torch.int64, device=device)
        slot_of_cell[cell_of_slot.flatten()] = torch.arange(cell_of_slot.numel(), device=device)
        return cell_of_slot, slot_of_cell[:-1].clone()


def _split(x: Tensor, padded: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], outside: float) -> Tensor:
    margins = [(0, p - c) for p, c in zip(padded, x.shape[1:-1])]
    x = F.pad(x, [0, 0, *(m for pair in reversed(margins) for m in pair)], value=outside)
    if any(shift):
        x = torch.roll(x, [-s for s in shift], tuple(range(1, x.ndim - 1)))
    return window_partition(x, window)
