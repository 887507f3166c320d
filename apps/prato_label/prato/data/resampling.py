"""Slices as networks are given them: resampled to a fixed in-plane resolution, each between its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def resampled_size(shape: tuple[int, ...], spacing: tuple[float, ...], pixel: float) -> tuple[int, int]:
    """In-plane size in pixels of ``pixel`` mm of an image of ``shape`` voxels of ``spacing`` mm."""
    return max(1, round(shape[0] * spacing[0] / pixel)), max(1, round(shape[1] * spacing[1] / pixel))


def resample_in_plane(slices: Tensor, size: tuple[int, int]) -> Tensor:
    """Slices (K, X, Y) resampled to (K, *size), low-passed where that shrinks them."""
    if tuple(slices.shape[1:]) == size:
        return slices
    return F.interpolate(slices.unsqueeze(1), size=size, mode="bilinear", align_corners=False, antialias=True).squeeze(1)


def between_neighbours(slices: Tensor) -> Tensor:
    """Each slice of (Z, H, W) as :func:`stack_neighbours` has it: (Z, 3, H, W), without a copy of each neighbour."""
    return torch.cat([slices[:1], slices, slices[-1:]]).unfold(0, 3, 1).permute(0, 3, 1, 2)


def stack_neighbours(slices: Tensor, planes: Sequence[int]) -> Tensor:
    """Each slice ``k`` in ``planes`` of (Z, H, W) with the one before and after as channels (edge slices repeat): (K, 3, H, W)."""
    k = torch.as_tensor(list(planes), device=slices.device)
    return torch.stack([slices[(k + step).clamp(0, slices.shape[0] - 1)] for step in (-1, 0, 1)], dim=1)
