"""No pruning at all: the row that every method is compared with."""

from __future__ import annotations

from monai.networks.nets import ViT
from torch import Tensor

from scripts.research.baselines.method import SKIPS, EncoderInput, Host, MethodOutput, TokenMethod, numbered_blocks, register_baseline


@register_baseline("dense")
class Dense(TokenMethod):
    """Every token goes through every block."""

    def __init__(self, host: Host) -> None:
        super().__init__()

    def encode(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> MethodOutput:
        hidden: dict[int, Tensor] = {}
        for number, block in numbered_blocks(vit):
            tokens = block(tokens)
            if number in SKIPS:
                hidden[number] = tokens
        return MethodOutput(hidden, vit.norm(tokens))
