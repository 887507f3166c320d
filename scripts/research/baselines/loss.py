"""What a baseline's training minimises: the task's loss, as PrATo's, and the method's own."""

from __future__ import annotations

from torch import Tensor, nn

from prato.training.losses import PratoLoss
from scripts.research.baselines.unetr import BaselineOutput


class BaselineLoss(nn.Module):
    """Dice + cross-entropy plus the auxiliary losses that the output carries."""

    def __init__(self) -> None:
        super().__init__()
        self.task = PratoLoss().segmentation

    def forward(self, output: BaselineOutput, label: Tensor) -> Tensor:
        """A scalar, of logits (B, classes, *image) and label int64 (B, *image)."""
        own = sum((term(output.logits, label) for term in output.losses.values()), output.logits.new_zeros(()))
        return self.task(output.logits, label.unsqueeze(1)) + own
