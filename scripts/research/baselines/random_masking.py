"""Random masking: what a score must beat."""

from __future__ import annotations

import math
import zlib

import torch
from monai.networks.nets import ViT
from torch import Tensor

from prato.pruning.record import StageRecord
from scripts.research.baselines.method import (
    SKIPS,
    EncoderInput,
    Host,
    MethodOutput,
    TokenMethod,
    check_share,
    numbered_blocks,
    register_baseline,
)
from scripts.research.baselines.token_buffer import TokenBuffer, top


@register_baseline("random")
class RandomMasking(TokenMethod):
    """After each of the blocks ``after`` a fixed share ``keep`` of the living tokens stays, drawn at random.

    In evaluation the draw depends on the sample alone (and ``seed``), whatever its batch; in training on torch's generator, so that a
    sample is seen in many ways. No loss of its own; a token that left is restored with the value it had. The settings are PrATo's.
    """

    def __init__(self, host: Host, after: tuple[int, ...] = (4, 7, 10), keep: float = 0.75, seed: int = 0) -> None:
        super().__init__()
        self.after, self.keep, self.seed = tuple(after), check_share("keep", keep), seed

    def encode(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> MethodOutput:
        draws, buffer = self._draws(inputs.image, tokens.shape[1]).to(tokens.device), TokenBuffer(tokens)
        hidden: dict[int, Tensor] = {}
        stages: list[StageRecord] = []
        for number, block in numbered_blocks(vit):
            buffer.tokens = block(buffer.tokens)
            if number in SKIPS:
                hidden[number] = buffer.restored
            if number in self.after:
                before, score = buffer.index, draws[len(stages)].gather(1, buffer.index)
                buffer.keep(top(score, math.ceil(self.keep * before.shape[1])))
                stages.append(buffer.record(number, inputs.grid, score, before))
        return MethodOutput(hidden, vit.norm(buffer.restored), tuple(stages))

    def _draws(self, image: Tensor, count: int) -> Tensor:
        """(stages, B, count) numbers in [0, 1)."""
        if self.training:
            return torch.rand(len(self.after), len(image), count)
        samples = [zlib.crc32(sample.float().cpu().contiguous().numpy().tobytes(), self.seed) for sample in image]
        return torch.stack([torch.rand(len(self.after), count, generator=torch.Generator().manual_seed(s)) for s in samples], dim=1)
