"""A network that looks at whole stacks of slices: it finds the heart by itself, and computes in detail where that is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prato.acquisition.uncertainty import mean_entropy
from prato.data.resampling import stack_neighbours
from prato.inference.image_stack import ImageStack
from prato.inference.postprocess import remove_small_components
from prato.inference.segmentation import Segmentation, timed
from prato.models.base import ImageEmbedding
from prato.models.checkpoint import ModelSpec, channels_last
from prato.models.overview import TOKEN
from prato.prompts.base import Prompt
from prato.prompts.batch import PromptBatch
from prato.prompts.box import Box, BoxPrompt
from prato.pruning.record import PrunedOutput
from prato.runtime.batch_runner import BatchRunner
from prato.runtime.flops import count_flops

#: Sides of the network's input are multiples of so many pixels.
_MULTIPLE = 16
#: Size of the stack of noise that costs are measured on: slices, and pixels along both sides.
_TRIAL = (4, 192)


class StackSegmenter:
    """A PrATo network that looks at whole stacks, on ``device``.

    Args:
        network, spec, version: as :func:`prato.models.checkpoint.load_model` gives them.
    """

    def __init__(self, network: Any, spec: ModelSpec, version: str, device: torch.device) -> None:
        self.spec, self.version, self.device = spec, version, device
        self.plan = spec.pruning_plan()
        self.network = channels_last(network.to(device))
        self._dense: dict[tuple[int, ...], float] = {}

    def propose(self, image: ImageStack, runner: BatchRunner) -> Box | None:
        """The box round the heart, in voxels of ``image.volume``; None where none is seen.

        Raises:
            CancelledError: ``runner`` was cancelled.
        """
        plan = self.plan
        if plan is None:
            return None
        found = runner(lambda _: self._relevant(image))
        if not bool(found.any()):
            return None
        where = found.nonzero().cpu()
        (z0, y0, x0), (z1, y1, x1) = where.amin(0).tolist(), (where.amax(0) + 1).tolist()
        height, width = image.slices(self.spec.pixel).shape[1:]
        shape = image.volume.array.shape
        sides = [
            (int(a * TOKEN * n / pixels), min(round(b * TOKEN * n / pixels), n))
            for a, b, n, pixels in ((y0, y1, shape[0], height), (x0, x1, shape[1], width))
        ]
        return Box((sides[0][0], sides[1][0], z0), (sides[0][1], sides[1][1], z1))

    def segment(
        self,
        image: ImageStack,
        prompts: Sequence[Prompt],
        focus: Box,
        *,
        prune: str | None,
        return_tokens: bool,
        return_uncertainty: bool,
        runner: BatchRunner,
    ) -> Segmentation:
        """Segment the slices that ``prompts`` reach; without a prompt, those of ``focus``.

        Args:
            focus: in voxels of ``image.volume``.
            prune, return_tokens, return_uncertainty, runner: as for :meth:`Segmenter.segment`.

        Raises:
            CancelledError: ``runner`` was cancelled.
        """
        start = time.perf_counter()
        boxes = [prompt.box.permute(image.axes) for prompt in prompts]
        planes = sorted({k for box in boxes or [focus] for k in range(box.start[2], box.stop[2])})
        size = tuple(self._stack(image).shape[2:])
        native, resampled = image.volume.array.shape, image.slices(self.spec.pixel).shape[1:]
        scale = [pixels / voxels for pixels, voxels in zip(resampled, native)]
        per_slice = [[prompt for prompt, box in zip(prompts, boxes) if box.start[2] <= k < box.stop[2]] for k in planes]
        batch = PromptBatch.from_voxels(per_slice, size, image.axes, scale)
        prepared = time.perf_counter()
        run = partial(self._run_on, image, planes, batch, prune)
        (output, gflops), computing = runner(partial(timed, partial(count_flops, run)))
        predicted = time.perf_counter()
        mask = remove_small_components(self._mask(image, planes, output.logits))
        result = Segmentation(mask, self._tokens(image, planes, output) if return_tokens else None)
        result.kept_fraction = {name: float(share.mean()) for name, share in output.kept_fraction().items()}
        if return_uncertainty:
            result.entropy = mean_entropy(output.logits, output.token_map() == 1)
        done = time.perf_counter()
        result.gflops, result.gflops_dense = gflops, runner(lambda _: self._dense_gflops(size)) * len(planes)
        seconds = {"preprocess": prepared - start, "network": computing, "postprocess": done - predicted}
        result.latency_ms = {step: 1000 * took for step, took in seconds.items()}
        return result

    def slice_cost(self, prune: str | None) -> tuple[float, float]:
        """GFLOP and ms of the network for a slice, of a small stack of noise with a box in its middle: the median of three calls."""
        count, edge = _TRIAL
        stack = torch.rand((count, 3, edge, edge), generator=torch.Generator().manual_seed(0)) * 2 - 1
        prompts = BoxPrompt.batch([[((edge / 3, edge / 3), (2 * edge / 3, 2 * edge / 3))]] * count, (edge, edge))
        self._run(stack, self._encode(stack), prompts, prune)
        gflops, times = 0.0, []
        for _ in range(3):
            start = time.perf_counter()
            _, gflops = count_flops(lambda: self._run(stack, self._encode(stack), prompts, prune))
            times.append(time.perf_counter() - start)
        return gflops / count, 1000 * median(times) / count

    def _stack(self, image: ImageStack) -> Tensor:
        """float32 (Z, 3, H, W): every slice between its neighbours; rows and columns are added until the network takes it."""
        slices = image.slices(self.spec.pixel)
        height, width = slices.shape[1:]
        padded = F.pad(slices, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE), value=-1.0)
        return stack_neighbours(padded, range(len(padded)))

    @torch.inference_mode()
    def _encode(self, stack: Tensor) -> ImageEmbedding:
        embedding: ImageEmbedding = self.network.encode_image(stack.to(self.device), self.plan)
        return embedding

    def _embedding(self, image: ImageStack) -> ImageEmbedding:
        """What the network makes of the whole stack before it looks at a prompt; kept with ``image``."""
        planes = tuple(range(image.volume.array.shape[2]))
        return image.embedding((self.version, str(self.device)), planes, lambda: self._encode(self._stack(image)))

    @torch.inference_mode()
    def _relevant(self, image: ImageStack) -> Tensor:
        relevant: Tensor = self.network.find_heart(self._embedding(image), self.plan)
        return relevant

    def _run_on(self, image: ImageStack, planes: list[int], prompts: PromptBatch, prune: str | None) -> PrunedOutput:
        """The network's output for the slices ``planes``; what it makes of the stack without a prompt is made now or at hand."""
        return self._run(self._stack(image)[planes], self._embedding(image).select(planes), prompts, prune)

    @torch.inference_mode()
    def _run(self, slices: Tensor, embedding: ImageEmbedding, prompts: PromptBatch, prune: str | None) -> PrunedOutput:
        plan = self.plan.with_override(prune) if self.plan is not None else None
        slices = slices.to(self.device).contiguous(memory_format=torch.channels_last)
        output: PrunedOutput = self.network.predict(slices, embedding, prompts, plan)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return output

    def _mask(self, image: ImageStack, planes: list[int], logits: Tensor) -> np.ndarray:
        native = self._to_native(image, torch.nan_to_num(logits.float(), nan=0.0), "bilinear")
        mask = np.zeros(image.volume.array.shape, dtype=np.uint8, order="F")
        mask[:, :, planes] = native.max(1).indices.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return mask

    def _tokens(self, image: ImageStack, planes: list[int], output: PrunedOutput) -> np.ndarray:
        tokens = np.zeros(image.volume.array.shape, dtype=np.float32)
        native = self._to_native(image, output.token_map().unsqueeze(1), "nearest")
        tokens[:, :, planes] = native[:, 0].permute(1, 2, 0).cpu().numpy()
        return tokens

    def _to_native(self, image: ImageStack, maps: Tensor, mode: str) -> Tensor:
        """Maps (K, C, H, W) of the network's input, read at the centres of the image's voxels: (K, C, X, Y)."""
        height, width = image.slices(self.spec.pixel).shape[1:]
        size = image.volume.array.shape[:2]
        inner = maps[:, :, :height, :width]
        return F.interpolate(inner, size=size, mode=mode, align_corners=False if mode == "bilinear" else None)

    def _dense_gflops(self, size: tuple[int, ...]) -> float:
        """GFLOP of one slice of ``size`` pixels without pruning, counted on a call."""
        if size not in self._dense:
            blank = torch.zeros(1, 3, *size)
            _, self._dense[size] = count_flops(lambda: self._run(blank, self._encode(blank), PromptBatch.empty(1, size), "off"))
        return self._dense[size]
