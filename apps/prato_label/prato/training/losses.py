"""What training minimises: Dice + cross-entropy on the mask, and supervision of the relevance by where the organ is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss
from torch import Tensor, nn

from prato.pruning.record import PrunedOutput


class PratoLoss(nn.Module):
    """Dice + cross-entropy (the paper's loss), and ``supervision`` times the cross-entropy of relevance against "holds foreground".

    A 0/1 mask alone gives the relevance only the straight-through gradient, weak at the start; the labels know where it should point.
    """

    def __init__(self, supervision: float = 0.1) -> None:
        super().__init__()
        # over the batch, because many a slice lacks a structure
        self.segmentation = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)
        self.supervision = supervision

    def forward(self, output: PrunedOutput, label: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            output: logits (B, classes, *image) with stage records.
            label: int64 (B, *image).

        Returns:
            A scalar. Only tokens that a stage could still drop count, the first stage of all of them: the relevance of the others means
            nothing.
        """
        loss = self.segmentation(output.logits, label.unsqueeze(1))
        if not output.stages:
            return loss
        foreground = (label > 0).to(output.logits.dtype).unsqueeze(1)
        pool = F.adaptive_max_pool2d if label.ndim == 3 else F.adaptive_max_pool3d
        terms, alive = [], torch.ones_like(foreground)
        for stage in output.stages:
            target, weight = (pool(values, stage.grid).flatten(1) for values in (foreground, alive))
            terms.append(F.binary_cross_entropy_with_logits(stage.relevance, target, weight, reduction="sum") / weight.sum())
            alive = stage.alive.to(weight.dtype).unflatten(1, (1, *stage.grid))
        return loss + self.supervision * torch.stack(terms).mean()
