"""SegFormer, and SegFormer that drops, before the next stage's patch embedding, the tokens that the prompted box makes irrelevant (2D)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prato.models.base import EncoderOutput, ImageEmbedding, PrunableNetwork
from prato.models.mix_transformer import MixStage
from prato.models.registry import register_model
from prato.pruning.plan import PruningPlan
from prato.pruning.prompted_pruning import PromptedPruning
from prato.pruning.relevance import relevance_by_stage
from prato.runtime.region import Region
from prato.runtime.region_decode import apply_layers, concat, from_tensor, upsample

#: Before the embedding of stages 2, 3 and 4.
DEFAULT_PLAN = PruningPlan(prune_after=(1, 2, 3), percentile=25.0)
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

    def _decode(self, levels: Sequence[Tensor], region: Region) -> Tensor:
        projected = [apply_layers(layer, from_tensor(level), rim=0) for layer, level in zip(self.project, levels)]
        quarter = [projected[0], *(upsample(feature, factor) for feature, factor in zip(projected[1:], (2, 4, 8)))]
        cells = apply_layers(nn.Sequential(self.fuse, self.classify), concat(*reversed(quarter)), rim=0)
        return upsample(cells, 4)(region).to_logits()

    @staticmethod
    def _check(x_in: Tensor) -> None:
        if any(size % 32 for size in x_in.shape[2:]):
            raise ValueError(f"The image must have sides that are multiples of 32, not {tuple(x_in.shape[2:])}.")


@register_model("segformer")
class PratoSegFormer(PrunableNetwork, SegFormer):
    """SegFormer with prompt-driven token pruning before the patch embeddings.

    Takes SegFormer's arguments and loads its state dict strictly (the relevance projections, which it lacks, keep their initial values).
    Without a plan, or without a prompt in the whole batch, a call is SegFormer's own. Tokens leave in squares of two by two, one cell of
    the next stage. The next embedding still sees the values that they had; blocks neither compute nor see them.

    Args:
        stages: stages, counted from 1 to 3, after which a plan may prune (each owns relevance projections).
    """

    def __init__(self, *args: Any, stages: tuple[int, ...] = DEFAULT_PLAN.prune_after, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.relevance = relevance_by_stage(stages, self.widths[:-1], 2)

    def forward_dense(self, image: Tensor) -> Tensor:
        return SegFormer.forward(self, image)

    def encode(self, image: Tensor, embedding: ImageEmbedding, pruning: PromptedPruning) -> EncoderOutput:
        """All stages; the grid in a pruning stage's record is that of the stage that follows."""
        self._check(image)
        x, grid = image, tuple(s // 4 for s in image.shape[2:])
        living = pruning.start(grid, x.dtype)
        levels: dict[int, Tensor] = {}
        stage: Any
        for number, stage in enumerate(self.stages, start=1):
            x = pruning.mask(stage.embedded(x), living)  # (B, *grid, C)
            computes_all = pruning.is_relaxed or bool(living.alive.all())
            gate = None if pruning.is_masking else living.gate
            for block in stage.blocks:
                x = block(x, gate) if computes_all else block.run_dropping(x, living.alive)
            tokens = stage.norm(x)
            x = levels[number] = tokens.movedim(-1, 1)
            if number == len(self.stages):
                break
            patches = living.merge()
            if number in pruning.plan.prune_after:
                # siblings leave together: token by token, nearly every patch would keep some, and nothing would be spared
                score = F.avg_pool2d(pruning.score(number, tokens, living).unsqueeze(1), 2).squeeze(1)
                patches = pruning.prune(score, patches)
                pruning.record(f"stage {number}", score, patches)
            living = patches
        return EncoderOutput(levels, tuple(pruning.stages))

    def decode(self, image: Tensor, encoded: EncoderOutput, region: Region) -> Tensor:
        return self._decode([encoded.features[number] for number in sorted(encoded.features)], region)
