"""One network on one image: window, slices, logits, mask on the image's own grid."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prato.data.nifti import Volume
from prato.data.resampling import stack_neighbours
from prato.inference.cuda_graphs import CudaGraphRunner
from prato.inference.image_stack import ImageStack
from prato.inference.postprocess import remove_small_components
from prato.inference.segmentation import Segmentation, Wanted, compute, median_cost
from prato.inference.stack_slices import seen_beside
from prato.inference.uncertainty import MeanEntropy, PromptSummary
from prato.inference.window import Window
from prato.models.base import ImageEmbedding
from prato.models.checkpoint import ModelSpec, channels_last
from prato.prompts.base import Prompt
from prato.prompts.batch import PromptBatch
from prato.prompts.box import Box, BoxPrompt
from prato.pruning.plan import PruningPlan, requested_plan
from prato.pruning.record import PrunedOutput
from prato.runtime.batch_runner import BatchRunner, minibatches
from prato.runtime.devices import synchronise
from prato.runtime.flops import estimate_flops


class Segmenter:
    """A PrATo network that looks at windows, on ``device`` (half precision on a GPU).

    Args:
        network, spec, version: as :func:`prato.models.checkpoint.load_model` gives them.
    """

    def __init__(self, network: Any, spec: ModelSpec, version: str, device: torch.device) -> None:
        self.spec, self.version = spec, version
        self.plan = self.spec.pruning_plan()
        self.device = device
        self.network = channels_last(network.to(device))
        self._predicting = CudaGraphRunner(self.network) if device.type == "cuda" else self.network
        self._dense: dict[int, float] = {}

    def dense_gflops(self, edge: int) -> float:
        """GFLOP of one slice in a window of ``edge`` pixels without pruning."""
        if edge not in self._dense:
            blank, nothing = torch.zeros(1, 3, edge, edge, dtype=torch.float32, device=self.device), PromptBatch.empty(1, (edge, edge))
            with torch.inference_mode():  # not by a CUDA graph, which would keep what is put in the place of results
                self._dense[edge] = estimate_flops(lambda: self.network.predict(blank, ImageEmbedding(), nothing, None))
        return self._dense[edge]

    @property
    def window_mm(self) -> float:
        """Edge of the largest square that the network sees, in mm."""
        return self.spec.window * self.spec.pixel

    def segment(
        self,
        image: ImageStack,
        prompts: Sequence[Prompt],
        focus: Box,
        wanted: Wanted,
        runner: BatchRunner,
    ) -> Segmentation:
        """Segment the slices that ``prompts`` reach, but for blank ones, unless these alone are reached.

        Args:
            prompts: at least one, inside the image.
            focus: in voxels of ``image.volume``; its in-plane centre is the window's centre.
            runner: makes the calls of the network.

        Raises:
            CancelledError: ``runner`` was cancelled.
        """
        start = time.perf_counter()
        volume = image.volume
        boxes = [prompt.box.rearrange(*image.order) for prompt in prompts]
        reached = {k for box in boxes for k in range(box.start[2], box.stop[2])}
        planes = sorted(reached.intersection(image.filled) or reached)
        spec = self.spec
        window = Window.for_boxes(boxes, focus, volume.array.shape, volume.spacing, spec.pixel, spec.window, spec.centre)
        slices = self._slices(image, window, planes)
        per_slice = [[prompt for prompt, box in zip(prompts, boxes) if box.start[2] <= k < box.stop[2]] for k in planes]
        result = Segmentation(np.zeros(0, np.uint8), None, latency_ms={"preprocess": 1000 * (time.perf_counter() - start), "network": 0.0})
        outputs, plan = [], requested_plan(self.plan, wanted.prune)
        run = partial(compute, runner=runner, results=[result])
        summary = PromptSummary(self.network, self.plan if wanted.uncertainty else None)
        for part in minibatches(len(planes)):
            drawn = [per_slice[n] for n in part]
            batch = PromptBatch.from_voxels(drawn, (window.size,) * 2, image.pixel_grid(window.resampled, window.corner))
            seen, embedding = self._place(slices[part.start : part.stop]), ImageEmbedding()
            own_plan = None if batch.is_empty else plan
            if own_plan is not None:
                key = self.version, str(self.device), own_plan.embedding_key, window.corner, window.size
                # a call by itself: where the next one is given up and made again, this one is not, and what it took stays counted
                encode = partial(run, partial(self._encode, seen, own_plan))
                embedding = image.embedding(key, tuple(planes[part.start : part.stop]), encode)
            output, heard = run(partial(summary.listen, partial(self._run, seen, embedding, batch, own_plan)))
            outputs.append(output)
            summary.add(heard)
        predicted = time.perf_counter()
        logits = torch.cat([output.logits for output in outputs])
        result.mask = remove_small_components(self._mask(volume, window, planes, logits))
        result.tokens = self._tokens(volume, window, planes, outputs) if wanted.tokens else None
        result.kept_fraction = _kept(outputs)
        if wanted.uncertainty:
            entropy = MeanEntropy()
            entropy.add(logits, torch.cat([output.token_map() for output in outputs]) == 1)
            result.entropy = entropy.mean()
            result.summary = summary.mean()
        result.latency_ms["postprocess"] = 1000 * (time.perf_counter() - predicted)
        known = self._dense.get(window.size)
        result.gflops_dense = (runner(lambda _: self.dense_gflops(window.size)) if known is None else known) * len(planes)
        return result

    def slice_cost(self, prune: str | None) -> tuple[float, float]:
        """GFLOP and ms of the network on one slice of noise, alone: in the middle of its window a box half as wide.

        Args:
            prune: the contract's ``prune``; None for the model's plan.
        """
        edge = self.spec.window
        # not a constant image: its tokens would all be equal, and a cut among equals drops none
        image = torch.rand((1, 3, edge, edge), dtype=torch.float32, generator=torch.Generator().manual_seed(0)) * 2 - 1
        prompts = PromptBatch.of(BoxPrompt, [[((edge / 4, edge / 4), (3 * edge / 4, 3 * edge / 4))]], (edge, edge))
        plan = requested_plan(self.plan, prune)

        def run() -> PrunedOutput:
            slices = self._place(image)
            return self._run(slices, ImageEmbedding() if plan is None else self._encode(slices, plan), prompts, plan)

        return median_cost(run)

    def _slices(self, image: ImageStack, window: Window, planes: list[int]) -> Tensor:
        seen = seen_beside(image, planes)
        rows = [seen.index(k) for k in planes]
        # the neighbours of the first and last slice are channels of theirs
        first, stop = max(rows[0] - 1, 0), rows[-1] + 2
        return stack_neighbours(window.cut(image.slices(self.spec.pixel)[list(seen[first:stop])]), [row - first for row in rows])

    def _place(self, slices: Tensor) -> Tensor:
        """``slices`` where and as the network takes them."""
        return slices.to(self.device).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def _encode(self, slices: Tensor, plan: PruningPlan) -> ImageEmbedding:
        """What the network makes of ``slices`` before it looks at a prompt."""
        embedding: ImageEmbedding = self._predicting.encode_image(slices, plan)
        return embedding

    @torch.inference_mode()
    def _run(self, slices: Tensor, embedding: ImageEmbedding, prompts: PromptBatch, plan: PruningPlan | None) -> PrunedOutput:
        """The rest of its work."""
        output: PrunedOutput = self._predicting.predict(slices, embedding, prompts, plan)
        synchronise(self.device)
        return output

    def _mask(self, volume: Volume, window: Window, planes: list[int], logits: Tensor) -> np.ndarray:
        # a NaN would be the highest class to argmax: it must be no structure at all
        logits = torch.nan_to_num(logits.float(), nan=0.0)
        native, (x, y) = window.to_native(logits)
        # slice by slice in memory, as stored volumes are: in the other order all that follows would jump from voxel to voxel
        mask = np.zeros(volume.array.shape, dtype=np.uint8, order="F")
        # on a CPU argmax takes thirty times as long as max, for the same indices
        mask[x, y, planes] = native.max(1).indices.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return mask

    def _tokens(self, volume: Volume, window: Window, planes: list[int], outputs: list[PrunedOutput]) -> np.ndarray:
        native, (x, y) = window.to_native(torch.cat([o.token_map().float() for o in outputs]).unsqueeze(1), mode="nearest")
        tokens = np.zeros(volume.array.shape, dtype=np.float32)
        tokens[x, y, planes] = native[:, 0].permute(1, 2, 0).cpu().numpy()
        return tokens


def _kept(outputs: list[PrunedOutput]) -> dict[str, float]:
    """Mean share over all slices; the slices of a batch without any prompt kept all their tokens."""
    names = {name: None for output in outputs for name in output.kept_fraction()}
    shares = [(output.kept_fraction(), output.logits.shape[0]) for output in outputs]
    return {name: float(np.mean([v for kept, n in shares for v in (kept[name].tolist() if name in kept else [1.0] * n)])) for name in names}
