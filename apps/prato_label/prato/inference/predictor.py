"""Prompts on an image answered: where to look, the mask, and what the labeller should know of the prompts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prato.data.nifti import Volume
from prato.data.stack import from_stack
from prato.data.structures import STRUCTURES
from prato.inference.image_stack import ImageStack
from prato.inference.locator import Locator
from prato.inference.segmentation import Segmentation
from prato.inference.segmenter import Segmenter
from prato.inference.stack_segmenter import StackSegmenter
from prato.models.checkpoint import CheckpointError, load_model
from prato.prompts.base import Prompt
from prato.prompts.box import Box, BoxPrompt
from prato.pruning.plan import PruningPlan
from prato.runtime.batch_runner import IMMEDIATE, BatchRunner

#: Share of the mask outside the box from which the box is said to cut the target.
_CUT = 0.03
#: Share of the box's area that the mask's own box fills in plane, below which the box is said to be far too large.
_LOOSE = 0.35
#: Share of the boxes' voxels that the mask fills below which the heart is looked for elsewhere. With the shipped Swin UNETR, on 14 of the
#: ACDC validation volumes, it was an eighth at least in a box twice too wide, and a fortieth at most in one beside the heart.
_EMPTY = 0.05
#: The same where the locator sees the heart beside the box, less than so much of its proposal inside: a tight box is half full of heart.
_SPARSE, _BESIDE = 0.25, 0.1
#: Share of the mask inside the box below which the box is said to miss the target.
_MISSED = 0.25

#: Segments one image for prompts, in a window round a box in voxels of ``ImageStack.volume``.
_Segment = Callable[[Sequence[Prompt], Box], Segmentation]


@dataclass(frozen=True)
class Prediction:
    """An answer, as ``docs/protocol.md`` describes its parts; arrays lie on the image's own grid (X, Y, Z)."""

    mask: np.ndarray
    tokens: np.ndarray | None
    box: Box
    box_source: str
    kept_fraction: dict[str, float]
    gflops: float
    gflops_dense: float
    latency_ms: dict[str, float]
    warnings: list[str]
    model_version: str
    entropy: float | None = None
    summary: Tensor | None = None

    def reply(self) -> dict[str, Any]:
        """The JSON part of the reply."""
        return {
            "label_names": dict(STRUCTURES),
            "box": list(self.box.bounds),
            "box_source": self.box_source,
            "kept_fraction": {name: round(share, 4) for name, share in self.kept_fraction.items()},
            "gflops": round(self.gflops, 3),
            "gflops_dense": round(self.gflops_dense, 3),
            "latency_ms": {step: round(ms, 1) for step, ms in self.latency_ms.items()},
            "warnings": list(self.warnings),
            "model_version": self.model_version,
        }


def load_segmenter(path: Path, device: torch.device) -> Segmenter | StackSegmenter:
    """The segmenting network of a model file.

    Raises:
        CheckpointError: the file cannot be used, or holds no segmenting network.
    """
    network, spec, version = load_model(path)
    if not spec.is_promptable:
        raise CheckpointError(f"{path.name} holds a locator, not a segmenting network.")
    return (StackSegmenter if spec.centre == "stack" else Segmenter)(network, spec, version, device)


