"""Swin UNETR that sees the whole stack at a glance, and computes in detail only where its overview finds the heart."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from prato.data.structures import NUM_CLASSES
from prato.models.base import ImageEmbedding
from prato.models.overview import TOKEN, HeartRelevance, Overview, SliceAttention, box_features
from prato.models.registry import register_model
from prato.models.swin_block import dense_swin_blocks
from prato.models.swin_unetr import PratoSwinUNETR
from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PruningPlan
from prato.pruning.record import PrunedOutput, StageRecord
from prato.runtime.region import Region
from prato.runtime.region_decode import RegionFeatures

#: Tokens leave once, before the first block of the Swin: those that the overview finds less relevant than tau (eq. 5).
TAU = 0.1
DEFAULT_PLAN = PruningPlan(prune_after=(1,), percentile=None, threshold=TAU, decode="kept")
#: Pixels: sides of the region that is computed are multiples of this (MONAI's Swin UNETR halves them five times) and no shorter than that.
STEP, SHORTEST = 32, 96
#: Pixels of context that the region shows round the tokens that stay.
RIM = 4
#: A connected group of kept tokens smaller than this share of the largest one is an island.
ISLAND = 0.2


@register_model(
    "overview_swin_unetr",
    plan=DEFAULT_PLAN,
    preset={
        "arguments": {
            **{"in_channels": 3, "out_channels": NUM_CLASSES, "norm_name": "batch", "spatial_dims": 2},
            **{"feature_size": 24, "window_size": 5, "num_heads": (1, 2, 4, 8)},
        },
        "centre": "stack",
        "plan": DEFAULT_PLAN.to_dict(),
    },
)
class PratoOverviewSwinUNETR(PratoSwinUNETR):
    """A Swin UNETR for stacks of whole slices: an image's batch is one stack, its slices in order.

    A small transformer on tokens of 12 mm, the overview, looks at the whole stack once. Its relevance (arXiv 2506.16369, eqs. 2-5), against
    the prompt and a query that has learned what hearts look like, says which tokens go on to MONAI's network: the smallest region that
    holds those of all slices. The third stage is told what the overview knows of its tokens, where the box lies, and what is at their
    place in other slices. What is added to MONAI's network is zero-initialised where it enters.

    Args:
        overview_dim, overview_depth: width of the overview's tokens, and its transformer blocks.
        args, kwargs: as for :class:`PratoSwinUNETR`, in 2D.
    """

    def __init__(self, *args: Any, overview_dim: int = 96, overview_depth: int = 4, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "stages": ()})
        width = 4 * self.swinViT.embed_dim
        self.overview = Overview(overview_dim, 4, overview_depth)
        self.heart_relevance = HeartRelevance(overview_dim)
        self.context = nn.Linear(overview_dim, width)
        told = nn.Linear(64, width)
        self.guidance = nn.Sequential(nn.Linear(6, 64), nn.GELU(), told)
        self.along = nn.ModuleList(SliceAttention(width, 4) for _ in range(2))
        for last in (self.context, told):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    @property
    def prune_points(self) -> tuple[int, ...]:
        """Before the first stage's blocks, which a plan counts as after 1."""
        return (1,)

    def encode_image(self, image: Tensor, plan: PruningPlan | None = None) -> ImageEmbedding:
        """The overview's tokens (S, H / 8, W / 8, dim) of a whole stack ``image`` (S, 3, H, W), H and W multiples of 16.

        They serve every plan; those of some slices alone serve a call on these slices.
        """
        middle = image[:, image.shape[1] // 2]
        return ImageEmbedding(0, {0: self.overview(F.avg_pool2d(middle.unsqueeze(1), 2).transpose(0, 1)).squeeze(0)})

    def segment(self, image: Tensor, prompts: PromptBatch | None = None, plan: PruningPlan | None = None) -> PrunedOutput:
        """:meth:`encode_image` and :meth:`predict` in one call."""
        return self.predict(image, self.encode_image(image, plan), prompts, plan)

    def predict(self, image: Tensor, embedding: ImageEmbedding, prompts: PromptBatch | None, plan: PruningPlan | None) -> PrunedOutput:
        """Logits and the record of what was pruned.

        Args:
            image: float (S, 3, H, W), slices of one stack, whole and in order; H and W multiples of 16.
            embedding: the overview's tokens of these slices.
            prompts: in pixels; all of them together say what is prompted, and none is needed.
            plan: tokens whose sigmoid(relevance) is above its threshold go on. One with a percentile lets so many percent of all tokens
                leave at most, those farthest from the relevant ones first. None for no pruning.
        """
        tokens = embedding.tokens.unsqueeze(0)
        box, has_box = prompted_box(prompts, image.device)
        if plan is None:
            return PrunedOutput(self._compute(image, tokens, box, has_box, Region.whole(tuple(image.shape[2:]))))
        relevance = self.heart_relevance(tokens, box, has_box)[0]
        keep = relevant_tokens(relevance, plan)
        grid = tuple(keep.shape[1:])
        if not bool(keep.any()):  # no heart is seen: what the prompt points at is all there is to look at
            keep = torch.ones_like(keep) if prompts is None or prompts.is_empty else prompts.protected(grid).view_as(keep)
        share = 0.0 if plan.percentile is None else 1 - plan.percentile / 100
        region = computed_region(keep, tuple(image.shape[2:]), share)
        logits = self._compute(image, tokens, box, has_box, region)
        alive = torch.zeros_like(keep)
        alive[(slice(None), *(slice(a // TOKEN, -(-b // TOKEN)) for a, b in zip(region.start, region.stop)))] = True
        return PrunedOutput(logits, (StageRecord("overview", grid, relevance.flatten(1), alive.flatten(1)),))

    def find_heart(self, embedding: ImageEmbedding, plan: PruningPlan) -> Tensor:
        """bool (S, H / 8, W / 8): where the overview finds the heart without any prompt."""
        tokens = embedding.tokens.unsqueeze(0)
        box, has_box = prompted_box(None, tokens.device)
        return relevant_tokens(self.heart_relevance(tokens, box, has_box)[0], plan)

    def _compute(self, image: Tensor, tokens: Tensor, box: Tensor, has_box: Tensor, region: Region) -> Tensor:
        """Logits (S, classes, H, W), computed in ``region`` alone and surely background elsewhere."""
        inner = (slice(None), slice(None), *region.slices)
        window = image[inner]
        seen = tokens[(slice(None), slice(None), *(slice(a // TOKEN, -(-b // TOKEN)) for a, b in zip(region.start, region.stop)))]
        beyond = [-n % STEP for n in window.shape[2:]]  # MONAI's network halves the sides five times
        if any(beyond):
            window = F.pad(window, (0, beyond[1], 0, beyond[0]), value=-1.0)
            seen = F.pad(seen, (0, 0, 0, window.shape[3] // TOKEN - seen.shape[3], 0, window.shape[2] // TOKEN - seen.shape[2]))
        corner = torch.tensor([region.start], device=image.device)
        logits = self.decode_windows(window.unsqueeze(0), seen, box, has_box, corner)
        return RegionFeatures(logits[:, :, : region.cells[0], : region.cells[1]], region).to_logits()

    def train_windows(self, window: Tensor, corner: Tensor, overview: Tensor, box: Tensor, has_box: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B * S, classes, h, w) of windows, and of relevance (B, S, H / 8, W / 8) on the whole slices.

        Args:
            window: (B, S, channels, h, w). corner: int64 (B, 2), their first pixels, multiples of 8.
            overview: (B, S, H / 2, W / 2), the whole slices at half the resolution.
            box, has_box: as for :class:`HeartRelevance`.
        """
        tokens = self.overview(overview)
        relevant = self.heart_relevance(tokens, box, has_box)
        grid = (window.shape[-2] // TOKEN, window.shape[-1] // TOKEN)
        seen = _cut_tokens(tokens, corner // TOKEN, grid)
        return self.decode_windows(window, seen, box, has_box, corner), relevant

    def decode_windows(self, window: Tensor, seen: Tensor, box: Tensor, has_box: Tensor, corner: Tensor) -> Tensor:
        """Logits of ``window`` (B, S, channels, h, w) whose overview tokens are ``seen`` (B, S, h / 8, w / 8, dim)."""
        batch, slices = window.shape[:2]
        grid = (window.shape[-2] // TOKEN, window.shape[-1] // TOKEN)
        x_in = window.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        vit: Any = self.swinViT
        hidden = [vit.pos_drop(vit.patch_embed(x_in)).movedim(1, -1)]
        for number, layers in enumerate((vit.layers1, vit.layers2, vit.layers3, vit.layers4)):
            x = hidden[-1]
            if number == 2:
                told = self.context(seen) + self.guidance(box_features(box, has_box, corner, grid).unsqueeze(1))
                x = x + told.flatten(0, 1).to(x.dtype)
                x = self._attend_along(0, x, batch, slices)
            x = dense_swin_blocks(layers[0], x)
            if number == 2:
                x = self._attend_along(1, x, batch, slices)
            hidden.append(layers[0].downsample(x))
        levels = [F.layer_norm(x, x.shape[-1:]).movedim(-1, 1) if self.normalize else x.movedim(-1, 1) for x in hidden]
        decoded = self.decoder5(self.encoder10(levels[4]), levels[3])
        decoded = self.decoder4(decoded, self.encoder4(levels[2]))
        decoded = self.decoder3(decoded, self.encoder3(levels[1]))
        decoded = self.decoder2(decoded, self.encoder2(levels[0]))
        return self.out(self.decoder1(decoded, self.encoder1(x_in)))

    def _attend_along(self, number: int, x: Tensor, batch: int, slices: int) -> Tensor:
        mixed: Tensor = self.along[number](x.view(batch, slices, -1, x.shape[-1]))
        return mixed.view_as(x)


def prompted_box(prompts: PromptBatch | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """The box round all prompts, float32 (1, 2, 2) in pixels, and bool (1,), whether there are any."""
    if prompts is None or prompts.is_empty:
        return torch.tensor([[[0.0, 0.0], [float(TOKEN), float(TOKEN)]]], device=device), torch.zeros(1, dtype=torch.bool, device=device)
    places = [group.coordinates for group in prompts.groups]
    low = torch.stack([at.amin((0, 1)) for at in places]).amin(0)
    high = torch.stack([at.amax((0, 1)) for at in places]).amax(0)
    return torch.stack([low, high]).unsqueeze(0).to(device), torch.ones(1, dtype=torch.bool, device=device)


def relevant_tokens(relevance: Tensor, plan: PruningPlan) -> Tensor:
    """bool (S, h, w): the tokens whose sigmoid(relevance) is above the plan's threshold, but those in small islands: an island beside the
    heart would cost as much as the rectangle round both.
    """
    keep = torch.sigmoid(relevance) > (TAU if plan.threshold is None else plan.threshold)
    islands, count = ndimage.label(keep.cpu().numpy(), np.ones((3, 3, 3)))
    if count > 1:
        sizes = np.bincount(islands.ravel())
        sizes[0] = 0
        keep &= torch.from_numpy(np.isin(islands, np.flatnonzero(sizes >= ISLAND * sizes.max()))).to(keep.device)
    return keep


def computed_region(keep: Tensor, size: tuple[int, ...], share: float = 0.0) -> Region:
    """The pixels of an image of ``size`` that are computed: round the kept tokens (S, h, w) of all slices, with a rim, on the token grid.

    Args:
        share: of the image's tokens that the region holds at least; it grows on all sides until it does.
    """
    kept = Region.from_mask(keep)
    while kept.share < share:
        kept = kept.dilate(1)
    start, stop = [], []
    for a, b, n in zip(kept.start, kept.stop, size):
        low, high = max(a * TOKEN - RIM, 0), min(b * TOKEN + RIM, n)
        length = min(max(SHORTEST, -(-(high - low) // STEP) * STEP), n)
        first = round(((low + high) / 2 - length / 2) / TOKEN) * TOKEN
        start.append(min(max(first, 0), (n - length) // TOKEN * TOKEN))
        stop.append(min(start[-1] + length, n))
    return Region(tuple(start), tuple(stop), size)


def _cut_tokens(tokens: Tensor, corner: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, S, H, W, C) -> (B, S, *grid, C), from ``corner`` (B, 2) on."""
    rows = corner[:, :1] + torch.arange(grid[0], device=corner.device)
    columns = corner[:, 1:] + torch.arange(grid[1], device=corner.device)
    batch = torch.arange(len(tokens), device=corner.device)[:, None, None]
    return tokens.permute(0, 2, 3, 1, 4)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2, 4)
