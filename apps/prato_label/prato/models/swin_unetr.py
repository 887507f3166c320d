"""Swin UNETR that drops, before patch merging, the tokens that the prompted box makes irrelevant."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch.nn.functional as F
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import get_window_size
from torch import Tensor, nn

from prato.models.base import Begun, Encoded
from prato.models.registry import register_model
from prato.models.swin_block import dense_swin_blocks, masked_swin_blocks, pruned_swin_blocks, relaxed_swin_block
from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PrunedOutput, PruningPlan, StageRecord
from prato.pruning.prompted_pruning import PromptedPruning
from prato.pruning.relevance import Relevance
from prato.runtime.region import Region
from prato.runtime.region_decode import Part, Source, basic, given, up
from prato.runtime.static_shapes import FixedPruning

#: Before the first three mergings; after the fourth stage no transformer block is left to spare.
DEFAULT_PLAN = PruningPlan(after=(1, 2, 3), percentile=25.0)


@register_model("swin_unetr")
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

    def forward(self, x_in: Tensor, prompts: PromptBatch | None = None, plan: PruningPlan | None = None) -> Tensor:
        """Logits (B, classes, *image) of ``x_in`` (B, channels, *image); see :meth:`segment`."""
        return self.segment(x_in, prompts, plan).logits

    def segment(self, x_in: Tensor, prompts: PromptBatch | None, plan: PruningPlan | None) -> PrunedOutput:
        """Logits and the record of what was pruned.

        Args:
            x_in: float (B, channels, *image), every side a multiple of 32.
            prompts: boxes in input pixels; a sample without one keeps all its tokens.
            plan: what to prune; None for nothing. Tokens are removed in evaluation and masked, with a straight-through gradient to the
                relevance, in training.

        Raises:
            KeyError: the plan prunes at a stage that this network has no relevance projections for.
        """
        if plan is None or prompts is None or prompts.is_empty:
            return PrunedOutput(super().forward(x_in))
        self._check_input_size(x_in.shape[2:])
        return self.finish(x_in, self.begin(x_in, plan), prompts, plan)

    def begin(self, x_in: Tensor, plan: PruningPlan) -> Begun:
        """What :meth:`segment` does with ``x_in`` by ``plan`` before it looks at a box: patches, and without a stage 0 the first stage."""
        vit: Any = self.swinViT
        patches = vit.pos_drop(vit.patch_embed(x_in)).movedim(1, -1)
        if not plan.unprompted:
            return Begun(patches, 0, {0: patches})
        return Begun(dense_swin_blocks(vit.layers1[0], patches), 1, {0: patches})

    def finish(self, x_in: Tensor, begun: Begun, prompts: PromptBatch, plan: PruningPlan) -> PrunedOutput:
        """The rest of :meth:`segment`, for at least one box, after :meth:`begin` on the same ``x_in`` with the same ``plan``."""
        pruning = PromptedPruning(self.relevance, plan, prompts.to(x_in.device), tuple(x_in.shape[2:]))
        encoded = self.encode(begun, pruning)
        return PrunedOutput(self.decode(x_in, encoded, pruning.decoded(self.training)), encoded.stages)

    def shapes(self, plan: PruningPlan, prompts: PromptBatch, image_size: tuple[int, ...]) -> tuple[Region, ...]:
        """Where each stage's blocks have work at most, whichever tokens leave: known before a call, see :class:`FixedPruning`."""
        grid = tuple(s // p for s, p in zip(image_size, self.swinViT.patch_size))
        alive = plan.start(prompts, grid, image_size).view(-1, *grid)
        frames = []
        layer: Any
        for (layer,) in self._layers:
            frames.append(_frame(alive, layer, prompts, image_size))
            alive = _merge(alive.float()) > 0.5
        return tuple(frames)

    @property
    def _layers(self) -> tuple[Any, ...]:
        vit = self.swinViT
        return vit.layers1, vit.layers2, vit.layers3, vit.layers4

    def encode(self, begun: Begun, pruning: PromptedPruning) -> Encoded:
        """The stages that ``begun`` has not run, on the tokens that ``pruning`` lets live."""
        plan, prompts, image_size = pruning.plan, pruning.prompts, pruning.image_size
        x = begun.hidden[0]
        levels = {0: x}
        alive = pruning.start(tuple(x.shape[1:-1])).view(x.shape[:-1])
        relaxed = self.training or plan.mode == "mask"
        gate: Tensor | None = None  # the mask with its straight-through gradient, while training
        if relaxed and not bool(alive.all()):
            gate = alive.to(x.dtype)
            x = x * gate.unsqueeze(-1) if plan.mode == "mask" else x
        layer: Any
        for number, (layer,) in enumerate(self._layers, start=1):
            if isinstance(pruning, FixedPruning):
                frame, blocks = pruning.shapes[number - 1], masked_swin_blocks
            else:
                frame = Region.whole(tuple(alive.shape[1:])) if relaxed else _frame(alive, layer, prompts, image_size)
                blocks = partial(self._blocks, gate=gate, plan=plan)
            inner = (slice(None), *frame.slices)
            part = begun.tokens if number <= begun.blocks else blocks(layer, x[inner], alive[inner], frame.size)
            if number in plan.after:
                score = _placed(self._relevance(number, part, alive[inner], frame, prompts, image_size, plan), frame)
                score = _siblings_mean(plan.scores(score, prompts))
                held = plan.held(prompts, frame.size, image_size)
                # nothing lives outside the frame
                held = None if held is None else held.view_as(alive)[inner].flatten(1)
                rank, living = score[inner].flatten(1), alive[inner].flatten(1)
                keep = plan.select(rank, living, prompts.prompted, held)
                if relaxed:
                    soft = plan.straight_through(rank, keep, living).view_as(alive)
                    gate = soft if gate is None else gate * soft
                    if plan.mode == "mask":
                        part = part * gate.unsqueeze(-1)  # eq. 5: beta * Y
                alive = _placed(keep.view(-1, *frame.cells), frame)
            if frame == Region.whole(frame.size):
                x = part
            else:
                x = x.clone()  # what it was is a skip connection
                x[inner] = part
            x = layer.downsample(x)
            alive = _merge(alive.to(x.dtype)) > 0.5
            gate = None if gate is None else _merge(gate)
            if number in plan.after:
                pruning.stages.append(StageRecord(f"stage {number}", tuple(alive.shape[1:]), _merge(score).flatten(1), alive.flatten(1)))
            levels[number] = x
        return Encoded(levels, tuple(pruning.stages))

    def _blocks(self, layer: Any, x: Tensor, alive: Tensor, grid: tuple[int, ...], gate: Tensor | None, plan: PruningPlan) -> Tensor:
        if plan.mode == "mask" or (tuple(x.shape[1:-1]) == grid and bool(alive.all())):
            return dense_swin_blocks(layer, x)  # nothing is held out of the computation
        if gate is None:
            return pruned_swin_blocks(layer, x, alive, grid)
        for block in layer.blocks:
            x = relaxed_swin_block(block, x, gate)
        return x

    def _relevance(
        self, stage: int, part: Tensor, alive: Tensor, frame: Region, prompts: PromptBatch, image_size: tuple[int, ...], plan: PruningPlan
    ) -> Tensor:
        """(B, *cells) of the tokens ``part`` (B, *cells, C), which lie in ``frame``."""
        token = [s // g for s, g in zip(image_size, frame.size)]
        pixels = tuple(c * t for c, t in zip(frame.cells, token))
        seen = prompts.crop(tuple(a * t for a, t in zip(frame.start, token)), pixels)
        tokens, living = part.flatten(1, -2), alive.flatten(1)
        return self.relevance[str(stage)](tokens, frame.cells, pixels, seen, plan.k, living, plan.weights).view_as(alive)

    def _skip(self, x: Tensor) -> Source:
        """The skip connection that the tokens ``x`` (B, *grid, C) are, normed where it is wanted."""
        whole = Part(x.movedim(-1, 1), Region.whole(tuple(x.shape[1:-1])))
        return lambda want: Part(self.swinViT.proj_out(whole.cut(want).values, self.normalize), want)

    def decode(self, x_in: Tensor, encoded: Encoded, where: Region) -> Tensor:
        """Logits (B, classes, *image), decoded ``where`` alone and surely background elsewhere."""
        levels = [self._skip(encoded.features[number]) for number in range(5)]
        x = up(self.decoder5, basic(self.encoder10, levels[4]), levels[3])
        x = up(self.decoder4, x, basic(self.encoder4, levels[2]))
        x = up(self.decoder3, x, basic(self.encoder3, levels[1]))
        x = up(self.decoder2, x, basic(self.encoder2, levels[0]))
        x = up(self.decoder1, x, basic(self.encoder1, given(x_in)))
        return Part(self.out(x(where).values), where).spread()


def _frame(alive: Tensor, layer: Any, prompts: PromptBatch, image_size: tuple[int, ...]) -> Region:
    """Where a stage's blocks have work: round all living tokens and the boxes, ending between two windows and between two merged tokens."""
    grid = tuple(alive.shape[1:])
    frame = Region.from_mask(alive)
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


def _placed(values: Tensor, frame: Region) -> Tensor:
    """(B, *cells) of a frame on its whole grid, 0 elsewhere."""
    if frame == Region.whole(frame.size):
        return values
    canvas = values.new_zeros(values.shape[0], *frame.size)
    canvas[(slice(None), *frame.slices)] = values
    return canvas


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
