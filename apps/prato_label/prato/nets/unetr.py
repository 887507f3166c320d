"""UNETR whose transformer drops the tokens that the prompted box makes irrelevant."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets import UNETR
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn

from prato.attention import KeptTokens, relaxed_block
from prato.prompts import BoxPrompts
from prato.pruning import PrunedOutput, PruningPlan, StageRecord
from prato.relevance import Relevance

#: After the blocks whose outputs are UNETR's skip connections, so that every skip is whole.
DEFAULT_PLAN = PruningPlan(after=(4, 7, 10), percentile=25.0)
_SKIPS = (4, 7, 10)


class PratoUNETR(UNETR):
    """MONAI's UNETR (2D or 3D) with prompt-driven token pruning.

    Takes UNETR's own arguments; loads its state dict strictly (the relevance projections, which it lacks, keep their initial values).
    Without a plan, or without a prompt in the whole batch, a call is MONAI's own forward.

    Args:
        stages: blocks, counted from 1, after which a plan may prune (each owns relevance projections).
    """

    def __init__(self, *args: Any, stages: tuple[int, ...] = DEFAULT_PLAN.after, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dims = len(self.patch_size)
        self.img_size: tuple[int, ...] = tuple(f * p for f, p in zip(self.feat_size, ensure_tuple_rep(16, dims)))
        self.relevance = nn.ModuleDict({str(stage): Relevance(self.hidden_size, dims) for stage in stages})

    def forward(self, x_in: Tensor, prompts: BoxPrompts | None = None, plan: PruningPlan | None = None) -> Tensor:
        """Logits (B, classes, *image) of ``x_in`` (B, channels, *image); see :meth:`segment`."""
        return self.segment(x_in, prompts, plan).logits

    def segment(self, x_in: Tensor, prompts: BoxPrompts | None, plan: PruningPlan | None) -> PrunedOutput:
        """Logits and the record of what was pruned.

        Args:
            x_in: float (B, channels, *image).
            prompts: boxes in input pixels; a sample without one keeps all its tokens.
            plan: what to prune; None for nothing. Tokens are removed in evaluation and masked, with a straight-through gradient to the
                relevance, in training.

        Raises:
            KeyError: the plan prunes after a block that this network has no relevance projections for.
        """
        if plan is None or prompts is None or len(prompts.boxes) == 0:
            return PrunedOutput(super().forward(x_in))
        prompts = prompts.to(x_in.device)
        encode = self._encode_relaxed if self.training or plan.mode == "mask" else self._encode_dropping
        hidden, last, stages = encode(self.vit.patch_embedding(x_in), prompts, plan)
        return PrunedOutput(self._decode(x_in, hidden, self.vit.norm(last)), tuple(stages))

    def _prune(self, number: int, x: Tensor, alive: Tensor, prompts: BoxPrompts, plan: PruningPlan) -> tuple[Tensor, StageRecord]:
        score = self.relevance[str(number)](x, self.feat_size, self.img_size, prompts, plan.k, alive)
        keep = plan.select(score, alive, prompts.prompted)
        return score, StageRecord(f"block {number}", tuple(self.feat_size), score, keep)

    def _encode_dropping(
        self, canvas: Tensor, prompts: BoxPrompts, plan: PruningPlan
    ) -> tuple[dict[int, Tensor], Tensor, list[StageRecord]]:
        alive = torch.ones(canvas.shape[:2], dtype=torch.bool, device=canvas.device)
        kept, tokens = KeptTokens(alive), canvas
        hidden: dict[int, Tensor] = {}
        stages: list[StageRecord] = []
        block: Any
        for number, block in enumerate(self.vit.blocks, start=1):
            tokens = kept.run(block, tokens)
            if number in _SKIPS or number in plan.after:
                canvas = kept.scatter(canvas, tokens)
                hidden[number] = canvas
            if number in plan.after:
                _, record = self._prune(number, canvas, alive, prompts, plan)
                stages.append(record)
                alive = record.alive
                kept = KeptTokens(alive)
                tokens = kept.gather(canvas)
        return hidden, kept.scatter(canvas, tokens), stages

    def _encode_relaxed(self, x: Tensor, prompts: BoxPrompts, plan: PruningPlan) -> tuple[dict[int, Tensor], Tensor, list[StageRecord]]:
        alive = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        gate: Tensor | None = None
        hidden: dict[int, Tensor] = {}
        stages: list[StageRecord] = []
        block: Any
        for number, block in enumerate(self.vit.blocks, start=1):
            # the paper's mask leaves zeroed tokens in the computation; dropping, relaxed, holds them out of it
            x = block(x) if gate is None or plan.mode == "mask" else relaxed_block(block, x, gate)
            if number in _SKIPS:
                hidden[number] = x
            if number in plan.after:
                score, record = self._prune(number, x, alive, prompts, plan)
                stages.append(record)
                soft = plan.straight_through(score, record.alive, alive)
                gate = soft if gate is None else gate * soft
                alive = record.alive
                if plan.mode == "mask":
                    x = x * gate.unsqueeze(-1)  # eq. 5: beta * Y
        return hidden, x, stages

    def _decode(self, x_in: Tensor, hidden: dict[int, Tensor], last: Tensor) -> Tensor:
        enc1 = self.encoder1(x_in)
        enc2 = self.encoder2(self.proj_feat(hidden[4]))
        enc3 = self.encoder3(self.proj_feat(hidden[7]))
        enc4 = self.encoder4(self.proj_feat(hidden[10]))
        x = self.decoder5(self.proj_feat(last), enc4)
        x = self.decoder4(x, enc3)
        x = self.decoder3(x, enc2)
        return self.out(self.decoder2(x, enc1))
