"""Ways to segment a stack with a trained network, each timed in its parts: pruned, whole, cropped, and with random tokens instead.

Works on packed slices at the networks' resolution (``prato.training.slice_bank``), and needs torch, MONAI, numpy and scipy alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prato.evaluation.box_conditions import BoxCondition
from prato.inference.postprocess import remove_small_components
from prato.models.overview import TOKEN
from prato.models.overview_region import ChosenRegion, computed_region
from prato.prompts.batch import PromptBatch
from prato.prompts.box import Box, BoxPrompt
from prato.pruning.plan import PruningPlan
from prato.runtime.devices import synchronise
from prato.runtime.region import Region
from prato.runtime.region_decode import RegionFeatures
from scripts.research.stacks import IMAGE_STEP, Stack

#: Pixels of context round a box: 36 mm.
CONTEXT = 24
_SEED = 0


@dataclass(frozen=True)
class Answer:
    """What a way gives.

    Attributes:
        logits: (K, classes, H, W) of the slices that were asked for.
        ms: by part: "overview", "tokens" (the encoder), "decoder"; of a network that is not divided "tokens" is all of it.
        share: of the slices' pixels that were computed.
    """

    logits: Tensor
    ms: dict[str, float]
    share: float


#: Segments the slices ``planes`` of a stack, for a box or none.
Way = Callable[[Any, Stack, Sequence[int], Box | None], Answer]
#: What a network with an overview computes: from the network, the overview's embedding, prompts and the slices' size. A region alone is
#: decoded in all slices.
Choose = Callable[[Any, Any, PromptBatch, tuple[int, ...]], Region | ChosenRegion]


def pruned(plan: PruningPlan | None) -> Way:
    """As the app does it."""
    return _chosen(lambda network, embedding, prompts, size: network.choose_region(size, embedding, prompts, plan))


def random_region(plan: PruningPlan) -> Way:
    """A region as large as the plan's, anywhere in the slice."""

    def choose(network: Any, embedding: Any, prompts: PromptBatch, size: tuple[int, ...]) -> Region:
        region = network.choose_region(size, embedding, prompts, plan).region
        rng = np.random.default_rng([_SEED, *region.start, *region.stop])
        start = tuple(int(rng.integers((n - length) // TOKEN + 1)) * TOKEN for n, length in zip(size, region.cells))
        return Region(start, tuple(a + length for a, length in zip(start, region.cells)), size)

    return _chosen(choose)


def random_square(share: float) -> Way:
    """A square of that share of the slice's pixels, anywhere in it: for a network that was trained with no relevance to follow."""

    def choose(network: Any, embedding: Any, prompts: PromptBatch, size: tuple[int, ...]) -> Region:
        edge = min(-(-round(math.sqrt(share * math.prod(size))) // network.multiple) * network.multiple, *size)
        rng = np.random.default_rng([_SEED, *size, *(int(at) for group in prompts.groups for at in group.coordinates.flatten()[:4])])
        start = tuple(int(rng.integers((n - edge) // TOKEN + 1)) * TOKEN for n in size)
        return Region(start, tuple(a + edge for a in start), size)

    return _chosen(choose)


def random_tokens(plan: PruningPlan) -> Way:
    """As many tokens as the plan keeps, drawn at random; computed is what holds them."""

    def choose(network: Any, embedding: Any, prompts: PromptBatch, size: tuple[int, ...]) -> Region:
        (record,) = network.choose_region(size, embedding, prompts, plan).stages
        rng = np.random.default_rng([_SEED, int(record.alive.sum())])
        keep = np.zeros(record.alive.numel(), bool)
        keep[rng.permutation(keep.size)[: int(record.alive.sum())]] = True
        return computed_region(torch.from_numpy(keep).view(len(record.alive), *record.grid), size, network.multiple)

    return _chosen(choose)


def cropped_as(plan: PruningPlan) -> Way:
    """A hard crop to the plan's region, given from outside: the network knows nothing else of the image, nor of the box."""

    def way(network: Any, stack: Stack, planes: Sequence[int], box: Box | None) -> Answer:
        embedding = network.encode_image(stack.image, plan).select(planes)
        region = network.choose_region(tuple(stack.image.shape[2:]), embedding, _prompts(box, planes, stack), plan).region
        return _cropped(network, stack, planes, region, None)

    return way


def cropped(context: int) -> Way:
    """A hard crop to the box and ``context`` pixels round it, the whole slice without a box; a network that takes prompts has it."""

    def way(network: Any, stack: Stack, planes: Sequence[int], box: Box | None) -> Answer:
        return _cropped(network, stack, planes, crop_region(box, context, tuple(stack.image.shape[2:]), network.multiple), box)

    return way


def crop_region(box: Box | None, context: int, size: tuple[int, ...], step: int) -> Region:
    """The box and its context, grown until its sides are multiples of ``step`` pixels, as far as the slice reaches."""
    if box is None:
        return Region.whole(size)
    start, stop = [], []
    for a, b, n in zip(box.start, box.stop, size):
        length = min(-(-(b - a + 2 * context) // step) * step, n // IMAGE_STEP * IMAGE_STEP)
        first = min(max(round((a + b - length) / 2), 0), n - length)
        start.append(first)
        stop.append(first + length)
    return Region(tuple(start), tuple(stop), size)


def has_box(way: str, box: BoxCondition) -> bool:
    """Whether there is a way of that name with such a box: nothing can be cropped to no box."""
    return not (box is BoxCondition.none and way.startswith("crop"))


@torch.inference_mode()
def segment(network: Any, way: Way, stack: Stack, condition: BoxCondition) -> tuple[np.ndarray, Answer]:
    """The mask, uint8 (H, W, Z), as the app makes it, and what it took; a box says which slices are segmented."""
    box = stack.draw(condition)
    planes = list(range(len(stack.label))) if box is None else list(range(box.start[2], box.stop[2]))
    answer = way(network, stack, planes, box)
    mask = np.zeros((*stack.label.shape[1:], len(stack.label)), np.uint8)
    mask[:, :, planes] = answer.logits.float().argmax(1).permute(1, 2, 0).cpu().numpy()
    return remove_small_components(mask), answer


def _chosen(choose: Choose) -> Way:
    def way(network: Any, stack: Stack, planes: Sequence[int], box: Box | None) -> Answer:
        clock = Clock(stack.image.device)
        prompts, size = _prompts(box, planes, stack), tuple(stack.image.shape[2:])
        embedding = network.encode_image(stack.image, None).select(planes)
        chosen = choose(network, embedding, prompts, size)
        clock.stop("overview")
        return _computed(network, stack.image[list(planes)], embedding, prompts, chosen, clock)

    return way


def _computed(network: Any, slices: Tensor, embedding: Any, prompts: PromptBatch, chosen: Region | ChosenRegion, clock: Clock) -> Answer:
    region, places = (chosen.region, chosen.decoded) if isinstance(chosen, ChosenRegion) else (chosen, None)
    parts = network.encode_regions([slices], embedding.tokens.unsqueeze(0), [prompts], [region])
    clock.stop("tokens")
    logits = torch.cat([decode() for _, decode in network.decode_parts(parts, region.cells, places)])
    clock.stop("decoder")
    return Answer(RegionFeatures(logits, region).to_logits(), clock.ms, region.share)


def _cropped(network: Any, stack: Stack, planes: Sequence[int], region: Region, box: Box | None) -> Answer:
    clock = Clock(stack.image.device)
    inner = stack.image[(slice(None), slice(None), *region.slices)]
    if not hasattr(network, "encode_regions"):  # a plain network takes windows
        height, width = region.cells
        window = F.pad(inner[list(planes)], (0, -width % network.multiple, 0, -height % network.multiple), value=-1.0)
        logits, _ = network.train_windows(window.unsqueeze(0))
        clock.stop("tokens")
        found = Answer(logits[:, :, :height, :width], clock.ms, region.share)
    else:
        seen = Stack(stack.name, inner, stack.label)
        prompts = PromptBatch.empty(len(planes), region.cells)
        if box is not None:
            start, stop = ([at - first for at, first in zip(side[:2], region.start)] for side in (box.start, box.stop))
            prompts = PromptBatch.of(BoxPrompt, [[(start, stop)]] * len(planes), region.cells)
        embedding = network.encode_image(seen.image, None).select(planes)
        clock.stop("overview")
        found = _computed(network, seen.image[list(planes)], embedding, prompts, Region.whole(region.cells), clock)
    return Answer(RegionFeatures(found.logits, region).to_logits(), found.ms, region.share)


def _prompts(box: Box | None, planes: Sequence[int], stack: Stack) -> PromptBatch:
    size = tuple(stack.image.shape[2:])
    if box is None:
        return PromptBatch.empty(len(planes), size)
    return PromptBatch.of(BoxPrompt, [[(box.start[:2], box.stop[:2])]] * len(planes), size)


class Clock:
    """Milliseconds by part; waits for the device at the end of each. One CPU thread is timed by its own clock, which stands still while
    others have the core."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.ms = device, dict[str, float]()
        self._now = time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
        synchronise(self.device)
        self._at = self._now()

    def stop(self, part: str) -> None:
        """What has passed since the last stop was ``part``."""
        synchronise(self.device)
        now = self._now()
        self.ms[part] = self.ms.get(part, 0.0) + 1000 * (now - self._at)
        self._at = now
