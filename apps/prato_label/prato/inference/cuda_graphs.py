"""A network that predicts on a GPU, in half precision: calls of shapes that come back are captured as CUDA graphs and replayed.

A GPU is handed hundreds of small kernels at once instead of one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from cachetools import LRUCache
from torch import Tensor

from prato.models.base import EncoderOutput, ImageEmbedding, PrunableNetwork
from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PruningPlan
from prato.pruning.prompted_pruning import PromptedPruning
from prato.pruning.record import PrunedOutput, StageRecord
from prato.pruning.static_shapes import has_static_shapes
from prato.runtime.flops import count_flops, record_flops
from prato.runtime.region import Region
from prato.runtime.region_decode import RegionFeatures
from prato.runtime.tensor_cache import pin

_T = TypeVar("_T")
#: Captured calls of a network: a few numbers of slices, sizes of windows and regions, with and without pruning.
_MAX_GRAPHS = 48
#: Decoded regions end at multiples of so many pixels, so that they come back.
_STEP = 16


class CudaGraphRunner:
    """Answers as ``network``, in evaluation mode, does itself; the same numbers but for rounding.

    One prompt for each sample is computed in static shapes (see ``prato.pruning.static_shapes``), which are captured on a GPU. All
    others, networks without static shapes, and calls that somebody listens to with a hook on a relevance module, are computed as the
    network itself does it.

    Args:
        dtype: of convolutions and products, float16 or bfloat16; float32 for no autocast.
    """

    def __init__(self, network: PrunableNetwork, dtype: torch.dtype = torch.float16) -> None:
        self.network, self.dtype = network, dtype
        self._graphs = GraphCache(_MAX_GRAPHS)

    def segment(self, image: Tensor, prompts: PromptBatch | None = None, plan: PruningPlan | None = None) -> PrunedOutput:
        """As the network's own."""
        if plan is None or prompts is None or prompts.is_empty:
            return self.predict(image, ImageEmbedding(), prompts, plan)
        return self.predict(image, self.encode_image(image, plan), prompts, plan)

    @torch.inference_mode()
    def encode_image(self, image: Tensor, plan: PruningPlan | None) -> ImageEmbedding:
        """As the network's own."""
        is_captured = self.network.has_embedding and self.network.has_static_shapes
        if plan is None or plan.mode != "drop" or not is_captured:
            return self._autocast(self.network.encode_image, image)(image, plan)
        made, flop = self._captured(("encode image", plan), lambda x: self.network.encode_image(x, plan), (_pad_to_even(image),))
        own: dict[int, Tensor] = {}
        for values in made.features.values():  # some are the same
            own.setdefault(values.data_ptr(), values[: len(image)].clone())
        record_flops(own[made.tokens.data_ptr()], flop)
        return ImageEmbedding(made.depth, {number: own[values.data_ptr()] for number, values in made.features.items()})

    @torch.inference_mode()
    def predict(self, image: Tensor, embedding: ImageEmbedding, prompts: PromptBatch | None, plan: PruningPlan | None) -> PrunedOutput:
        """As the network's own, with ``prompts`` on the CPU."""
        if not self._is_captured():
            return self._autocast(self.network.predict, image)(image, embedding, prompts, plan)
        if plan is None or prompts is None or prompts.is_empty:
            logits, flop = self._captured("dense", self.network.forward_dense, (_pad_to_even(image),))
            return PrunedOutput(record_flops(logits[: len(image)].clone(), flop))
        if not has_static_shapes(plan, prompts):
            return self._autocast(self.network.predict, image)(image, embedding, prompts, plan)
        return self._predict_pruned(image, embedding, prompts, plan)

    def _predict_pruned(self, image: Tensor, embedding: ImageEmbedding, prompts: PromptBatch, plan: PruningPlan) -> PrunedOutput:
        network, count, size = self.network, len(image), tuple(image.shape[2:])
        kind, coordinates = prompts.groups[0].kind, _pad_to_even(prompts.groups[0].coordinates)
        image, even = _pad_to_even(image), PromptBatch.one_each(kind, coordinates, size)
        shapes, numbers = network.static_shapes(plan, even, size), tuple(embedding.features)

        def encode(image: Tensor, coordinates: Tensor, *features: Tensor) -> EncoderOutput:
            placed = PromptBatch.one_each(kind, coordinates, size)
            pruning = PromptedPruning(network.relevance, plan, placed, size, shapes=shapes)
            return network.encode(image, ImageEmbedding(embedding.depth, dict(zip(numbers, features))), pruning)

        inputs = (image, coordinates.to(image.device), *map(_pad_to_even, embedding.features.values()))
        encoded, first = self._captured(("encode", plan, kind, size, shapes, embedding.depth), encode, inputs)
        stages = tuple(StageRecord(s.name, s.grid, s.relevance[:count].clone(), s.alive[:count].clone()) for s in encoded.stages)
        # which part is decoded depends on what was kept: here the device is asked, once
        region = PromptedPruning(network.relevance, plan, even, size, stages=list(encoded.stages)).decoded_region()
        near, kept = region.align((_STEP,) * len(size)), tuple(encoded.features)

        def decode(image: Tensor, *features: Tensor) -> Tensor:
            return network.decode(image, EncoderOutput(dict(zip(kept, features))), near)

        logits, second = self._captured(("decode", near, kept), decode, (image, *encoded.features.values()))
        part = RegionFeatures(logits[:count], Region.whole(size)).crop(region)
        return PrunedOutput(record_flops(part.to_logits().clone(), first + second), stages)

    def _is_captured(self) -> bool:
        hooked = any(module._forward_hooks for module in self.network.relevance.values())
        return self.network.has_static_shapes and not hooked

    def _captured(self, key: Hashable, call: Callable[..., _T], inputs: tuple[Tensor, ...]) -> tuple[_T, int]:
        return self._graphs(key, self._autocast(call, inputs[0]), inputs)

    def _autocast(self, call: Callable[..., _T], like: Tensor) -> Callable[..., _T]:
        """``call`` under an autocast of its own: weights that one outside had cast would be gone when a graph is replayed."""

        def lowered(*args: Any) -> _T:
            with torch.autocast(like.device.type, dtype=self.dtype, enabled=like.is_cuda and self.dtype != torch.float32):
                return call(*args)

        return lowered


