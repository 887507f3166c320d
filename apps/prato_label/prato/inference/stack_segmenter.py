"""A network that looks at whole stacks of slices: it finds the heart by itself, and computes in detail where that is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prato.inference.image_stack import ImageStack
from prato.inference.native_grid import read_at_voxels
from prato.inference.postprocess import remove_small_components
from prato.inference.segmentation import Segmentation, Tally, Wanted, compute, median_cost
from prato.inference.stack_slices import LONGEST, MULTIPLE, Frame, frame, padded_slices, seen_beside, slices_between_neighbours, split_stack
from prato.inference.surroundings import Surroundings
from prato.models.base import ImageEmbedding
from prato.models.checkpoint import ModelSpec, channels_last
from prato.models.overview import TOKEN
from prato.models.overview_network import EncodedPart
from prato.models.overview_region import ChosenRegion, heart_region
from prato.prompts.base import Prompt
from prato.prompts.batch import PromptBatch
from prato.prompts.box import Box, BoxPrompt
from prato.pruning.plan import requested_plan
from prato.pruning.record import PrunedOutput, StageRecord
from prato.runtime.batch_runner import BatchRunner
from prato.runtime.devices import synchronise
from prato.runtime.flops import count_flops, estimate_flops
from prato.runtime.fused_conv_bn import fuse_batch_norms
from prato.runtime.precision import inference
from prato.runtime.region_decode import RegionFeatures

_T = TypeVar("_T")
#: Size of the stack of noise that costs are measured on: slices, and mm along both sides.
_TRIAL = (4, 240.0)


class _Encoded(NamedTuple):
    """Slices encoded: what is computed of them, all that decoding needs, in parts, and the prompts' summary."""

    chosen: ChosenRegion
    parts: list[EncodedPart]
    summary: Tensor | None


