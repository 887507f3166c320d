"""DToP: tokens that are sure of their class leave with it.

Source: Tang et al., "Dynamic Token Pruning in Plain Vision Transformers for Semantic Segmentation", ICCV 2023.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.nets import ViT
from torch import Tensor, nn

from prato.pruning.record import StageRecord
from prato.pruning.tokens import PackedTokens
from scripts.research.baselines.method import (
    SKIPS,
    EarlyLogits,
    EncoderInput,
    Host,
    LossTerm,
    MethodOutput,
    TokenMethod,
    numbered_blocks,
    register_baseline,
)

_HEAD_WEIGHT = 0.4
#: Share of its training in which nothing leaves yet.
_DENSE = 0.5


@register_baseline("dtop")
class DToP(TokenMethod):
    """After each of the blocks ``after`` an auxiliary head classifies the living tokens. Those whose highest class probability exceeds
    ``threshold`` leave, except the ``context`` surest of each predicted class.

    A token that left keeps its features for the decoder, and its early logits replace the decoder's over its pixels. Each head is trained
    with cross-entropy, times 0.4. Training has two phases: first with ``threshold`` 1, at which nothing leaves, then with pruning on, hard
    as in evaluation. The paper's heads are attention-to-mask decoders over all tokens; here they are MLPs token by token, so that the
    living tokens alone are computed.
    """

    def __init__(self, host: Host, after: tuple[int, ...] = (6, 8), threshold: float = 0.9, context: int = 5) -> None:
        super().__init__()
        if not 0 < threshold <= 1 or context < 1:
            raise ValueError(f"DToP needs a threshold above 0 and at most 1, and a context of 1 or more, not {threshold} and {context}.")
        self.after, self.threshold, self.context = tuple(after), threshold, context
        self._pruning_threshold = threshold
        self.heads = nn.ModuleDict(
            {
                str(number): nn.Sequential(
                    nn.LayerNorm(host.dim), nn.Linear(host.dim, host.dim), nn.GELU(), nn.Linear(host.dim, host.classes)
                )
                for number in self.after
            }
        )
        self.classes = host.classes

    def set_progress(self, share: float) -> None:
        """In the first phase no token leaves; the averaged network, which is kept, prunes in both."""
        self.threshold = 1.0 if share < _DENSE else self._pruning_threshold

    def encode(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> MethodOutput:
        canvas, alive = tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        said = tokens.new_zeros(*tokens.shape[:2], self.classes)
        kept = PackedTokens(alive)
        tokens = kept.gather(canvas)
        hidden: dict[int, Tensor] = {}
        stages: list[StageRecord] = []
        heads: dict[str, LossTerm] = {}
        for number, block in numbered_blocks(vit):
            tokens = kept.run(block, tokens)
            if number in SKIPS or number in self.after:
                canvas = kept.scatter(canvas, tokens)
            if number in SKIPS:
                hidden[number] = canvas
            if number in self.after:
                said = kept.scatter(said, self.heads[str(number)](tokens).to(said.dtype))
                heads[f"head after block {number}"] = _head_loss(EarlyLogits(said, ~alive, inputs.grid))
                sure = said.detach().softmax(-1)
                alive = alive & ~leaving(sure, alive, self.threshold, self.context)
                stages.append(StageRecord(f"block {number}", inputs.grid, 1 - sure.amax(-1), alive))
                kept = PackedTokens(alive)
                tokens = kept.gather(canvas)
        last = vit.norm(kept.scatter(canvas, tokens))
        early = EarlyLogits(said, ~alive, inputs.grid)
        return MethodOutput(hidden, last, tuple(stages), heads if self.training else {}, early)


def leaving(probability: Tensor, alive: Tensor, threshold: float, context: int) -> Tensor:
    """Which living tokens are sure enough to leave.

    Args:
        probability: (B, Z, classes). alive: bool (B, Z).
        threshold: a token whose highest probability exceeds it may leave.
        context: so many of each predicted class, the surest, stay in each sample.

    Returns:
        bool (B, Z).
    """
    highest, predicted = probability.max(-1)
    sure = alive & (highest > threshold)
    leave = torch.zeros_like(sure)
    for index in range(probability.shape[-1]):
        of_class = sure & (predicted == index)
        rank = highest.masked_fill(~of_class, -1.0).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        leave |= of_class & (rank >= context)
    return leave


def _head_loss(early: EarlyLogits) -> LossTerm:
    return lambda logits, label: _HEAD_WEIGHT * F.cross_entropy(early.canvas(tuple(label.shape[1:])), label)
