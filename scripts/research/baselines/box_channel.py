"""The box as one more input channel: how a method that knows no prompts is told what PrATo is told."""

from __future__ import annotations

import torch
from torch import Tensor

from prato.prompts.batch import PromptBatch


def with_box(image: Tensor, prompts: PromptBatch | None) -> Tensor:
    """``image`` (B, C, *size) and a last channel: 1 where a pixel's middle lies in a box of its sample, 0 elsewhere and without a box."""
    mask = None if prompts is None else prompts.guidance()
    if mask is None:
        mask = image.new_zeros(len(image), 1, *image.shape[2:])
    return torch.cat((image, mask.to(image)), dim=1)
