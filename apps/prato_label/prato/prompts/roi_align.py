"""RoIAlign (He et al., Mask R-CNN, ICCV 2017) in plain torch, for 2D and 3D feature maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Sampling points along each axis of a bin, as in Mask R-CNN.
_SAMPLES = 2


def roi_align(features: Tensor, boxes: Tensor, sample: Tensor, k: int) -> Tensor:
    """Average the features under a k x k (x k) grid of bins laid over each box ("aligned" variant), with linear interpolation; beyond the
    border the edge values go on.

    Args:
        features: (B, C, *grid), 2 or 3 grid axes; the centre of cell ``t`` lies at ``t + 0.5``.
        boxes: (N, 2, D) start and stop in cells of the grid, D = number of grid axes.
        sample: int64 (N,), which feature map each box belongs to.
        k: bins along each axis.

    Returns:
        (N, C, k, ..., k) in the dtype of ``features``.
    """
    dims = features.ndim - 2
    points = k * _SAMPLES
    unit = (torch.arange(points, dtype=features.dtype, device=features.device) + 0.5) / points
    boxes = boxes.to(features.dtype)
    along = boxes[:, 0, :, None] + (boxes[:, 1] - boxes[:, 0])[:, :, None] * unit  # (N, D, points), in cells
    # grid_sample's coordinates with align_corners=False
    along = torch.stack([2.0 * along[:, a] / cells - 1.0 for a, cells in enumerate(features.shape[2:])], dim=1)
    mesh = [along[:, a].reshape(-1, *(points if i == a else 1 for i in range(dims))) for a in range(dims)]
    mesh = [m.expand(-1, *(points,) * dims) for m in mesh]
    # grid_sample wants the fastest axis first
    where = torch.stack(mesh[::-1], dim=-1)
    sampled = F.grid_sample(features[sample], where, mode="bilinear", padding_mode="border", align_corners=False)
    pool = F.avg_pool2d if dims == 2 else F.avg_pool3d
    return pool(sampled, _SAMPLES)
