"""Cells of two by two tokens (by two), the neighbourhoods that several methods look at."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scripts.research.baselines.merged_tokens import join


def token_cells(grid: tuple[int, ...], device: torch.device) -> Tensor:
    """int64 (cells, 2**D): the places of the tokens of each cell that lies wholly on ``grid``, in the order of the grid."""
    places = torch.arange(math.prod(grid), device=device).view(grid)
    for axis in range(len(grid)):
        places = places.unfold(axis, 2, 2)
    return places.flatten(len(grid)).flatten(0, -2)


def join_cells(cells: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """As ``merged_tokens.join`` of ``n`` tokens: those of each of ``cells`` (B, m, 2**D) go into the first of them."""
    first, others = cells[..., :1], cells[..., 1:]
    return join(others.flatten(1), first.expand_as(others).flatten(1), n)
