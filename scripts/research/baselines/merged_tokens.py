"""Tokens that stand for one patch or more, the same number in every sample, and which of them holds a patch."""

from __future__ import annotations

import torch
from torch import Tensor

from prato.pruning.record import StageRecord
from scripts.research.baselines.token_buffer import mark, take, top


def join(leaving: Tensor, joins: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Where tokens go when those at ``leaving`` (B, k) go into those at ``joins`` (B, k), which stay.

    Returns:
        int64 (B, n), the place that each of ``n`` tokens takes among the tokens afterwards, and int64 (B, n - k), which tokens those are
        named after, in ascending order.
    """
    stays = ~mark(leaving, n)
    place = stays.cumsum(1) - 1
    return place.scatter(1, leaving, place.gather(1, joins)), top(stays.float(), n - leaving.shape[1])


def merge(tokens: Tensor, size: Tensor, to: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` tokens (B, count, C) that ``tokens`` (B, n, C) become, each the mean by ``size`` (B, n), and their sizes (B, count)."""
    total = size.new_zeros(len(size), count).scatter_add(1, to, size)
    weighted = tokens * size.unsqueeze(-1)
    summed = weighted.new_zeros(len(tokens), count, tokens.shape[-1]).scatter_add(1, to.unsqueeze(-1).expand_as(weighted), weighted)
    return summed / total.unsqueeze(-1), total


class MergedTokens:
    """The tokens that a (B, Z, C) canvas of patches has become.

    Attributes:
        tokens: (B, n, C); blocks replace them. size: (B, n), how many patches are in each.
    """

    def __init__(self, canvas: Tensor) -> None:
        self.tokens, self.size = canvas, canvas.new_ones(canvas.shape[:2])
        self._holder = torch.arange(canvas.shape[1], device=canvas.device).expand(canvas.shape[:2])  # by patch: which token it is in
        self._name = self._holder  # by token: the patch that it is named after

    @property
    def restored(self) -> Tensor:
        """(B, Z, C): every patch with the value of the token that holds it."""
        return take(self.tokens, self._holder)

    def merge(self, to: Tensor, stay: Tensor) -> None:
        """Merge the tokens as :func:`join` says; each weighs as much as the patches in it."""
        self.tokens, self.size = merge(self.tokens, self.size, to, stay.shape[1])
        self._holder, self._name = to.gather(1, self._holder), self._name.gather(1, stay)

    def record(self, number: int, grid: tuple[int, ...]) -> StageRecord:
        """What block ``number`` has merged: "relevance" is the size of the token that holds a patch; alive are the patches that a token is
        named after."""
        return StageRecord(f"block {number}", grid, self.size.gather(1, self._holder), mark(self._name, self._holder.shape[1]))
