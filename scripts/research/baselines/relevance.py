"""Ways to make PrATo's relevance worth something, and what it has to beat, all in one frame: as many tokens stay, by another score.

Source of the relevance: arXiv 2506.16369, eqs. 2 to 4; the variants are this project's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from monai.networks.nets import ViT
from torch import Tensor, nn

from prato.prompts.batch import PromptBatch
from prato.pruning.record import StageRecord
from prato.pruning.relevance import Relevance
from scripts.research.baselines.method import (
    SKIPS,
    EncoderInput,
    Host,
    LossTerm,
    MethodOutput,
    TokenMethod,
    check_share,
    numbered_blocks,
    register_baseline,
)
from scripts.research.baselines.token_buffer import TokenBuffer, mark, take, top
from scripts.research.token_scores import NearestScore, RandomScore

Score = Literal["entropy", "equal", "learned", "random", "nearest"]
#: Weight of what relevance is taught by.
_TAUGHT = 0.1


@register_baseline("relevance")
class RelevanceVariant(TokenMethod):
    """After each of the blocks ``after`` the share ``keep`` of the living tokens with the highest score stays, also in training.

    A token that stays is multiplied by a number that is 1 and has the gradient of the softmax of the scores, so that the loss of the
    segmentation trains them. A token that left is restored with the value it had.

    Args:
        score: relevance with queries weighted by "entropy" or all "equal"; "learned", one query of its own instead of the box's, beside a
            learned weight of lying under it; "random" or "nearest" to the box, which relevance has to beat.
        protect: tokens under the box stay whatever their score; if they are too many, the best of them.
        gone: "dropped", or "merged": one summary token, their mean by softmax of minus the score, runs along and gives what blocks add
            to it to all that left.
        taught: by the "segmentation" alone; also by the "foreground", a token is to be relevant if it holds some; or by "leave_one_out":
            softmax of the score is to be that of how much the error of one sample grows when a token leaves after the first stage.
        k: RoIAlign bins along each axis.
    """

    needs_prompts = True

    def __init__(
        self,
        host: Host,
        score: Score = "entropy",
        protect: bool = False,
        gone: Literal["dropped", "merged"] = "dropped",
        taught: Literal["segmentation", "foreground", "leave_one_out"] = "segmentation",
        k: int = 5,
        after: tuple[int, ...] = (4, 7, 10),
        keep: float = 0.75,
    ) -> None:
        super().__init__()
        self.score_by, self.protect, self.gone, self.taught, self.k = score, protect, gone, taught, k
        self.after, self.keep = tuple(after), check_share("keep", keep)
        if score in ("entropy", "equal"):
            self.relevance = nn.ModuleDict({str(number): Relevance(host.dim, host.dims) for number in self.after})
        elif score == "learned":
            self.query = nn.ParameterDict({str(number): nn.Parameter(torch.randn(host.dim) * host.dim**-0.5) for number in self.after})
            self.inside = nn.Parameter(torch.ones(()))
        self._fixed: Any = {"random": RandomScore(), "nearest": NearestScore()}.get(score)

    def encode(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> MethodOutput:
        prompts = inputs.prompts or PromptBatch.empty(len(tokens), tuple(inputs.image.shape[2:]))
        buffer, summary = TokenBuffer(tokens), tokens[:, :0]
        left = tokens.new_zeros(tokens.shape[:2])  # 1 where a token is in the summary
        hidden: dict[int, Tensor] = {}
        stages: list[StageRecord] = []
        losses: dict[str, LossTerm] = {}
        for number, block in numbered_blocks(vit):
            count = buffer.tokens.shape[1]
            ran = block(torch.cat((buffer.tokens, summary), dim=1))
            buffer.canvas = buffer.canvas + left.unsqueeze(-1) * (ran[:, count:] - summary).sum(1, keepdim=True)
            buffer.tokens, summary = ran[:, :count], ran[:, count:]
            if number in SKIPS:
                hidden[number] = buffer.restored
            if number not in self.after:
                continue
            score, before = self._score(number, buffer, inputs.grid, prompts), buffer.index
            if self.training and self._fixed is None and self.taught == "foreground":
                losses[f"foreground after block {number}"] = _foreground(score, before, inputs.grid)
            if self.training and self.taught == "leave_one_out" and not stages:
                losses["leave one out"] = _leave_one_out(vit, number, buffer.restored[:1].detach(), hidden, score[:1], inputs)
            ranked = score.detach()
            if self.protect:
                under = prompts.protected(inputs.grid).gather(1, before)
                ranked = torch.where(under, ranked + 2 * ranked.abs().amax(1, keepdim=True) + 1, ranked)
            chosen = top(ranked, math.ceil(self.keep * count))
            if self.training and self._fixed is None:
                soft = score.softmax(1)
                buffer.tokens = buffer.tokens * (1 + soft - soft.detach()).unsqueeze(-1)
            if self.gone == "merged":
                out = torch.ones_like(ranked).scatter(1, chosen, 0.0)
                weight = (-score).masked_fill(out == 0, float("-inf")).softmax(1)
                fresh = weight.unsqueeze(1) @ buffer.tokens
                summary = fresh if not stages else (summary + fresh) / 2
                left = left.scatter_add(1, before, out)
            buffer.keep(chosen)
            stages.append(buffer.record(number, inputs.grid, ranked, before))
        return MethodOutput(hidden, vit.norm(buffer.restored), tuple(stages), losses)

    def _score(self, number: int, buffer: TokenBuffer, grid: tuple[int, ...], prompts: PromptBatch) -> Tensor:
        """(B, n) of the living tokens."""
        canvas, name = buffer.restored, str(number)
        if self._fixed is not None:
            if self.training and self.score_by == "random":
                return torch.rand_like(buffer.tokens[..., 0])
            return self._fixed(canvas, grid, prompts).gather(1, buffer.index).to(canvas.dtype)
        if self.score_by == "learned":
            normed = F.layer_norm(buffer.tokens.float(), buffer.tokens.shape[-1:])
            return normed @ self.query[name] + self.inside * prompts.protected(grid).gather(1, buffer.index)
        alive = mark(buffer.index, canvas.shape[1])
        weights = "equal" if self.score_by == "equal" else "entropy"
        return self.relevance[name](canvas, grid, prompts, self.k, alive, weights).gather(1, buffer.index)


def _foreground(score: Tensor, places: Tensor, grid: tuple[int, ...]) -> LossTerm:
    """Cross-entropy of ``score`` (B, n) of the tokens at ``places`` against "holds foreground"."""

    def term(logits: Tensor, label: Tensor) -> Tensor:
        pool: Any = F.adaptive_max_pool2d if len(grid) == 2 else F.adaptive_max_pool3d
        target = pool((label > 0).float().unsqueeze(1), grid).flatten(1).gather(1, places)
        return _TAUGHT * F.binary_cross_entropy_with_logits(score.float(), target)

    return term


def _leave_one_out(vit: ViT, number: int, tokens: Tensor, hidden: dict[int, Tensor], score: Tensor, inputs: EncoderInput) -> LossTerm:
    """Cross-entropy of the softmax of ``score`` (1, Z) against that of the errors' growth as ``tokens`` (1, Z, C) leave after a block."""
    before = {n: value[:1].detach() for n, value in hidden.items()}
    assert inputs.decode is not None  # the host gives it
    decode = inputs.decode

    def term(logits: Tensor, label: Tensor) -> Tensor:
        with torch.no_grad():
            error = leave_one_out_errors(vit, number, tokens, before, inputs.image[:1], label[:1], decode)
            growth = error[:-1] - error[-1]
            target = ((growth - growth.mean()) / growth.std().clamp_min(1e-6)).softmax(0)
        return -_TAUGHT * (target * score[0].float().log_softmax(0)).sum()

    return term


def leave_one_out_errors(
    vit: ViT, number: int, tokens: Tensor, before: dict[int, Tensor], image: Tensor, label: Tensor, decode: Callable[..., Tensor]
) -> Tensor:
    """(Z + 1,): cross-entropy of one sample when each of its ``tokens`` (1, Z, C) leaves after block ``number``, and when none does.

    Args:
        before: skip connections up to that block. image: (1, channels, *image). label: (1, *image).
        decode: image, skip connections and last tokens to logits.
    """
    count = tokens.shape[1]
    errors = []
    for gone in [*range(count), None]:
        places = torch.tensor([[n for n in range(count) if n != gone]], device=tokens.device)
        buffer, hidden = TokenBuffer(tokens), dict(before)
        buffer.tokens, buffer.index = take(tokens, places), places
        for n, block in numbered_blocks(vit):
            if n > number:
                buffer.tokens = block(buffer.tokens)
                if n in SKIPS:
                    hidden[n] = buffer.restored
        errors.append(F.cross_entropy(decode(image, hidden, vit.norm(buffer.restored)).float(), label))
    return torch.stack(errors)
