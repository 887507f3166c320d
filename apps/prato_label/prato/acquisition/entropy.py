"""How undecided the network is between its classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def mean_entropy(logits: Tensor, kept: Tensor) -> float:
    """Mean entropy of the predicted classes over the pixels in ``kept``, as a share of the largest there can be (0..1); 0 over none.

    Args:
        logits: (B, classes, H, W). kept: bool (B, H, W).
    """
    log_p = torch.log_softmax(torch.nan_to_num(logits.float(), nan=0.0), dim=1)
    entropy = -(log_p.exp() * log_p).sum(1)[kept] / math.log(logits.shape[1])
    return float(entropy.mean()) if entropy.numel() else 0.0
