"""The box as one more input channel: how a method that knows no prompts is told what PrATo is told."""

from __future__ import annotations

import torch
from torch import Tensor

from prato.prompts.box_prompts import BoxPrompts


def with_box(image: Tensor, prompts: BoxPrompts | None) -> Tensor:
    """``image`` (B, C, *size) and a last channel: 1 where a pixel's middle lies in a box of its sample, 0 elsewhere and without a box."""
    mask = torch.zeros(len(image), *image.shape[2:], dtype=torch.bool, device=image.device)
    if prompts is not None:
        for box, sample in zip(prompts.boxes.to(image.device), prompts.sample.tolist()):
            inside = torch.ones_like(mask[0])
            for axis, count in enumerate(mask.shape[1:]):
                middle = torch.arange(count, device=image.device) + 0.5
                along = (middle >= box[0, axis]) & (middle < box[1, axis])
                inside &= along.view(-1, *[1] * (mask.ndim - 2 - axis))
            mask[sample] |= inside
    return torch.cat((image, mask.unsqueeze(1).to(image.dtype)), dim=1)
