"""DynamicViT: a learned keep-or-drop decision before some blocks (Rao et al., NeurIPS 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.blocks import TransformerBlock
from monai.networks.nets import ViT
from torch import Tensor, nn

from prato.pruning.record import StageRecord
from scripts.research.baselines.block import attend
from scripts.research.baselines.method import (
    SKIPS,
    EncoderInput,
    Host,
    LossTerm,
    MethodOutput,
    Teacher,
    TokenMethod,
    check_share,
    numbered_blocks,
    register_baseline,
)
from scripts.research.baselines.scorer import TokenScorer
from scripts.research.baselines.token_buffer import TokenBuffer, top

_SMOOTHING = 1e-6
_RATIO, _DISTILLATION = 2.0, 0.5


@register_baseline("dynamic_vit")
class DynamicViT(TokenMethod):
    """A scorer says, token by token, how likely it is to be worth keeping; of Z tokens ``keep``**s * Z go on after the s-th stage.

    Evaluation keeps the highest scores and computes these alone. Training draws each decision with a hard Gumbel-softmax, times the
    decision before, computes all tokens, and masks attention. Losses: 2 x the squared distance of the kept share from its target, and,
    once :meth:`teach` has named a teacher, 0.5 x the Kullback-Leibler divergence of the logits from the teacher's and 0.5 x the squared
    distance of the kept tokens from its tokens. A dropped token is restored with the value it had; so a masked token does not change
    here while training (in a classifier, which forgets dropped tokens, that makes no difference).
    """

    needs_teacher = True

    def __init__(self, host: Host, after: tuple[int, ...] = (3, 6, 9), keep: float = 0.7) -> None:
        super().__init__()
        self.after, self.keep = tuple(after), check_share("keep", keep)
        self.score = nn.ModuleDict({str(number): TokenScorer(host.dim, 2) for number in self.after})
        self._teacher: Teacher | None = None

    def teach(self, teacher: Teacher) -> None:
        """Distil from ``teacher``, for example a dense host's ``answer``; its weights are no part of this method's."""
        self._teacher = teacher

    def encode(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> MethodOutput:
        return self._encode_relaxed(vit, tokens, inputs) if self.training else self._encode_dropping(vit, tokens, inputs)

    def _encode_dropping(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> MethodOutput:
        buffer = TokenBuffer(tokens)
        hidden: dict[int, Tensor] = {}
        stages: list[StageRecord] = []
        for number, block in numbered_blocks(vit):
            buffer.tokens = block(buffer.tokens)
            if number in SKIPS:
                hidden[number] = buffer.restored
            if number in self.after:
                before, score = buffer.index, _preference(self.score[str(number)](buffer.tokens))
                target = self.keep ** (len(stages) + 1)
                buffer.keep(top(score, max(1, int(target * tokens.shape[1]))))
                stages.append(buffer.record(number, inputs.grid, score, before))
        return MethodOutput(hidden, vit.norm(buffer.restored), tuple(stages))

    def _encode_relaxed(self, vit: ViT, x: Tensor, inputs: EncoderInput) -> MethodOutput:
        mask: Tensor | None = None
        hidden: dict[int, Tensor] = {}
        stages: list[StageRecord] = []
        shares: list[Tensor] = []
        for number, block in numbered_blocks(vit):
            x = block(x) if mask is None else masked_block(block, x, mask)
            if number in SKIPS:
                hidden[number] = x
            if number in self.after:
                log_probability = self.score[str(number)](x, mask).log_softmax(-1)
                drawn = F.gumbel_softmax(log_probability, hard=True)[..., 0]
                mask = drawn if mask is None else drawn * mask
                shares.append(mask.mean(1))
                stages.append(StageRecord(f"block {number}", inputs.grid, _preference(log_probability).detach(), mask.detach() > 0.5))
        last = vit.norm(x)
        targets = [self.keep**stage for stage in range(1, len(shares) + 1)]
        ratio = torch.stack([(got - want).square().mean() for got, want in zip(shares, targets)]).mean()
        losses: dict[str, LossTerm] = {"ratio": lambda logits, label: _RATIO * ratio}
        if self._teacher is not None:
            losses |= self._distillation_losses(self._teacher, inputs.image, last, stages[-1].alive)
        return MethodOutput(hidden, last, tuple(stages), losses)

    @staticmethod
    def _distillation_losses(teacher: Teacher, image: Tensor, last: Tensor, alive: Tensor) -> dict[str, LossTerm]:
        with torch.no_grad():
            logits_there, tokens_there = teacher(image)
        distance = (last - tokens_there).square().mean(-1)[alive].sum() / alive.sum().clamp_min(1)

        def divergence(logits: Tensor, label: Tensor) -> Tensor:
            ours, theirs = logits.log_softmax(1), logits_there.log_softmax(1)
            return _DISTILLATION * (ours.exp() * (ours - theirs)).sum(1).mean()

        return {"tokens like the teacher's": lambda logits, label: _DISTILLATION * distance, "logits like the teacher's": divergence}


def _preference(scores: Tensor) -> Tensor:
    """(B, n): log-odds of keeping, from the two outputs (B, n, 2) of a scorer."""
    return scores[..., 0] - scores[..., 1]


def masked_block(block: TransformerBlock, x: Tensor, mask: Tensor) -> Tensor:
    """A transformer block on all of ``x`` (B, Z, C) in which only tokens with ``mask`` (B, Z) are seen and change."""
    gate = mask.unsqueeze(-1)
    x = x + gate * attend(block, x, lambda scores: masked_attention(scores, mask)).update
    return x + gate * block.mlp(block.norm2(x))


def masked_attention(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax of ``scores`` (B, heads, Z, Z) over keys with ``mask`` (B, Z) 1 and the token itself, slightly smoothed."""
    count = mask.shape[1]
    itself = torch.eye(count, device=mask.device)
    seen = (mask.unsqueeze(1) * (1 - itself) + itself).unsqueeze(1)
    weight = torch.exp(scores - scores.amax(-1, keepdim=True).detach()) * seen
    return (weight + _SMOOTHING / count) / (weight.sum(-1, keepdim=True) + _SMOOTHING)
