"""What another scanner, or a patient who moves, does to slices of some stacks of a batch: thickness, blur, resolution, ghosts, noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def change_some(image: Tensor, amount: Tensor, change: Callable[..., Tensor], *also: Tensor) -> Tensor:
    """``change`` of ``image`` (B, K, H, W) by an ``amount`` (B, 1, 1, 1) of which 0 changes nothing, and by what else it needs (B, ...).

    On a CPU, asking which stacks are to be changed costs less than changing all.
    """
    if image.device.type != "cpu":
        return change(image, amount, *also)
    some = amount.flatten().nonzero().flatten()
    return image if len(some) == 0 else image.index_copy(0, some, change(image[some], amount[some], *(each[some] for each in also)))


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


def ghosted(image: Tensor, strength: Tensor, move: Tensor) -> Tensor:
    """The mean of ``image`` (B, K, H, W) and of two copies beside it, as a patient who moves leaves them.

    Args:
        strength: (B, 1, 1, 1), of either copy; that of the image is 1. move: int64 (B, 2, 2), pixels by which either lies lower and further
            right; what leaves the slice on one side comes in on the other.
    """
    rows, columns = (torch.arange(edge, device=image.device) for edge in image.shape[2:])
    batch, stacks = torch.arange(len(image), device=image.device).view(-1, 1, 1), image.permute(0, 2, 3, 1)
    copies = []
    for down, right in move.unbind(1)[0].unbind(1), move.unbind(1)[1].unbind(1):
        at = (rows - down.unsqueeze(1)) % len(rows), (columns - right.unsqueeze(1)) % len(columns)
        copies.append(stacks[batch, at[0].unsqueeze(2), at[1].unsqueeze(1)])
    return (image + strength * (copies[0] + copies[1]).permute(0, 3, 1, 2)) / (1 + 2 * strength)


def noisy(image: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """The magnitude of ``image`` with ``noise``, both (B, K, H, W), the latter times ``sigma`` (B, 1, 1, 1)."""
    return (image + sigma * noise).abs()


def bent(image: Tensor, gamma: Tensor) -> Tensor:
    """``image`` (B, K, H, W) to the power of ``gamma`` (B, 1, 1, 1), of which 0 changes nothing."""
    return image.clamp_min(1e-4) ** torch.where(gamma > 0, gamma, 1)


def rescaled(image: Tensor, chosen: Tensor) -> Tensor:
    """The stacks of ``image`` (B, K, H, W) that are ``chosen`` (B, 1, 1, 1; not 0), from the 0.5 to the 99.5 percentile as 0 to 1."""
    some = image.flatten(1)[:, ::7].sort(1).values
    low, high = (some[:, round(share * (some.shape[1] - 1))].view(-1, 1, 1, 1) for share in (0.005, 0.995))
    return torch.where(chosen > 0, (image - low) / (high - low).clamp_min(1e-3), image)
