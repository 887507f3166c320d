"""What another scanner, or a patient who moves, does to the slices of some stacks of a batch: thick slices, blur, lower resolution, ghosts, noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def change_some(image: Tensor, amount: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``change`` of ``image`` (B, K, H, W) by an ``amount`` (B, 1, 1, 1) of which 0 changes nothing.

    On a CPU, asking which stacks are to be changed costs less than changing all.
    """
    if image.device.type != "cpu":
        return change(image, amount)
    some = amount.flatten().nonzero().flatten()
    return image if len(some) == 0 else image.index_copy(0, some, change(image[some], amount[some]))


def mixed(image: Tensor, share: Tensor) -> Tensor:
    """``image`` (B, K, H, W) with a ``share`` (B, 1, 1, 1; 0 to 0.5) of either neighbour in every slice; edge slices are their own."""
    around = torch.cat([image[:, :1], image, image[:, -1:]], 1)
    return image * (1 - 2 * share) + share * (around[:, :-2] + around[:, 2:])


def coarsened(image: Tensor, share: Tensor) -> Tensor:
    """``image`` (B, K, H, W) and, for a ``share`` (B, 1, 1, 1; 0 to 1) of it, what is left of it at half the resolution."""
    coarse = F.interpolate(F.avg_pool2d(image, 2), size=image.shape[2:], mode="bilinear", align_corners=False)
    return torch.lerp(image, coarse, share)


def blurred(image: Tensor, sigma: Tensor, reach: int = 3) -> Tensor:
    """``image`` (B, K, H, W) under a Gaussian in plane of ``sigma`` (B, 1, 1, 1) pixels, cut off at ``reach``; zeros lie round it."""
    batch = image.shape[0]
    places = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    weights = torch.exp(-0.5 * (places / sigma.view(batch, 1).clamp_min(1e-3)) ** 2)
    weights = weights / weights.sum(1, keepdim=True)
    flat = image.permute(1, 0, 2, 3)  # the stacks as channels, each with its own kernel
    flat = F.conv2d(flat, weights.view(batch, 1, -1, 1), padding=(reach, 0), groups=batch)
    flat = F.conv2d(flat, weights.view(batch, 1, 1, -1), padding=(0, reach), groups=batch)
    return flat.permute(1, 0, 2, 3)


def ghosted(image: Tensor, move: Tensor, strength: Tensor) -> Tensor:
    """The mean of ``image`` (B, K, H, W) and of two copies beside it, as a patient who moves leaves them.

    Args:
        move: int64 (B, 2, 2), whole pixels down and to the right, of either copy. strength: (B, 2), of the copies; the image has 1.
    """
    found = []
    for stack, moves, weights in zip(image, move.tolist(), strength):
        copies = [torch.roll(stack, tuple(each), (1, 2)) * weight for each, weight in zip(moves, weights)]
        found.append((stack + copies[0] + copies[1]) / (1 + weights.sum()))
    return torch.stack(found)


def rescaled(image: Tensor) -> Tensor:
    """Each stack of ``image`` (B, K, H, W) as it is normalised before a network sees it: from its 0.5 to its 99.5 percentile, as 0 to 1."""
    some = image.flatten(1)[:, ::7].sort(1).values
    low, high = (some[:, round(share * (some.shape[1] - 1))].view(-1, 1, 1, 1) for share in (0.005, 0.995))
    return (image - low) / (high - low).clamp_min(1e-3)
