"""One model on one volume: window, network, mask on the native grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from prato.acquisition.entropy import mean_entropy
from prato.acquisition.summary import BoxSummary
from prato.data.nifti import Volume
from prato.inference.image_stack import ImageStack
from prato.inference.postprocess import one_heart
from prato.inference.window import STEP, Window, window_edge, window_edges, with_margin, with_neighbours
from prato.models import PratoSwinUNETR, PratoUNETR
from prato.models.base import Begun
from prato.models.checkpoint import CheckpointError, channels_last, load_model
from prato.prompts.batch import PromptBatch
from prato.prompts.box import Box, BoxPrompt
from prato.pruning.plan import PrunedOutput, PruningPlan
from prato.runtime.batch_runner import Calls, in_parts
from prato.runtime.captured import CapturedNetwork
from prato.runtime.flops import counted

_T = TypeVar("_T")


@dataclass
class Segmentation:
    """A mask and what it took.

    Attributes:
        mask: uint8 (X, Y, Z), values of ``prato.data.structures``, without islands; slices outside every box stay background and are
        never computed.
        tokens: float32 (X, Y, Z) in 0..1, share of the pruning stages that the token over each voxel survived; None unless asked for.
        kept_fraction: by pruning stage, mean share of the tokens that went on.
        gflops: counted on the calls that were made; gflops_dense: what the same windows cost without pruning. latency_ms: by step.
        entropy: of the classes, mean over the pixels whose tokens survived every pruning stage, 0..1; None unless asked for.
        summary: what the network sees in the boxes, see ``prato.acquisition.summary``; None unless asked for, or where nothing is pruned.
    """

    mask: np.ndarray
    tokens: np.ndarray | None
    kept_fraction: dict[str, float] = field(default_factory=dict)
    gflops: float = 0.0
    gflops_dense: float = 0.0
    latency_ms: dict[str, float] = field(default_factory=dict)
    entropy: float | None = None
    summary: Tensor | None = None


class Segmenter:
    """A PrATo network, loaded for prediction on ``device`` (half precision on a GPU).

    Raises:
        CheckpointError: the model file cannot be used, or holds no segmenting network.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        network, self.spec, self.version = load_model(path)
        if self.spec.network == "locator":
            raise CheckpointError(f"{path.name} holds a locator, not a segmenting network.")
        self.plan = self.spec.pruning_plan()
        self.device = device
        self.network = channels_last(network.to(device))
        self._predicting = CapturedNetwork(self.network) if device.type == "cuda" else self.network
        self._dense: dict[int, float] = {}

    def dense_gflops(self, edge: int) -> float:
        """GFLOP of one slice in a window of ``edge`` pixels without pruning, counted on a call."""
        if edge not in self._dense:
            blank = torch.zeros(1, 3, edge, edge)
            _, self._dense[edge] = counted(lambda: self._run(blank, PromptBatch.empty(1, (1, 1)), "off"))
        return self._dense[edge]

    @property
    def window_mm(self) -> float:
        """Edge of the largest square that the network sees, in mm."""
        return self.spec.window * self.spec.pixel

    def segment(
        self,
        stack: ImageStack,
        boxes: Sequence[Box],
        focus: Box,
        prune: str | None,
        return_tokens: bool,
        calls: Calls,
        return_opinion: bool = False,
    ) -> Segmentation:
        """Segment the slices that ``boxes`` reach.

        Args:
            stack: the image.
            boxes: prompts in voxels, at least one, inside the image.
            focus: its in-plane centre is the window's centre.
            prune: the contract's ``prune``; None for the model's plan.
            return_tokens: whether to make the token-retention map.
            calls: how the network's are made.
            return_opinion: whether to find entropy and summary.

        Raises:
            CancelledError: ``calls`` was cancelled.
        """
        start = time.perf_counter()
        volume = stack.volume
        planes = sorted({k for box in boxes for k in range(box.start[2], box.stop[2])})
        place = volume.array.shape, volume.spacing, self.spec.pixel
        if self.spec.centre == "image":
            focus = Box.whole(volume.array.shape)
        edge = max(window_edge(box, *place, self.spec.window) for box in (focus, *boxes))
        roomy = all(with_margin(box, *place) <= edge for box in (focus, *boxes))  # no box may stick out of its window for that
        window = Window.centred(focus, *place, edge, STEP if roomy and self.spec.centre == "box" else 1)
        image = self._input(stack, window, planes)
        per_slice = [[window.to_window(box) for box in boxes if box.start[2] <= k < box.stop[2]] for k in planes]
        prepared = time.perf_counter()
        outputs, gflops, computing = [], 0.0, 0.0  # calls may have to wait: that is no computing
        listening = BoxSummary(self.network, self.plan) if return_opinion else nullcontext()
        with listening:
            for batch in in_parts(len(planes)):
                prompts = BoxPrompt.batch([per_slice[n] for n in batch], (edge, edge))
                begun = partial(self._begun, stack, window, tuple(planes[batch.start : batch.stop]))
                run = partial(self._run, image[batch.start : batch.stop], prompts, prune, begun)
                (output, cost), took = calls(partial(_timed, partial(counted, run)))
                outputs.append(output)
                gflops, computing = gflops + cost, computing + took
        predicted = time.perf_counter()
        mask = one_heart(self._mask(volume, window, planes, torch.cat([o.logits for o in outputs])))
        tokens = self._tokens(volume, window, planes, outputs) if return_tokens else None
        entropy = summary = None
        if isinstance(listening, BoxSummary):
            entropy = mean_entropy(torch.cat([o.logits for o in outputs]), torch.cat([o.token_map() for o in outputs]) == 1)
            summary = listening.mean()
        kept = _kept(outputs)
        done = time.perf_counter()
        latency = {"preprocess": prepared - start, "network": computing, "postprocess": done - predicted}
        known = self._dense.get(edge)
        dense = (calls(lambda _: self.dense_gflops(edge)) if known is None else known) * len(planes)
        took_ms = {step: 1000 * seconds for step, seconds in latency.items()}
        return Segmentation(mask, tokens, kept, gflops, dense, took_ms, entropy, summary)

    def slice_cost(self, prune: str | None) -> tuple[float, float]:
        """GFLOP and ms of the network on one slice of noise, alone: the smallest window, in its middle a box two thirds as wide.

        Args:
            prune: as for :meth:`segment`.

        Returns:
            The time is the median of three calls after one that warms up, counted as those of a request are.
        """
        edge = window_edges(self.spec.window)[0]
        # not a constant image: its tokens would all be equal, and a cut among equals drops none
        image = torch.rand((1, 3, edge, edge), generator=torch.Generator().manual_seed(0)) * 2 - 1
        prompts = BoxPrompt.batch([[((edge / 6, edge / 6), (5 * edge / 6, 5 * edge / 6))]], (edge, edge))
        self._run(image, prompts, prune)
        gflops, times = 0.0, []
        for _ in range(3):
            start = time.perf_counter()
            _, gflops = counted(lambda: self._run(image, prompts, prune))
            times.append(time.perf_counter() - start)
        return gflops, 1000 * median(times)

    def _input(self, stack: ImageStack, window: Window, planes: list[int]) -> Tensor:
        slices = stack.slices(self.spec.pixel)
        # the neighbours of the first and last slice are channels of theirs
        first, last = max(planes[0] - 1, 0), min(planes[-1] + 2, len(slices))
        return with_neighbours(window.cut(slices[first:last]), [k - first for k in planes])

    def _begun(self, stack: ImageStack, window: Window, planes: tuple[int, ...], image: Tensor, plan: PruningPlan) -> Begun:
        """What the network makes of ``image``, the ``window`` of those ``planes``, before it looks at a box; kept with the ``stack``."""
        key = self.version, str(self.device), plan.after, plan.unprompted, window
        return stack.begun(key, planes, partial(self._predicting.begin, image, plan))

    @torch.inference_mode()
    def _run(
        self, image: Tensor, prompts: PromptBatch, prune: str | None, begun: Callable[[Tensor, PruningPlan], Begun] | None = None
    ) -> PrunedOutput:
        """The network on ``image``; where it can begin without a box, ``begun`` does so, or knows what came of it before."""
        plan = self.plan.asked(prune) if self.plan is not None else None
        image = image.to(self.device).contiguous(memory_format=torch.channels_last)
        able = isinstance(self.network, PratoUNETR | PratoSwinUNETR) and not prompts.is_empty
        output: PrunedOutput
        if begun and able and plan and plan.mode == "drop":
            output = self._predicting.finish(image, begun(image, plan), prompts, plan)
        else:
            output = self._predicting.segment(image, prompts, plan)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
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


def _timed(call: Callable[[Callable[[], bool]], _T], cancelled: Callable[[], bool]) -> tuple[_T, float]:
    """What ``call`` returns, and the seconds that it took."""
    start = time.perf_counter()
    return call(cancelled), time.perf_counter() - start


def _kept(outputs: list[PrunedOutput]) -> dict[str, float]:
    """Mean share over all slices; the slices of a batch without any prompt kept all their tokens."""
    names = {name: None for output in outputs for name in output.kept_fraction()}
    shares = [(output.kept_fraction(), output.logits.shape[0]) for output in outputs]
    return {name: float(np.mean([v for kept, n in shares for v in (kept[name].tolist() if name in kept else [1.0] * n)])) for name in names}
