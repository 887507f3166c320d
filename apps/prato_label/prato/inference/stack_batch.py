"""Several stacks in the same calls of a network that looks at whole ones: the phases of a cine, each with its own neighbours and region."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from prato.inference.image_stack import ImageStack
from prato.inference.native_grid import read_at_voxels
from prato.inference.postprocess import remove_small_components
from prato.inference.segmentation import Segmentation, compute
from prato.inference.stack_segmenter import StackSegmenter
from prato.inference.stack_slices import LONGEST, frame, padded_slices, slices_between_neighbours
from prato.models.base import ImageEmbedding
from prato.models.overview_network import EncodedPart
from prato.models.overview_region import ChosenRegion
from prato.prompts.base import Prompt
from prato.prompts.batch import PromptBatch
from prato.prompts.box import Box
from prato.pruning.plan import requested_plan
from prato.pruning.record import StageRecord
from prato.runtime.batch_runner import BatchRunner
from prato.runtime.precision import inference
from prato.runtime.region import Region
from prato.runtime.region_decode import RegionFeatures

_T = TypeVar("_T")
_Item = TypeVar("_Item")
_STEPS = ("preprocess", "network", "postprocess")
#: Pixels of whole slices that are seen in one call of the overview, and of regions that are encoded in one.
_SEEN, _ENCODED = 2**24, 2**23


@dataclass
class PromptedStack:
    """A stack that is to be segmented: ``prompts`` and ``focus`` as for :meth:`StackSegmenter.segment`."""

    image: ImageStack
    prompts: Sequence[Prompt]
    focus: Box


@dataclass
class _Job:
    """A stack on its way: the slices that are segmented, their tokens of the overview, and what is known by now."""

    image: ImageStack
    planes: list[int]
    prompts: PromptBatch
    tokens: Tensor
    result: Segmentation
    region: Region
    stages: tuple[StageRecord, ...] = ()


class StackBatch:
    """Segments stacks of one shape together, as a GPU does faster than one by one, and a CPU does not.

    Args:
        segmenter: whose network is called. runner: makes the calls.
    """

    def __init__(self, segmenter: StackSegmenter, runner: BatchRunner) -> None:
        self._segmenter, self._network, self._runner = segmenter, segmenter.network, runner

    def count(self, image: ImageStack) -> int:
        """How many stacks like ``image`` are segmented together; 0 for one so long that it is seen in pieces, or with blank slices."""
        count = image.volume.array.shape[2]
        pixels = count * math.prod(frame(image, self._segmenter.spec.pixel).size)
        return 0 if count > LONGEST or len(image.filled) < count else max(1, _SEEN // pixels)

    def embed(self, images: Sequence[ImageStack]) -> list[Segmentation]:
        """Let the overview see ``images``, which keep what it makes of them; what that took, for each."""
        costs = [Segmentation(np.zeros(0, np.uint8), None, latency_ms=dict.fromkeys(_STEPS, 0.0)) for _ in images]

        def encode() -> Tensor:
            with inference(self._segmenter.device):
                slices = torch.stack([padded_slices(image, self._segmenter.spec.pixel) for image in images]).to(self._segmenter.device)
                tokens: Tensor = self._network.encode_stacks(slices)
                return tokens

        for image, tokens in zip(images, compute(encode, self._runner, costs)):
            planes = tuple(range(tokens.shape[0]))
            embedding = ImageEmbedding(0, {0: tokens})
            image.embedding(self._segmenter.embedding_key, planes, partial(_same, embedding))
        return costs

    def segment(self, stacks: Sequence[PromptedStack], costs: Sequence[Segmentation], prune: str | None) -> list[Segmentation]:
        """Segment each of ``stacks`` as :meth:`StackSegmenter.segment` does; ``costs`` is what :meth:`embed` gave for them.

        Raises:
            CancelledError: the runner was cancelled.
        """
        jobs = [self._job(stack, cost) for stack, cost in zip(stacks, costs)]
        for alike in _grouped(jobs, lambda job: len(job.planes)):
            self._choose(alike, prune)
            for of_size in _grouped(alike, lambda job: job.region.cells):
                at_once = max(1, _ENCODED // (len(of_size[0].planes) * math.prod(of_size[0].region.cells)))
                for first in range(0, len(of_size), at_once):
                    self._segment(of_size[first : first + at_once])
        for job in jobs:
            job.result.mask = remove_small_components(job.result.mask)
            job.result.kept_fraction = {stage.name: float(stage.alive.float().mean()) for stage in job.stages}
            job.result.gflops_dense = self._segmenter.dense_gflops(job.region.size, self._runner) * len(job.planes)
        return [job.result for job in jobs]

    def _job(self, stack: PromptedStack, cost: Segmentation) -> _Job:
        image, segmenter = stack.image, self._segmenter
        boxes = [prompt.box.rearrange(*image.order) for prompt in stack.prompts]
        planes = sorted({k for box in boxes or [stack.focus] for k in range(box.start[2], box.stop[2])})
        native, placed = image.volume.array.shape, frame(image, segmenter.spec.pixel)
        drawn = [[prompt for prompt, box in zip(stack.prompts, boxes) if box.start[2] <= k < box.stop[2]] for k in planes]
        cost.mask = np.zeros(native, np.uint8, order="F")
        tokens = segmenter.embedding(image, range(native[2])).select(planes).tokens
        batch = PromptBatch.from_voxels(drawn, placed.size, image.pixel_grid(placed.pixels, placed.corner))
        return _Job(image, planes, batch, tokens, cost, Region.whole(placed.size))

    def _choose(self, jobs: list[_Job], prune: str | None) -> None:
        """Where each of ``jobs``, of equally many slices, is computed."""
        segmenter = self._segmenter
        plan = requested_plan(segmenter.plan, prune)

        def choose() -> list[ChosenRegion]:
            with inference(segmenter.device):
                tokens, prompts = torch.stack([job.tokens for job in jobs]), [job.prompts for job in jobs]
                chosen: list[ChosenRegion] = self._network.choose_regions(jobs[0].region.size, tokens, prompts, plan)
                return chosen

        for job, chosen in zip(jobs, compute(choose, self._runner, [job.result for job in jobs])):
            job.region, job.stages = chosen.region, chosen.stages

    def _segment(self, jobs: list[_Job]) -> None:
        """Compute and write the slices of ``jobs``, of equally many slices and equally large regions."""
        segmenter, results, cells = self._segmenter, [job.result for job in jobs], jobs[0].region.cells

        def encode() -> list[EncodedPart]:
            with inference(segmenter.device):
                pixel, device = segmenter.spec.pixel, segmenter.device
                images = [slices_between_neighbours(job.image, pixel, job.planes).to(device) for job in jobs]
                tokens, prompts, regions = zip(*((job.tokens, job.prompts, job.region) for job in jobs))
                found: list[EncodedPart] = self._network.encode_regions(images, torch.stack(tokens), prompts, regions)
                return found

        parts, slices = compute(encode, self._runner, results), [(job, k) for job in jobs for k in job.planes]
        for rows, decode in self._network.decode_parts(parts, cells):
            logits = compute(partial(segmenter.decode, decode), self._runner, results)
            for run in _grouped(list(enumerate(slices[rows])), lambda row: id(row[1][0])):
                first, job = run[0][0], run[0][1][0]
                self._write(job, [k for _, (_, k) in run], logits[first : first + len(run)])

    def _write(self, job: _Job, planes: list[int], logits: Tensor) -> None:
        placed, native = frame(job.image, self._segmenter.spec.pixel), job.image.volume.array.shape[:2]
        read, voxels = read_at_voxels(placed.to_image(RegionFeatures(logits, job.region)), placed.pixels, native)
        job.result.mask[(*voxels, planes)] = read.max(1).indices.to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def _same(value: _T) -> _T:
    return value


def _grouped(items: Iterable[_Item], key: Callable[[_Item], Hashable]) -> Iterator[list[_Item]]:
    """``items`` of one key together, in the order in which the keys first come."""
    groups: dict[Hashable, list[_Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    yield from groups.values()
