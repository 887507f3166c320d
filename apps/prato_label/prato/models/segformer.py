"""SegFormer, and SegFormer that drops, before the next stage's patch embedding, the tokens that the prompted box makes irrelevant (2D)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prato.models.mix_transformer import MixStage
from prato.models.registry import register_model
from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PrunedOutput, PruningPlan
from prato.pruning.prompted_pruning import PromptedPruning, first_gate
from prato.pruning.relevance import Relevance
from prato.runtime.region import Region
from prato.runtime.region_decode import given
from prato.runtime.region_layers import convolved, enlarged, joined

#: Before the embedding of stages 2, 3 and 4.
DEFAULT_PLAN = PruningPlan(after=(1, 2, 3), percentile=25.0)
#: The published sizes, as arguments; B0 is the default.
B0: dict[str, Any] = {"widths": (32, 64, 160, 256), "depths": (2, 2, 2, 2), "head_width": 256}
B2: dict[str, Any] = {"widths": (64, 128, 320, 512), "depths": (3, 4, 6, 3), "head_width": 768}

_PATCHES, _STRIDES, _REDUCTIONS = (7, 3, 3, 3), (4, 2, 2, 2), (8, 4, 2, 1)


class SegFormer(nn.Module):
    """SegFormer (Xie et al., NeurIPS 2021): four Mix Transformer stages, and a head of layers that look at one cell each.

    Args:
        in_channels: of the image. out_channels: classes.
        widths, depths, heads: channels, blocks and attention heads by stage. head_width: channels of the head.
        drop_path: chance to skip the last block in training; earlier ones less.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int] = B0["widths"],
        depths: Sequence[int] = B0["depths"],
        heads: Sequence[int] = (1, 2, 5, 8),
        head_width: int = B0["head_width"],
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        chances = torch.linspace(0, drop_path, sum(depths), device="cpu").tolist()
        self.widths, sources, firsts = tuple(widths), (in_channels, *widths[:-1]), [sum(depths[:n]) for n in range(5)]
        self.stages = nn.ModuleList(
            MixStage(sources[n], widths[n], _PATCHES[n], _STRIDES[n], heads[n], _REDUCTIONS[n], chances[firsts[n] : firsts[n + 1]])
            for n in range(4)
        )
        self.project = nn.ModuleList(nn.Conv2d(width, head_width, 1) for width in widths)
        fuse = nn.Conv2d(4 * head_width, head_width, 1, bias=False)
        nn.init.kaiming_normal_(fuse.weight, nonlinearity="relu")
        self.fuse = nn.Sequential(fuse, nn.BatchNorm2d(head_width), nn.ReLU())
        self.classify = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(head_width, out_channels, 1))

    def forward(self, x_in: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of ``x_in`` (B, channels, H, W), H and W multiples of 32."""
        self._check(x_in)
        levels, x = [], x_in
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return self._decode(levels, Region.whole(tuple(x_in.shape[2:])))

    def _decode(self, levels: list[Tensor], where: Region) -> Tensor:
        sources = [convolved(layer, given(level), 0) for layer, level in zip(self.project, levels)]
        quarter = [sources[0], *(enlarged(source, factor) for source, factor in zip(sources[1:], (2, 4, 8)))]
        cells = convolved(nn.Sequential(self.fuse, self.classify), joined(*reversed(quarter)), 0)
        return enlarged(cells, 4)(where).spread()

    @staticmethod
    def _check(x_in: Tensor) -> None:
        if any(size % 32 for size in x_in.shape[2:]):
            raise ValueError(f"The image must have sides that are multiples of 32, not {tuple(x_in.shape[2:])}.")


@register_model("segformer")
class PratoSegFormer(SegFormer):
    """SegFormer with prompt-driven token pruning before the patch embeddings.

    Takes SegFormer's arguments and loads its state dict strictly (the relevance projections, which it lacks, keep their initial values).
    Without a plan, or without a prompt in the whole batch, a call is SegFormer's own. Tokens leave in squares of two by two, one cell of
    the next stage. The next embedding still sees the values that they had; blocks neither compute nor see them.

    Args:
        stages: stages, counted from 1 to 3, after which a plan may prune (each owns relevance projections).
    """

    def __init__(self, *args: Any, stages: tuple[int, ...] = DEFAULT_PLAN.after, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.relevance = nn.ModuleDict({str(stage): Relevance(self.widths[stage - 1], 2) for stage in stages})

    def forward(self, x_in: Tensor, prompts: PromptBatch | None = None, plan: PruningPlan | None = None) -> Tensor:
        """Logits (B, classes, H, W) of ``x_in`` (B, channels, H, W); see :meth:`segment`."""
        return self.segment(x_in, prompts, plan).logits

    def segment(self, x_in: Tensor, prompts: PromptBatch | None, plan: PruningPlan | None) -> PrunedOutput:
        """Logits and the record of what was pruned; a record's grid is that of the stage that follows.

        Args:
            x_in: float (B, channels, H, W), H and W multiples of 32.
            prompts: boxes in input pixels; a sample without one keeps all its tokens.
            plan: what to prune; None for nothing. Tokens are removed in evaluation and masked, with a straight-through gradient to the
                relevance, in training.

        Raises:
            KeyError: the plan prunes after a stage that this network has no relevance projections for.
            ValueError: a side is no multiple of 32.
        """
        if plan is None or prompts is None or prompts.is_empty:
            return PrunedOutput(super().forward(x_in))
        self._check(x_in)
        pruning = PromptedPruning(self.relevance, plan, prompts.to(x_in.device), tuple(x_in.shape[2:]))
        levels = self._encode(x_in, pruning)
        return PrunedOutput(self._decode(levels, pruning.decoded(self.training)), tuple(pruning.stages))

    def _encode(self, x: Tensor, pruning: PromptedPruning) -> list[Tensor]:
        plan, image_size = pruning.plan, x.shape[2:]
        relaxed, masking = self.training or plan.mode == "mask", plan.mode == "mask"
        alive = pruning.start((image_size[0] // 4, image_size[1] // 4)).view(-1, image_size[0] // 4, image_size[1] // 4)
        gate = first_gate(alive, x.dtype) if relaxed else None
        levels: list[Tensor] = []
        stage: Any
        for number, stage in enumerate(self.stages, start=1):
            x = stage.embedded(x)
            if masking and gate is not None:
                x = x * gate.unsqueeze(-1)  # eq. 5: beta * Y
            for block in stage.blocks:
                x = block(x, None if masking else gate) if relaxed or bool(alive.all()) else block.dropping(x, alive)
            tokens = stage.norm(x)
            x = tokens.movedim(-1, 1)
            levels.append(x)
            if number == len(self.stages):
                break
            living, alive = alive, F.max_pool2d(alive.to(x.dtype).unsqueeze(1), 2).squeeze(1) > 0
            gate = None if gate is None else F.max_pool2d(gate.unsqueeze(1), 2).squeeze(1)
            if number in plan.after:
                score = pruning.score(number, tokens.flatten(1, 2), tuple(living.shape[1:]), living.flatten(1)).view_as(living)
                # siblings leave together: token by token, nearly every patch would keep some, and nothing would be spared
                patches = F.avg_pool2d(score.unsqueeze(1), 2).flatten(1)
                record = pruning.prune(f"stage {number}", tuple(alive.shape[1:]), patches, alive.flatten(1))
                if relaxed:
                    gate = pruning.gate(record, alive.flatten(1), None if gate is None else gate.flatten(1)).view_as(alive)
                alive = record.alive.view_as(alive)
        return levels
