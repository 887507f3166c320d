"""A request answered: which box, where to look, the mask, and what the labeller should know of the box."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prato.data.nifti import Volume
from prato.data.stack import box_from_stack, box_to_stack, from_stack
from prato.data.structures import STRUCTURES
from prato.inference.image_stack import ImageStack
from prato.inference.locator import Locator
from prato.inference.segmenter import Segmentation, Segmenter
from prato.prompts.box import Box
from prato.prompts.request import Request
from prato.pruning.plan import PruningPlan
from prato.runtime.batch_runner import AT_ONCE, Calls
from prato.runtime.cancel_token import go_on_unless

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


class Pipeline:
    """A segmenting model and, where there is one, the locator that proposes boxes for it.

    Raises:
        CheckpointError: a model file cannot be used.
        RuntimeError: torch does not know ``device``.
    """

    def __init__(self, model: Path, locator: Path | None, device: str) -> None:
        self.device = torch.device(device)
        self.segmenter = Segmenter(model, self.device)
        self.locator = None if locator is None else Locator(locator, self.device)

    @property
    def version(self) -> str:
        """The segmenting model's version."""
        return self.segmenter.version

    @property
    def plan(self) -> PruningPlan | None:
        """The segmenting model's default plan."""
        return self.segmenter.plan

    def predict(self, image: Volume | ImageStack, request: Request, calls: Calls = AT_ONCE) -> Prediction:
        """Answer ``request`` on ``image``, whichever axis its slices lie along.

        Args:
            calls: how the networks' are made.

        Raises:
            CancelledError: ``calls`` was cancelled.
        """
        go_on_unless(calls.cancelled)
        start = time.perf_counter()
        stack = image if isinstance(image, ImageStack) else ImageStack(image)
        axis = stack.axis
        boxes, source, focus = self._where(stack, [box_to_stack(box, axis) for box in request.boxes], request.source, calls)
        located = time.perf_counter()
        result = self.segmenter.segment(stack, boxes, focus, request.prune, request.return_tokens, calls, request.return_opinion)
        if source in ("roi", "points") and self._doubtful(stack, boxes, result.mask, calls):
            result = self._elsewhere(stack, boxes, request, result, calls)
        return Prediction(
            mask=from_stack(result.mask, axis),
            tokens=None if result.tokens is None else from_stack(result.tokens, axis),
            box=box_from_stack(Box.union(boxes), axis),
            box_source=source,
            kept_fraction=result.kept_fraction,
            gflops=result.gflops,
            gflops_dense=result.gflops_dense,
            latency_ms={"locate": 1000 * (located - start), **result.latency_ms},
            warnings=_warnings(boxes, result) if source in ("roi", "points") else [],
            model_version=self.version,
            entropy=result.entropy,
            summary=result.summary,
        )

    def _doubtful(self, stack: ImageStack, boxes: list[Box], mask: np.ndarray, calls: Calls) -> bool:
        """Whether ``boxes`` seem to hold no heart: next to nothing was found in them, or little, with the locator's heart beside them."""
        filled = _filled(boxes, mask)
        if filled < _EMPTY or filled >= _SPARSE or self.locator is None:
            return filled < _EMPTY
        proposed = stack.proposal(self.locator, calls)
        if proposed is None:
            return False
        both = Box.union(boxes).in_plane.intersection(proposed.in_plane)
        return both is None or both.voxels < _BESIDE * proposed.in_plane.voxels

    def _elsewhere(self, stack: ImageStack, boxes: list[Box], request: Request, first: Segmentation, calls: Calls) -> Segmentation:
        """The heart where the locator sees it, in the slices of ``boxes``, if that finds more of it than ``first`` did."""
        proposed = stack.proposal(self.locator, calls) if self.locator else None
        if proposed is None:
            return first
        # the proposal in plane, the prompt's slices
        columns = [Box((*proposed.start[:2], box.start[2]), (*proposed.stop[:2], box.stop[2])) for box in boxes]
        places = [place for column in columns if (place := column.intersection(proposed))]
        if not places:
            return first
        second = self.segmenter.segment(stack, places, places[0], request.prune, request.return_tokens, calls, request.return_opinion)
        better = second if np.count_nonzero(second.mask) > np.count_nonzero(first.mask) else first
        return replace(
            better,
            gflops=first.gflops + second.gflops,
            gflops_dense=first.gflops_dense + second.gflops_dense,
            latency_ms={step: ms + second.latency_ms[step] for step, ms in first.latency_ms.items()},
        )

    def _where(self, stack: ImageStack, boxes: list[Box], source: str, calls: Calls) -> tuple[list[Box], str, Box]:
        """The prompt boxes, where they come from, and the box whose centre the window takes."""
        whole = Box.whole(stack.volume.array.shape)
        if not boxes:
            proposed = stack.proposal(self.locator, calls) if self.locator else None
            return ([proposed], "proposed", proposed) if proposed else ([whole], "whole_image", whole)
        focus = Box.union(boxes)
        edges_mm = [size * mm for size, mm in zip(focus.size, stack.volume.spacing[:2])]
        if self.locator and max(edges_mm) > self.segmenter.window_mm:
            # the network cannot see all of such a box at once: it looks where in the box the heart is
            proposed = stack.proposal(self.locator, calls)
            focus = (proposed.intersection(focus) if proposed else None) or focus
        return boxes, source, focus


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


def _warnings(boxes: list[Box], result: Segmentation) -> list[str]:
    target = result.mask > 0
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
