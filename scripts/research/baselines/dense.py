"""No pruning at all: the row that every method is held against."""

from __future__ import annotations

from monai.networks.nets import ViT
from torch import Tensor

from scripts.research.baselines.method import SKIPS, Encoded, EncoderInput, Host, TokenMethod, numbered


class Dense(TokenMethod):
    """Every token goes through every block."""

    def __init__(self, host: Host) -> None:
        super().__init__()

    def encode(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> Encoded:
        hidden: dict[int, Tensor] = {}
        for number, block in numbered(vit):
            tokens = block(tokens)
            if number in SKIPS:
                hidden[number] = tokens
        return Encoded(hidden, vit.norm(tokens))