class GraphCache:
    """Makes calls; one that comes a second time is captured, and from then on replayed. On a CPU calls are made as they are.

    A call must be a function of its tensors and its key alone, and ask the device nothing. For the use of one thread.

    Args:
        max_graphs: captured calls that are kept, the longest unused forgotten first. They share their working memory.
    """

    def __init__(self, max_graphs: int) -> None:
        self._graphs: LRUCache[Hashable, _Graph] = LRUCache(max_graphs)
        self._flops: LRUCache[Hashable, int] = LRUCache(8 * max_graphs)
        self._pool: Any = None

    def __len__(self) -> int:
        return len(self._graphs)

    def __call__(self, key: Hashable, call: Callable[..., _T], inputs: Sequence[Tensor]) -> tuple[_T, int]:
        """What ``call`` makes of ``inputs``: good until the same ``key`` is called again; and the operations that no counter saw."""
        if not inputs[0].is_cuda:
            return call(*inputs), 0
        key = key, tuple((x.shape, x.dtype, x.stride()) for x in inputs)
        graph = self._graphs.get(key)
        if graph is None and key not in self._flops:
            output, gflop = count_flops(lambda: call(*inputs))
            self._flops[key] = round(gflop * 1e9)
            return output, 0
        if graph is None:
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            graph = self._graphs[key] = _Graph(call, inputs, self._flops.pop(key), self._pool)
        graph.replay(inputs)
        return graph.output, graph.flop


class _Graph:
    """One captured call, with memory of its own for what goes in and comes out."""

    def __init__(self, call: Callable[..., Any], inputs: Sequence[Tensor], flop: int, pool: Any) -> None:
        self.flop = flop
        self._inputs = [x.clone() for x in inputs]
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(inputs[0].device)
        stream.wait_stream(torch.cuda.current_stream())
        # whoever counts operations is told of them once, when the call is replayed
        with torch._C.DisableTorchFunction(), pin() as self._pinned:
            with torch.cuda.stream(stream):
                call(*self._inputs)  # what libraries set up on first use must not be captured
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                self.output = call(*self._inputs)

    def replay(self, inputs: Sequence[Tensor]) -> None:
        torch._foreach_copy_(self._inputs, list(inputs))
        self._graph.replay()


def _pad_to_even(values: Tensor) -> Tensor:
    """Numbers of slices above one made even with the last slice once more: half as many shapes are half as many graphs."""
    return torch.cat((values, values[-1:])) if len(values) > 1 and len(values) % 2 else values
