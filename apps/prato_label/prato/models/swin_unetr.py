"""Swin UNETR that drops, before patch merging, the tokens that the prompted box makes irrelevant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import get_window_size
from torch import Tensor

from prato.data.structures import NUM_CLASSES
from prato.models.base import EncoderOutput, ImageEmbedding, PrunableNetwork, monai_norm
from prato.models.registry import register_model
from prato.models.swin_block import dense_swin_blocks, masked_swin_blocks, pruned_swin_blocks, relaxed_swin_block
from prato.prompts.batch import PromptBatch
from prato.pruning.living import LivingTokens, largest_child
from prato.pruning.plan import PruningPlan
from prato.pruning.prompted_pruning import PromptedPruning
from prato.pruning.relevance import relevance_by_stage
from prato.runtime.region import Region
from prato.runtime.region_decode import LazyFeature, RegionFeatures, basic_block, from_tensor, up_block

#: Before the first three mergings; after the fourth stage no transformer block is left to spare.
DEFAULT_PLAN = PruningPlan(prune_after=(1, 2, 3), percentile=25.0)


@register_model(
    "swin_unetr",
    # batch normalisation: unlike instance normalisation, a pixel does not depend on what lies far from it
    preset={
        "arguments": {
            **{"in_channels": 3, "out_channels": NUM_CLASSES, "norm_name": "batch", "spatial_dims": 2},
            **{"feature_size": 24, "window_size": 5, "num_heads": (1, 2, 4, 8)},
        },
        "plan": replace(DEFAULT_PLAN, percentile=35.0, decode="kept").to_dict(),
    },
)
class PratoSwinUNETR(PrunableNetwork, SwinUNETR):
    """MONAI's Swin UNETR (2D or 3D) with prompt-driven token pruning at the patch-merging stages.

    Takes Swin UNETR's own arguments; loads its state dict strictly (the relevance projections, which it lacks, keep their initial values).
    Without a plan, or without a prompt in the whole batch, a call is MONAI's own forward. A merged token lives if any of its children
    lives; windows without a living token are skipped.

    Args:
        stages: Swin stages, counted from 1, before whose merging a plan may prune (each owns relevance projections).
    """

    def __init__(self, *args: Any, stages: tuple[int, ...] = DEFAULT_PLAN.prune_after, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.swinViT.use_v2:
            raise ValueError("Token pruning is not defined for use_v2=True: its convolutions mix dropped tokens back in.")
        dims = len(self.swinViT.window_size)
        width = self.swinViT.embed_dim
        self.relevance = relevance_by_stage(stages, [width * 2**number for number in range(len(self._layers))], dims)

    @classmethod
    def decoder_norm(cls, arguments: Mapping[str, Any]) -> str:
        return monai_norm(arguments)

    def forward_dense(self, image: Tensor) -> Tensor:
        return SwinUNETR.forward(self, image)

    def encode_image(self, image: Tensor, plan: PruningPlan | None) -> ImageEmbedding:
        """The patches and, where none leaves before it, the first stage's blocks."""
        if plan is None:
            return ImageEmbedding()
        self._check_input_size(image.shape[2:])
        vit: Any = self.swinViT
        patches = vit.pos_drop(vit.patch_embed(image)).movedim(1, -1)
        if not plan.unprompted_depth:
            return ImageEmbedding(0, {0: patches})
        return ImageEmbedding(1, {0: patches, 1: dense_swin_blocks(vit.layers1[0], patches)})

    def static_shapes(self, plan: PruningPlan, prompts: PromptBatch, image_size: tuple[int, ...]) -> tuple[Region, ...]:
        """Where each stage's blocks have work at most."""
        grid = tuple(s // p for s, p in zip(image_size, self.swinViT.patch_size))
        living = LivingTokens(plan.start(prompts, grid).view(-1, *grid))
        frames = []
        layer: Any
        for (layer,) in self._layers:
            frames.append(_frame(living, layer, prompts, image_size))
            living = living.merge()
        return tuple(frames)

    @property
    def _layers(self) -> tuple[Any, ...]:
        vit = self.swinViT
        return vit.layers1, vit.layers2, vit.layers3, vit.layers4

    def encode(self, image: Tensor, embedding: ImageEmbedding, pruning: PromptedPruning) -> EncoderOutput:
        """All stages; the grid in a pruning stage's record is that of the merged tokens."""
        x = embedding.features[0]  # (B, *grid, C)
        levels = {0: x}
        living = pruning.start(tuple(x.shape[1:-1]), x.dtype)
        x = pruning.mask(x, living)
        layer: Any
        for number, (layer,) in enumerate(self._layers, start=1):
            frame = self._work(number, living, layer, pruning)
            part = embedding.tokens if number <= embedding.depth else _run_blocks(layer, x, living, frame, pruning)  # (B, *frame.cells, C)
            if number in pruning.plan.prune_after:
                score = _siblings_mean(pruning.score(number, part, living, frame))
                living = pruning.prune(score, living, frame)
                part = pruning.mask(part, living)
            x = levels[number] = layer.downsample(frame.paste(part, x))
            living = living.merge()
            if number in pruning.plan.prune_after:
                pruning.record(f"stage {number}", largest_child(score), living)
        return EncoderOutput(levels, tuple(pruning.stages))

    @staticmethod
    def _work(number: int, living: LivingTokens, layer: Any, pruning: PromptedPruning) -> Region:
        """Where the blocks of a stage are computed: a part of the grid that holds all living tokens."""
        if pruning.shapes is not None:
            frame: Region = pruning.shapes[number - 1]
            return frame
        if pruning.is_relaxed:
            return Region.whole(living.grid)
        return _frame(living, layer, pruning.prompts, pruning.image_size)

    def _skip(self, x: Tensor) -> LazyFeature:
        """The skip connection that the tokens ``x`` (B, *grid, C) are, normed where it is needed."""
        tokens = from_tensor(x.movedim(-1, 1))
        return lambda region: RegionFeatures(self.swinViT.proj_out(tokens(region).values, self.normalize), region)

    def decode(self, image: Tensor, encoded: EncoderOutput, region: Region) -> Tensor:
        levels = [self._skip(encoded.features[number]) for number in range(5)]
        x = up_block(self.decoder5, basic_block(self.encoder10, levels[4]), levels[3])
        x = up_block(self.decoder4, x, basic_block(self.encoder4, levels[2]))
        x = up_block(self.decoder3, x, basic_block(self.encoder3, levels[1]))
        x = up_block(self.decoder2, x, basic_block(self.encoder2, levels[0]))
        x = up_block(self.decoder1, x, basic_block(self.encoder1, from_tensor(image)))
        return RegionFeatures(self.out(x(region).values), region).to_logits()


def _run_blocks(layer: Any, x: Tensor, living: LivingTokens, frame: Region, pruning: PromptedPruning) -> Tensor:
    """A stage's blocks on the tokens of ``frame`` in ``x`` (B, *grid, C): (B, *frame.cells, C)."""
    x, alive = frame.cut(x), frame.cut(living.alive)
    if pruning.shapes is not None:
        return masked_swin_blocks(layer, x, alive, living.grid)
    if pruning.is_masking or (frame.is_whole and bool(alive.all())):
        return dense_swin_blocks(layer, x)  # nothing is held out of the computation
    if living.gate is None:
        return pruned_swin_blocks(layer, x, alive, living.grid)
    for block in layer.blocks:  # relaxed: the frame is whole
        x = relaxed_swin_block(block, x, living.gate)
    return x


def _frame(living: LivingTokens, layer: Any, prompts: PromptBatch, image_size: tuple[int, ...]) -> Region:
    """Where a stage's blocks have work: round all living tokens and the boxes, ending between two windows and between two merged tokens."""
    grid, frame = living.grid, living.region()
    # a box reads its tokens and, interpolating, their neighbours
    boxes = prompts.footprint(grid, max(s / g for s, g in zip(image_size, grid)))
    frame = frame.union(boxes.start, boxes.stop)
    window = get_window_size(grid, layer.window_size)
    steps = tuple(w * 2 if w % 2 else w for w in window)
    frame = frame.align(steps)
    if any(n % w and b == n for b, n, w in zip(frame.stop, grid, window)):
        # MONAI pads such a grid, and padding is seen by its neighbours: by those beside the frame's ends too
        frame = frame.dilate(max(window)).align(steps)
    return frame


def _siblings_mean(values: Tensor) -> Tensor:
    """(B, *grid): each token gets the mean over those it will be merged with, so that siblings leave together.

    Token by token, nearly every merged token would keep some child, and nothing would be spared.
    """
    pool = F.avg_pool2d if values.ndim == 3 else F.avg_pool3d
    mean = pool(values.unsqueeze(1), 2, ceil_mode=True, count_include_pad=False)
    for axis, size in enumerate(values.shape[1:], start=2):
        mean = mean.repeat_interleave(2, axis).narrow(axis, 0, size)
    return mean.squeeze(1)
