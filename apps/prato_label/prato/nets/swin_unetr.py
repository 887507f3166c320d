"""Swin UNETR that drops, before patch merging, the tokens that the prompted box makes irrelevant."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from monai.networks.nets import SwinUNETR
from torch import Tensor, nn

from prato.nets.region import Part, Region, basic, given, kept_region, up
from prato.nets.swin_block import dense_swin_blocks, pruned_swin_block, relaxed_swin_block
from prato.prompts import BoxPrompts
from prato.pruning import PrunedOutput, PruningPlan, StageRecord
from prato.relevance import Relevance

#: Before the first three mergings; after the fourth stage no transformer block is left to spare.
DEFAULT_PLAN = PruningPlan(after=(1, 2, 3), percentile=25.0)


class PratoSwinUNETR(SwinUNETR):
    """MONAI's Swin UNETR (2D or 3D) with prompt-driven token pruning at the patch-merging stages.

    Takes Swin UNETR's own arguments; loads its state dict strictly (the relevance projections, which it lacks, keep their initial values).
    Without a plan, or without a prompt in the whole batch, a call is MONAI's own forward. A merged token lives if any of its children
    lives; windows without a living token are skipped.

    Args:
        stages: Swin stages, counted from 1, before whose merging a plan may prune (each owns relevance projections).
    """

    def __init__(self, *args: Any, stages: tuple[int, ...] = DEFAULT_PLAN.after, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.swinViT.use_v2:
            raise ValueError("Token pruning is not defined for use_v2=True: its convolutions mix dropped tokens back in.")
        dims = len(self.swinViT.window_size)
        width = self.swinViT.embed_dim
        self.relevance = nn.ModuleDict({str(stage): Relevance(width * 2 ** (stage - 1), dims) for stage in stages})

    def forward(self, x_in: Tensor, prompts: BoxPrompts | None = None, plan: PruningPlan | None = None) -> Tensor:
        """Logits (B, classes, *image) of ``x_in`` (B, channels, *image); see :meth:`segment`."""
        return self.segment(x_in, prompts, plan).logits

    def segment(self, x_in: Tensor, prompts: BoxPrompts | None, plan: PruningPlan | None) -> PrunedOutput:
        """Logits and the record of what was pruned.

        Args:
            x_in: float (B, channels, *image), every side a multiple of 32.
            prompts: boxes in input pixels; a sample without one keeps all its tokens.
            plan: what to prune; None for nothing. Tokens are removed in evaluation and masked, with a straight-through gradient to the
                relevance, in training.

        Raises:
            KeyError: the plan prunes at a stage that this network has no relevance projections for.
        """
        if plan is None or prompts is None or len(prompts.boxes) == 0:
            return PrunedOutput(super().forward(x_in))
        self._check_input_size(x_in.shape[2:])
        prompts, size = prompts.to(x_in.device), tuple(x_in.shape[2:])
        levels, stages = self._encode(x_in, prompts, plan)
        where = kept_region(stages[-1], prompts, size) if plan.decode == "kept" and not self.training else Region.whole(size)
        return PrunedOutput(self._decode(x_in, levels, where), tuple(stages))

    def _encode(self, x_in: Tensor, prompts: BoxPrompts, plan: PruningPlan) -> tuple[list[Tensor], list[StageRecord]]:
        vit = self.swinViT
        x = vit.pos_drop(vit.patch_embed(x_in))
        levels = [vit.proj_out(x, self.normalize)]
        x = x.movedim(1, -1)
        image_size = tuple(x_in.shape[2:])
        alive = plan.start(prompts, tuple(x.shape[1:-1]), image_size).view(x.shape[:-1])
        gate: Tensor | None = None  # the mask with its straight-through gradient, while training
        if (self.training or plan.mode == "mask") and not bool(alive.all()):
            gate = alive.to(x.dtype)
            if plan.mode == "mask":
                x = x * gate.unsqueeze(-1)
        stages: list[StageRecord] = []
        layer: Any
        for number, (layer,) in enumerate((vit.layers1, vit.layers2, vit.layers3, vit.layers4), start=1):
            x = self._blocks(layer, x, alive, gate, plan)
            if number in plan.after:
                flat, grid = alive.flatten(1), tuple(alive.shape[1:])
                score = plan.scores(self.relevance[str(number)](x.flatten(1, -2), grid, image_size, prompts, plan.k, flat))
                score = _siblings_mean(score.view_as(alive)).flatten(1)
                keep = plan.select(score, flat, prompts.prompted, plan.held(prompts, grid, image_size))
                if self.training or plan.mode == "mask":
                    soft = plan.straight_through(score, keep, flat).view_as(alive)
                    gate = soft if gate is None else gate * soft
                    if plan.mode == "mask":
                        x = x * gate.unsqueeze(-1)  # eq. 5: beta * Y
                alive = keep.view_as(alive)
            x = layer.downsample(x)
            alive = _merge(alive.to(x.dtype)) > 0.5
            gate = None if gate is None else _merge(gate)
            if number in plan.after:
                merged = alive.flatten(1)
                stages.append(StageRecord(f"stage {number}", tuple(alive.shape[1:]), _merge(score.view(-1, *grid)).flatten(1), merged))
            levels.append(vit.proj_out(x.movedim(-1, 1), self.normalize))
        return levels, stages

    def _blocks(self, layer: Any, x: Tensor, alive: Tensor, gate: Tensor | None, plan: PruningPlan) -> Tensor:
        if plan.mode == "mask" or bool(alive.all()):
            return dense_swin_blocks(layer, x)  # nothing is held out of the computation
        for block in layer.blocks:
            x = pruned_swin_block(block, x, alive) if gate is None else relaxed_swin_block(block, x, gate)
        return x

    def _decode(self, x_in: Tensor, levels: list[Tensor], where: Region) -> Tensor:
        x = up(self.decoder5, basic(self.encoder10, given(levels[4])), given(levels[3]))
        x = up(self.decoder4, x, basic(self.encoder4, given(levels[2])))
        x = up(self.decoder3, x, basic(self.encoder3, given(levels[1])))
        x = up(self.decoder2, x, basic(self.encoder2, given(levels[0])))
        x = up(self.decoder1, x, basic(self.encoder1, given(x_in)))
        return Part(self.out(x(where).values), where).spread()


def _siblings_mean(values: Tensor) -> Tensor:
    """(B, *grid): each token gets the mean over those it will be merged with, so that siblings leave together.

    Token by token, nearly every merged token would keep some child, and nothing would be spared.
    """
    pool = F.avg_pool2d if values.ndim == 3 else F.avg_pool3d
    mean = pool(values.unsqueeze(1), 2, ceil_mode=True, count_include_pad=False)
    for axis, size in enumerate(values.shape[1:], start=2):
        mean = mean.repeat_interleave(2, axis).narrow(axis, 0, size)
    return mean.squeeze(1)


def _merge(values: Tensor) -> Tensor:
    """(B, *grid) -> (B, *merged grid): the largest of a merged token's children."""
    pool = F.max_pool2d if values.ndim == 3 else F.max_pool3d
    return pool(values.unsqueeze(1), 2, ceil_mode=True).squeeze(1)
