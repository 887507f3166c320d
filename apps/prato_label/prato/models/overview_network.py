"""Networks that see the whole stack at a glance, and compute in detail only where their overview finds the heart."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prato.models.base import ImageEmbedding, PrunableNetwork
from prato.models.heart_relevance import HeartRelevance, box_features
from prato.models.overview import TOKEN, Overview, OverviewMemory
from prato.models.overview_region import (
    DECODED,
    TAU,
    ChosenRegion,
    computed_region,
    cut_place,
    cut_tokens,
    cut_window,
    decoded_tokens,
    prompted_box,
    relevant_tokens,
    token_slices,
)
from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PruningPlan
from prato.pruning.record import PrunedOutput, StageRecord
from prato.runtime.region import Region
from prato.runtime.region_decode import RegionFeatures

#: Tokens leave once, before anything is computed in detail.
OVERVIEW_PLAN = PruningPlan(prune_after=(1,), percentile=None, threshold=TAU, decode="kept")
#: Pixels of all the slices that are encoded or decoded at once: on a CPU a handful of whole slices, so that long stacks stay within memory.
CPU_PIXELS, GPU_PIXELS = 2**18, 2**23
#: Slices that a CPU decodes together from tokens to pixels, in regions of up to so many pixels and in larger ones: those of more would not
#: stay in its cache.
_SMALL_REGION, _SLICES_IN_CACHE = 2**14, (4, 2)
#: Features (K, ...) of some slices after each level, in the network's own layout.
Levels = list[Tensor]


class EncodedPart(NamedTuple):
    """Some slices of a stack, or of several: their ``windows`` (K, channels, h, w) and what the encoder makes of them."""

    windows: Tensor
    levels: Levels


class OverviewNetwork(PrunableNetwork):
    """A network for stacks of whole slices: an image's batch is one stack, its slices in order.

    A small transformer on tokens of 8 pixels, the overview, looks at the whole stack once. Its relevance (arXiv 2506.16369, eqs. 2-5),
    against the prompt and a query that has learned what hearts look like, says which tokens go on to the rest of the network: the smallest
    region that holds those of all slices. There, features of 8 pixels are told what the overview knows of them and where the box lies.
    What is added is zero-initialised where it enters. From these features to pixels, slices are decoded a few at a time, round the
    tokens of these alone.

    A network is such a class with :meth:`_encode_windows`, :meth:`_decode_tokens` and :meth:`_decode_pixels`; it calls
    :meth:`_add_overview` when it is built.

    Attributes:
        multiple: of so many pixels the sides of the region are.
    """

    multiple: int

    def _add_overview(self, dim: int, depth: int, width: int) -> None:
        """Let features of ``width`` channels be told by an overview of ``depth`` blocks on tokens of ``dim``."""
        self.overview = Overview(dim, 4, depth)
        self.heart_relevance = HeartRelevance(dim)
        self.context = nn.Linear(dim, width)
        told = nn.Linear(64, width)
        self.guidance = nn.Sequential(nn.Linear(6, 64), nn.GELU(), told)
        for last in (self.context, told):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def encode_image(self, image: Tensor, plan: PruningPlan | None = None) -> ImageEmbedding:
        """The overview's tokens (S, H / 8, W / 8, dim) of a whole stack ``image`` (S, 3, H, W), H and W multiples of 16.

        They serve every plan; those of some slices alone serve a call on these slices.
        """
        return ImageEmbedding(0, {0: self.encode_stacks(image[:, image.shape[1] // 2].unsqueeze(0)).squeeze(0)})

    def encode_stacks(self, slices: Tensor) -> Tensor:
        """The overview's tokens (B, S, H / 8, W / 8, dim) of B stacks ``slices`` (B, S, H, W)."""
        tokens: Tensor = self.overview(F.avg_pool2d(slices, 2))
        return tokens

    def remember_stacks(self, slices: Tensor, choose: Callable[[Tensor], Region]) -> OverviewMemory:
        """What :meth:`encode_stacks` makes of ``slices``, with what :meth:`update_stacks` needs of it; see :meth:`Overview.remember`."""
        return self.overview.remember(F.avg_pool2d(slices, 2), choose)

    def update_stacks(self, slices: Tensor, memory: OverviewMemory) -> Tensor:
        """What :meth:`encode_stacks` would make of ``slices``, which are like the remembered ones: see :meth:`Overview.update`."""
        return self.overview.update(F.avg_pool2d(slices, 2), memory)

    @property
    def has_static_shapes(self) -> bool:
        """It has none, unlike the network that it extends: what is computed depends on what its overview finds."""
        return False

    def predict(self, image: Tensor, embedding: ImageEmbedding, prompts: PromptBatch | None, plan: PruningPlan | None) -> PrunedOutput:
        """Logits and the record of what was pruned: :meth:`choose_region`, :meth:`encode_regions` and :meth:`decode_parts` of all slices.

        Args:
            image: float (S, 3, H, W), slices of one stack, whole and in order; H and W multiples of 16.
            embedding, prompts, plan: as for :meth:`choose_region`; an ``embedding`` without tokens is made here.
        """
        embedding = embedding if embedding.features else self.encode_image(image, plan)
        region, decoded, stages = self.choose_region(tuple(image.shape[2:]), embedding, prompts, plan)
        parts = self.encode_regions([image], embedding.tokens.unsqueeze(0), [prompts], [region])
        logits = torch.cat([decode() for _, decode in self.decode_parts(parts, region.cells, decoded)])
        return PrunedOutput(RegionFeatures(logits, region).to_logits(), stages)

    def choose_region(
        self, size: tuple[int, ...], embedding: ImageEmbedding, prompts: PromptBatch | None, plan: PruningPlan | None
    ) -> ChosenRegion:
        """Where slices of ``size`` pixels are computed.

        Args:
            embedding: the overview's tokens of the slices.
            prompts: in pixels; all of them together say what is prompted, and none is needed.
            plan: tokens whose sigmoid(relevance) is above its threshold go on. One with a percentile lets so many percent of all tokens
                leave at most, those farthest from the relevant ones first; what stays is decoded in every slice. None for no pruning.
        """
        return self.choose_regions(size, embedding.tokens.unsqueeze(0), [prompts], plan)[0]

    def choose_regions(
        self, size: tuple[int, ...], tokens: Tensor, prompts: Sequence[PromptBatch | None], plan: PruningPlan | None
    ) -> list[ChosenRegion]:
        """:meth:`choose_region` for each of B stacks with ``tokens`` (B, S, H / 8, W / 8, dim)."""
        if plan is None:
            return [ChosenRegion.whole(size, tokens.shape[1])] * len(tokens)
        chosen = []
        boxes, has_box = map(torch.cat, zip(*(prompted_box(of_stack, tokens.device) for of_stack in prompts)))
        for relevance, of_stack in zip(self.heart_relevance(tokens, boxes, has_box), prompts):
            keep = relevant_tokens(relevance, plan)
            grid = tuple(keep.shape[1:])
            if of_stack is not None and not all(group.kind.locates for group in of_stack.groups):
                keep = keep | of_stack.pinned(grid).view_as(keep)
            if not bool(keep.any()):  # no heart is seen: what the prompt points at is all there is to look at
                keep = torch.ones_like(keep) if of_stack is None or of_stack.is_empty else of_stack.protected(grid).view_as(keep)
            region = computed_region(keep, size, self.multiple, 0.0 if plan.percentile is None else 1 - plan.percentile / 100)
            alive = torch.zeros_like(keep)
            alive[(slice(None), *token_slices(region))] = True
            near = keep | relevant_tokens(relevance, plan, DECODED) if plan.percentile is None else alive
            decoded = decoded_tokens(near, region)
            chosen.append(ChosenRegion(region, decoded, (StageRecord("overview", grid, relevance.flatten(1), alive.flatten(1)),)))
        return chosen

    def encode_regions(
        self, images: Sequence[Tensor], tokens: Tensor, prompts: Sequence[PromptBatch | None], regions: Sequence[Region]
    ) -> list[EncodedPart]:
        """What :meth:`decode_parts` is given, for all slices of B stacks in order, as many in a part as are computed at once.

        Args:
            images: of each stack, (S, 3, H, W). tokens: (B, S, H / 8, W / 8, dim). regions: of each stack, all of one size.
        """
        cells, device = regions[0].cells, tokens.device
        seen = torch.stack([own[(slice(None), *token_slices(region))] for own, region in zip(tokens, regions)])
        beyond = [-n % self.multiple for n in cells]
        if any(beyond):
            grid = [(n + more) // TOKEN for n, more in zip(cells, beyond)]
            seen = F.pad(seen, (0, 0, 0, grid[1] - seen.shape[3], 0, grid[0] - seen.shape[2]))
        corner = torch.tensor([region.start for region in regions], device=device)
        windows = torch.cat([cut_window(image, region, self.multiple) for image, region in zip(images, regions)])
        parts = [part.contiguous(memory_format=torch.channels_last) for part in windows.split(slices_at_once(cells, device))]
        boxes, has_box = map(torch.cat, zip(*(prompted_box(of_stack, device) for of_stack in prompts)))
        return list(map(EncodedPart, parts, self._encode_windows(parts, self._hints(seen, boxes, has_box, corner))))

    def decode_parts(
        self, parts: list[EncodedPart], cells: Sequence[int], decoded: Sequence[Region] | None = None
    ) -> Iterator[tuple[slice, Callable[[], Tensor]]]:
        """Of one part of :meth:`encode_regions` after the other: which of all slices it holds, and the call that returns their logits.

        They are (K, classes, *cells). The call may be made again where it was given up before its end.

        Args:
            parts: emptied on the way, as those of many slices take memory.
            cells: of the regions, in pixels.
            decoded: of each slice, the tokens of its region to be decoded; slices that are decoded together share the smallest
                rectangle round theirs, and are surely background elsewhere. None for all of them.
        """
        first = 0
        while parts:
            part = parts.pop(0)
            rows = slice(first, first + len(part.windows))
            yield rows, partial(self._decode_part, part, cells, decoded and decoded[rows])
            first = rows.stop

    def _decode_part(self, part: EncodedPart, cells: Sequence[int], decoded: Sequence[Region] | None) -> Tensor:
        x, finer = self._decode_tokens(*part)
        at_once = _slices_in_cache(cells) if x.device.type == "cpu" else len(x)
        places = decoded or [Region.whole(tuple(x.shape[2:]))] * len(x)
        logits = []
        for first in range(0, len(x), at_once):
            rows = slice(first, first + at_once)
            place = Region(places[first].start, places[first].stop, tuple(x.shape[2:]))
            for other in places[rows]:
                place = place.union(other.start, other.stop)
            values = self._decode_pixels(*(cut_place(level[rows], place) for level in (x, *finer)))
            logits.append(RegionFeatures(values, place.upscale(TOKEN)).to_logits())
        return torch.cat(logits)[:, :, : cells[0], : cells[1]]

    def find_heart(self, embedding: ImageEmbedding, plan: PruningPlan) -> Tensor:
        """float (S, H / 8, W / 8): sigmoid(relevance) of the tokens that stay without any prompt, 0 of those that leave."""
        tokens = embedding.tokens.unsqueeze(0)
        box, has_box = prompted_box(None, tokens.device)
        relevance = self.heart_relevance(tokens, box, has_box)[0]
        return torch.sigmoid(relevance) * relevant_tokens(relevance, plan)

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
        seen = cut_tokens(tokens, corner // TOKEN, grid)
        return self.decode_windows(window, seen, box, has_box, corner), relevant

    def decode_windows(self, window: Tensor, seen: Tensor, box: Tensor, has_box: Tensor, corner: Tensor) -> Tensor:
        """Logits of ``window`` (B, S, channels, h, w) whose overview tokens are ``seen`` (B, S, h / 8, w / 8, dim)."""
        slices = window.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        (levels,) = self._encode_windows([slices], self._hints(seen, box, has_box, corner))
        x, finer = self._decode_tokens(slices, levels)
        return self._decode_pixels(x, *finer)

    def _hints(self, seen: Tensor, box: Tensor, has_box: Tensor, corner: Tensor) -> Tensor:
        """What is added to features of 8 pixels, (B, S, h, w, width): what the overview knows of its tokens ``seen`` (B, S, h, w, dim), and
        where the box lies of windows whose first pixels are ``corner`` (B, 2).
        """
        known: Tensor = self.context(seen)
        return known + self.guidance(box_features(box, has_box, corner, (seen.shape[2], seen.shape[3]))).unsqueeze(1)

    @abstractmethod
    def _encode_windows(self, parts: list[Tensor], hints: Tensor) -> list[Levels]:
        """What :meth:`_decode_tokens` is given besides each of ``parts`` (K, channels, h, w), which together are B stacks of S slices.

        Args:
            hints: what is added to their features of 8 pixels, (B, S, h / 8, w / 8, width).
        """

    @abstractmethod
    def _decode_tokens(self, slices: Tensor, levels: Levels) -> tuple[Tensor, list[Tensor]]:
        """Decoded features of 8 pixels of ``slices`` (K, channels, h, w), and what :meth:`_decode_pixels` is given besides: (K, C, ...),
        at finer and finer resolution.
        """

    @abstractmethod
    def _decode_pixels(self, x: Tensor, *finer: Tensor) -> Tensor:
        """Logits (K, classes, h, w) of what :meth:`_decode_tokens` returns, or of any part of its tokens, each slice by itself."""


def slices_at_once(size: tuple[int, ...], device: torch.device) -> int:
    """How many slices of ``size`` pixels are encoded or decoded together; those that a CPU decodes from tokens to pixels are not parted."""
    count = (CPU_PIXELS if device.type == "cpu" else GPU_PIXELS) // math.prod(size)
    return max(1, count - count % _slices_in_cache(size))


def _slices_in_cache(size: Sequence[int]) -> int:
    of_small, of_large = _SLICES_IN_CACHE
    return of_small if math.prod(size) <= _SMALL_REGION else of_large
