"""The tokens that still take part, the same number in every sample, over a canvas on which a token that left keeps the value it had."""

from __future__ import annotations

import torch
from torch import Tensor

from prato.pruning.record import StageRecord


def top(score: Tensor, count: int) -> Tensor:
    """int64 (B, count): places of the highest scores (B, n), in ascending order; among equal scores the first place wins."""
    order = score.argsort(dim=1, descending=True, stable=True)[:, :count]
    return order.sort(dim=1).values


def take(values: Tensor, places: Tensor) -> Tensor:
    """Rows ``places`` (B, k) of ``values`` (B, n, C): (B, k, C)."""
    return values.gather(1, places.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def put(canvas: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """``canvas`` (B, n, C) with its rows ``places`` (B, k) replaced by ``values`` (B, k, C)."""
    return canvas.scatter(1, places.unsqueeze(-1).expand(-1, -1, canvas.shape[-1]), values.to(canvas.dtype))


def mark(places: Tensor, count: int) -> Tensor:
    """bool (B, count): which of ``count`` tokens are at ``places`` (B, k)."""
    return torch.zeros(len(places), count, dtype=torch.bool, device=places.device).scatter(1, places, True)


class TokenBuffer:
    """The living tokens of a (B, Z, C) canvas.

    Attributes:
        tokens: (B, n, C), in grid order; blocks replace them.
        index: int64 (B, n), their places on the grid.
    """

    def __init__(self, canvas: Tensor) -> None:
        self.canvas, self.tokens = canvas, canvas
        self.index = torch.arange(canvas.shape[1], device=canvas.device).expand(canvas.shape[:2])

    @property
    def restored(self) -> Tensor:
        """(B, Z, C): living tokens as they are, the others as they were when they left."""
        return put(self.canvas, self.index, self.tokens)

    def keep(self, places: Tensor) -> None:
        """Let only the tokens at ``places`` (B, k) among the living go on."""
        self.canvas = self.restored
        self.tokens, self.index = take(self.tokens, places), self.index.gather(1, places)

    def record(self, number: int, grid: tuple[int, ...], score: Tensor, before: Tensor) -> StageRecord:
        """What the stage at block ``number`` did whose ``score`` (B, m) was of the tokens at ``before`` (B, m) on the grid."""
        nothing = score.new_zeros(self.canvas.shape[:2])
        return StageRecord(f"block {number}", grid, nothing.scatter(1, before, score), mark(self.index, nothing.shape[1]))