class Predictor:
    """Segments an image for any number of prompts; what depends on no prompt is computed once.

    Holds one image at a time. Several may share their networks, where calls of these do not overlap.

    Args:
        segmenter: the segmenting network.
        locator: proposes a box where no prompt is given, for a network that does not find the heart itself; None for the whole image.
    """

    def __init__(self, segmenter: Segmenter | StackSegmenter, locator: Locator | None = None) -> None:
        self.segmenter, self.locator = segmenter, locator
        self._image: ImageStack | None = None

    @classmethod
    def from_files(cls, model: str | os.PathLike[str], locator: str | os.PathLike[str] | None = None, device: str = "cpu") -> Predictor:
        """A predictor with the networks of these model files.

        Raises:
            CheckpointError: a model file cannot be used.
            RuntimeError: torch does not know ``device``.
        """
        where = torch.device(device)
        return cls(load_segmenter(Path(model), where), None if locator is None else Locator(Path(locator), where))

    @property
    def version(self) -> str:
        """The segmenting model's version."""
        return self.segmenter.version

    @property
    def plan(self) -> PruningPlan | None:
        """The segmenting model's default plan."""
        return self.segmenter.plan

    def set_image(self, image: Volume | ImageStack) -> None:
        """From now on prompts refer to ``image``, whichever axis its slices lie along."""
        self._image = image if isinstance(image, ImageStack) else ImageStack(image)

    def predict(
        self,
        prompts: Sequence[Prompt] = (),
        prune: str | None = None,
        *,
        return_tokens: bool = False,
        return_uncertainty: bool = False,
        runner: BatchRunner = IMMEDIATE,
    ) -> Prediction:
        """Segment the image.

        Args:
            prompts: of one kind, in voxels of the image as it is stored; none to have a box proposed.
            prune: "off" for no pruning, or the percentage of tokens that leave at each stage ("25", "50", "75"); None for the model's plan.
            return_tokens: whether to make the token-retention map.
            return_uncertainty: whether to compute ``entropy`` and ``summary``.
            runner: makes the networks' calls.

        Raises:
            ValueError: no image was set, a prompt reaches beyond it, or ``prune`` is none of these.
            CancelledError: ``runner`` was cancelled.
        """
        if self._image is None:
            raise ValueError("There is no image to segment: call set_image first.")
        runner.token.raise_if_cancelled()
        start = time.perf_counter()
        image = self._image
        is_drawn = len(prompts) > 0
        prompts, source, focus = self._locate(image, prompts, runner)
        located = time.perf_counter()
        segment: _Segment = partial(
            self.segmenter.segment,
            image,
            prune=prune,
            return_tokens=return_tokens,
            return_uncertainty=return_uncertainty,
            runner=runner,
        )
        result = segment(prompts, focus)
        boxes = [prompt.box.permute(image.axes) for prompt in prompts]
        if is_drawn and isinstance(self.segmenter, Segmenter) and self._looks_empty(image, boxes, result.mask, runner):
            result = self._segment_elsewhere(image, boxes, segment, result, runner)
        return Prediction(
            mask=from_stack(result.mask, image.axis),
            tokens=None if result.tokens is None else from_stack(result.tokens, image.axis),
            box=Box.union(prompt.box for prompt in prompts) if prompts else image.stored_box(focus),
            box_source=source,
            kept_fraction=result.kept_fraction,
            gflops=result.gflops,
            gflops_dense=result.gflops_dense,
            latency_ms={"locate": 1000 * (located - start), **result.latency_ms},
            warnings=_warnings(boxes, result.mask) if is_drawn else [],
            model_version=self.version,
            entropy=result.entropy,
            summary=result.summary,
        )

    def _locate(self, image: ImageStack, prompts: Sequence[Prompt], runner: BatchRunner) -> tuple[Sequence[Prompt], str, Box]:
        """The prompts or a proposed one, where they come from, and whose centre the window takes: a box in voxels of ``image.volume``."""
        if not prompts and isinstance(self.segmenter, StackSegmenter):
            found = self.segmenter.propose(image, runner)
            return (), "proposed" if found else "whole_image", found or Box.whole(image.volume.array.shape)
        if not prompts:
            proposed = image.proposal(self.locator, runner) if self.locator else None
            focus = proposed or Box.whole(image.volume.array.shape)
            return (BoxPrompt(image.stored_box(focus)),), "proposed" if proposed else "whole_image", focus
        drawn = Box.union(prompt.box for prompt in prompts)
        if drawn.intersection(Box.whole(image.stored.array.shape)) != drawn:
            raise ValueError(f"The prompts span {list(drawn.bounds)}, but the image has {image.stored.array.shape} voxels: draw inside it.")
        focus = drawn.permute(image.axes)
        if isinstance(self.segmenter, StackSegmenter):
            return prompts, prompts[0].name, focus
        edges_mm = [size * mm for size, mm in zip(focus.size, image.volume.spacing[:2])]
        if self.locator and max(edges_mm) > self.segmenter.window_mm:
            # the network cannot see all of such a box at once: it looks where in the box the heart is
            proposed = image.proposal(self.locator, runner)
            focus = (proposed.intersection(focus) if proposed else None) or focus
        return prompts, prompts[0].name, focus

    def _looks_empty(self, image: ImageStack, boxes: list[Box], mask: np.ndarray, runner: BatchRunner) -> bool:
        """Whether ``boxes`` seem to hold no heart: next to nothing was found in them, or little, with the locator's heart beside them."""
        filled = _filled(boxes, mask)
        if filled < _EMPTY or filled >= _SPARSE or self.locator is None:
            return filled < _EMPTY
        proposed = image.proposal(self.locator, runner)
        if proposed is None:
            return False
        both = Box.union(boxes).in_plane.intersection(proposed.in_plane)
        return both is None or both.voxels < _BESIDE * proposed.in_plane.voxels

    def _segment_elsewhere(
        self, image: ImageStack, boxes: list[Box], segment: _Segment, first: Segmentation, runner: BatchRunner
    ) -> Segmentation:
        """The heart where the locator sees it, in the slices of ``boxes``, if that finds more of it than ``first`` did."""
        proposed = image.proposal(self.locator, runner) if self.locator else None
        if proposed is None:
            return first
        # the proposal in plane, the prompt's slices
        columns = [Box((*proposed.start[:2], box.start[2]), (*proposed.stop[:2], box.stop[2])) for box in boxes]
        places = [place for column in columns if (place := column.intersection(proposed))]
        if not places:
            return first
        second = segment([BoxPrompt(image.stored_box(place)) for place in places], places[0])
        better = second if np.count_nonzero(second.mask) > np.count_nonzero(first.mask) else first
        return replace(
            better,
            gflops=first.gflops + second.gflops,
            gflops_dense=first.gflops_dense + second.gflops_dense,
            latency_ms={step: ms + second.latency_ms[step] for step, ms in first.latency_ms.items()},
        )


def _filled(boxes: list[Box], mask: np.ndarray) -> float:
    """Share of the voxels of ``boxes`` that belong to a structure."""
    inside = _inside(boxes, mask)
    return np.count_nonzero((mask > 0) & inside) / np.count_nonzero(inside)


def _inside(boxes: list[Box], mask: np.ndarray) -> np.ndarray:
    """bool, of the shape of ``mask`` and laid out as it is: True for the voxels of ``boxes``."""
    inside = np.zeros_like(mask, dtype=bool)
    for box in boxes:
        inside[box.slices] = True
    return inside


def _warnings(boxes: list[Box], mask: np.ndarray) -> list[str]:
    """What the labeller should know of ``boxes``, given the ``mask`` on the same grid."""
    target = mask > 0
    total = np.count_nonzero(target)
    held = np.count_nonzero(target & _inside(boxes, target))
    if total == 0 or held < _MISSED * total:
        return ["box_misses_target"]
    found = []
    if held < (1 - _CUT) * total:
        found.append("box_cut_by_target")
    tight = Box.around(target)
    if tight is not None and tight.in_plane.voxels < _LOOSE * Box.union(boxes).in_plane.voxels:
        found.append("box_far_larger_than_target")
    return found