class StackSegmenter:
    """A PrATo network that looks at whole stacks, on ``device``.

    Args:
        network, spec, version: as :func:`prato.models.checkpoint.load_model` gives them.
    """

    def __init__(self, network: Any, spec: ModelSpec, version: str, device: torch.device) -> None:
        self.spec, self.version, self.device = spec, version, device
        self.plan = spec.pruning_plan()
        self.network = channels_last(fuse_batch_norms(network.to(device)))
        self._dense: dict[tuple[int, ...], float] = {}
        self._surroundings: Surroundings | None = None

    def propose(self, image: ImageStack, runner: BatchRunner) -> tuple[Box | None, float]:
        """The box round the heart, in voxels of ``image.volume``, None where none is seen; and the GFLOP that it took to find it.

        Raises:
            CancelledError: ``runner`` was cancelled.
        """
        if self.plan is None:
            return None, 0.0
        seen, costs = [], []

        def run(call: Callable[[], _T]) -> _T:
            result, gflops = runner(partial(count_flops, call))
            costs.append(gflops)
            return cast(_T, result)

        for piece in split_stack(image.filled):
            embedding = self.embedding(image, piece, run)
            seen.append(run(partial(self._find_heart, embedding)))
        if not (found := torch.cat(seen)).any():
            return None, sum(costs)
        planes, place = heart_region(found)
        native, placed = image.volume.array.shape, frame(image, self.spec.pixel)
        start, stop = ([TOKEN * n + c for n, c in zip(bounds, placed.corner)] for bounds in (place.start, place.stop))
        # a token may be smaller than a voxel, or lie in what was added to the image
        low = [min(int(max(a, 0) * n / size), n - 1) for a, n, size in zip(start, native, placed.pixels)]
        high = [max(min(round(b * n / size), n), first + 1) for b, n, size, first in zip(stop, native, placed.pixels, low)]
        return Box((*low, image.filled[planes[0]]), (*high, image.filled[planes[-1]] + 1)), sum(costs)

    def segment(
        self,
        image: ImageStack,
        prompts: Sequence[Prompt],
        focus: Box,
        wanted: Wanted,
        runner: BatchRunner,
    ) -> Segmentation:
        """Segment the slices that ``prompts`` reach, blank ones only if there are no others; without one that locates, those of ``focus``.

        Args:
            focus: in voxels of ``image.volume``.
            runner: as for :meth:`Segmenter.segment`.

        Raises:
            CancelledError: ``runner`` was cancelled.
        """
        start = time.perf_counter()
        boxes = [prompt.box.rearrange(*image.order) for prompt in prompts]
        whole = boxes if any(prompt.locates for prompt in prompts) else [*boxes, focus]
        reached = {k for box in whole for k in range(box.start[2], box.stop[2])}
        planes = sorted(reached.intersection(image.filled) or reached)
        native, placed = image.volume.array.shape, frame(image, self.spec.pixel)
        result = Segmentation(np.zeros(native, np.uint8, order="F"), np.zeros(native, np.float32) if wanted.tokens else None)
        result.latency_ms = {"preprocess": 1000 * (time.perf_counter() - start), "network": 0.0, "postprocess": 0.0}
        tally = Tally(result, wanted)
        for piece in split_stack(seen_beside(image, planes)):
            if rows := [k for k in planes if k in piece]:
                drawn = [[prompt for prompt, box in zip(prompts, boxes) if box.start[2] <= k < box.stop[2]] for k in rows]
                batch = PromptBatch.from_voxels(drawn, placed.size, image.pixel_grid(placed.pixels, placed.corner))
                self._segment_piece(image, placed, piece, rows, batch, wanted.prune, runner, tally)
        finished = time.perf_counter()
        result.mask = remove_small_components(result.mask)
        tally.finish(len(planes))
        result.latency_ms["postprocess"] += 1000 * (time.perf_counter() - finished)
        result.gflops_dense = self.dense_gflops(placed.size, runner) * len(planes)
        return result

    def _segment_piece(
        self,
        image: ImageStack,
        placed: Frame,
        piece: Sequence[int],
        planes: list[int],
        prompts: PromptBatch,
        prune: str | None,
        runner: BatchRunner,
        tally: Tally,
    ) -> None:
        """Tell ``tally`` what is found in the slices ``planes`` of the ``piece`` that they belong to."""
        run = partial(compute, runner=runner, results=[tally.result])
        embedding = self.embedding(image, piece, run)

        def encode() -> _Encoded:
            with inference(self.device):
                plan = requested_plan(self.plan, prune)
                tokens = embedding.select([piece.index(k) for k in planes]).tokens
                slices = slices_between_neighbours(image, self.spec.pixel, planes).to(self.device)
                (chosen,) = self.network.choose_regions(tuple(slices.shape[2:]), tokens.unsqueeze(0), [prompts], plan)
                parts = self.network.encode_regions([slices], tokens.unsqueeze(0), [prompts], [chosen.region])
                return _Encoded(chosen, parts, _summarise(tokens, chosen.stages[0]) if chosen.stages else None)

        (region, places, stages), parts, summary = run(encode)
        tally.add_stages(stages, summary, len(planes))
        for rows, decode in self.network.decode_parts(parts, region.cells, places):
            logits = RegionFeatures(run(partial(self.decode, decode)), region)
            decoded = time.perf_counter()
            self._write(image, placed, planes[rows], logits, tuple(stage.select(rows) for stage in stages), tally)
            tally.result.latency_ms["postprocess"] += 1000 * (time.perf_counter() - decoded)

    def slice_cost(self, prune: str | None) -> tuple[float, float]:
        """GFLOP and ms of the network for a slice, of a small stack of noise with a box in its middle."""
        count, edge = _TRIAL[0], round(_TRIAL[1] / self.spec.pixel / MULTIPLE) * MULTIPLE
        stack = torch.rand((count, 3, edge, edge), dtype=torch.float32, generator=torch.Generator().manual_seed(0)) * 2 - 1
        prompts = PromptBatch.of(BoxPrompt, [[((edge / 3, edge / 3), (2 * edge / 3, 2 * edge / 3))]] * count, (edge, edge))
        gflops, ms = median_cost(lambda: self._run(stack, prompts, prune))
        return gflops / count, ms / count

    @property
    def embedding_key(self) -> tuple[str, str]:
        """What its embeddings depend on, besides image and slices."""
        return self.version, str(self.device)

    def for_cine(self, image: ImageStack) -> StackSegmenter:
        """The same segmenter for the phases of the cine that ``image`` is one of: see :class:`Surroundings`."""
        other = copy(self)
        if self.plan is not None and len(image.filled) <= LONGEST:
            with inference(self.device):
                slices = padded_slices(image, self.spec.pixel)[image.filled].to(self.device)
                other._surroundings = Surroundings.of(self.network, self.plan, image.filled, slices)
        return other

    def _encode(self, image: ImageStack, planes: Sequence[int]) -> ImageEmbedding:
        with inference(self.device):
            if self._surroundings:
                slices = padded_slices(image, self.spec.pixel)[list(planes)]
                if known := self._surroundings.encode(planes, slices.to(self.device)):
                    return known
            stack = slices_between_neighbours(image, self.spec.pixel, planes)
            embedding: ImageEmbedding = self.network.encode_image(stack.to(self.device), self.plan)
            return embedding

    def embedding(
        self,
        image: ImageStack,
        piece: Sequence[int],
        run: Callable[[Callable[[], ImageEmbedding]], ImageEmbedding] = lambda encode: encode(),
    ) -> ImageEmbedding:
        """What the network makes of the slices ``piece`` before it looks at a prompt; kept with ``image``.

        Args:
            run: makes the network's call, where it is not at hand. That is one by itself: where a later call is given up and made again,
                this one is not, and what it took stays counted.
        """
        return image.embedding(self.embedding_key, tuple(piece), lambda: run(lambda: self._encode(image, piece)))

    def _find_heart(self, embedding: ImageEmbedding) -> Tensor:
        with inference(self.device):
            found: Tensor = self.network.find_heart(embedding, self.plan)
            return found.cpu()

    def decode(self, decode: Callable[[], Tensor]) -> Tensor:
        """What one of the calls of the network's :meth:`OverviewNetwork.decode_parts` returns, in float32."""
        with inference(self.device):
            logits = decode()
            synchronise(self.device)
            return torch.nan_to_num(logits.float(), nan=0.0)

    def _run(self, slices: Tensor, prompts: PromptBatch, prune: str | None) -> PrunedOutput:
        """All that the network does with a stack that is an image by itself."""
        with inference(self.device):
            plan = requested_plan(self.plan, prune)
            slices = slices.to(self.device)
            output: PrunedOutput = self.network.predict(slices, self.network.encode_image(slices, plan), prompts, plan)
            synchronise(self.device)
            return output

    def _write(
        self, image: ImageStack, placed: Frame, planes: list[int], logits: RegionFeatures, stages: tuple[StageRecord, ...], tally: Tally
    ) -> None:
        """Write what was found in the slices ``planes`` to the tally's result."""
        result, seen, native = tally.result, placed.to_image(logits), image.volume.array.shape[:2]
        tally.add_scores(seen, placed.pixels, planes)
        read, voxels = read_at_voxels(seen, placed.pixels, native)
        result.mask[(*voxels, planes)] = read.max(1).indices.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        if result.tokens is None and not tally.needs_logits:
            return
        output = PrunedOutput(logits.to_logits(), stages)
        tally.add_logits(output)
        if result.tokens is not None:
            kept = placed.inside.cut(output.token_map()).unsqueeze(1)
            result.tokens[:, :, planes] = F.interpolate(kept, size=native, mode="nearest-exact")[:, 0].permute(1, 2, 0).cpu().numpy()

    def dense_gflops(self, size: tuple[int, ...], runner: BatchRunner) -> float:
        """GFLOP of one slice of ``size`` pixels without pruning, estimated in a call that ``runner`` makes once."""
        if size not in self._dense:
            blank, nothing = torch.zeros(1, 3, *size, dtype=torch.float32), PromptBatch.empty(1, size)
            self._dense[size] = runner(lambda _: estimate_flops(lambda: self._run(blank, nothing, "off")))
        return self._dense[size]


def _summarise(tokens: Tensor, stage: StageRecord) -> Tensor:
    """float32 (C,) on the CPU: mean of the layer-normed ``tokens`` (K, h, w, C), each as much as it is relevant."""
    weights = torch.sigmoid(stage.relevance.float()).view(*tokens.shape[:3], 1)
    normed = F.layer_norm(tokens.float(), tokens.shape[-1:])
    return ((normed * weights).sum((0, 1, 2)) / weights.sum()).cpu()
