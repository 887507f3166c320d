"""What a network says of a part of its pixels, read at the centres of the voxels of the image that it was given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prato.runtime.region_decode import RegionFeatures


def read_at_voxels(maps: RegionFeatures, pixels: Sequence[int], native: Sequence[int]) -> tuple[Tensor, tuple[slice, slice]]:
    """Maps of a region of the network's input, read at the centres of an image's voxels.

    Args:
        maps: (K, C, *cells), of an input of ``pixels`` and perhaps some more that were added at the ends.
        native: the image's voxels along the same axes.

    Returns:
        (K, C, x, y), bilinear, and which voxels these are: those whose centres lie in the region.
    """
    region = maps.region
    if region.is_whole:  # products with matrices that are mostly zeros pay for small parts alone
        whole = F.interpolate(maps.values[:, :, : pixels[0], : pixels[1]], size=tuple(native), mode="bilinear", align_corners=False)
        return whole, (slice(0, native[0]), slice(0, native[1]))
    stop = [min(b, n) for b, n in zip(region.stop, pixels)]
    (rows, x), (columns, y) = (interpolation_matrix(*bounds) for bounds in zip(native, pixels, region.start, stop))
    values = maps.values[:, :, : rows.shape[1], : columns.shape[1]]
    return rows.to(values.device) @ values @ columns.T.to(values.device), (x, y)


def interpolation_matrix(count: int, size: int, start: int, stop: int) -> tuple[Tensor, slice]:
    """Linear interpolation along one axis, from pixels ``start`` to ``stop`` (half-open) out of ``size`` to voxels out of ``count``.

    Both grids cover the same length, as with ``align_corners=False``; at the ends the last pixel goes on.

    Returns:
        float32 (voxels, stop - start), whose product with the pixels' values is the voxels' values, and which voxels these are: those whose
        centres lie in the pixels.
    """
    at = (np.arange(count) + 0.5) * size / count - 0.5 - start
    (inside,) = np.nonzero((at >= -0.5) & (at < stop - start - 0.5))
    at = at[inside].clip(0, stop - start - 1)
    low, rows = np.floor(at).astype(int), np.arange(len(at))
    matrix = np.zeros((len(at), stop - start), np.float32)
    matrix[rows, (low + 1).clip(max=stop - start - 1)] = at - low
    matrix[rows, low] += 1 - (at - low)
    first = int(inside[0]) if len(inside) else 0
    return torch.from_numpy(matrix), slice(first, first + len(at))
