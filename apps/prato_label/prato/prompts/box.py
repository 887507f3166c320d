"""The prompt that is drawn as a box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from prato.prompts.base import Prompt, PromptError, register_prompt
from prato.prompts.bounds import Box
from prato.prompts.roi_align import roi_align

#: More boxes than anybody draws on one heart; every box costs queries on every slice.
MAX_BOXES = 32


@register_prompt("roi")
@dataclass(frozen=True)
class BoxPrompt(Prompt):
    """A box: relevance is measured against the features under a grid of RoIAlign bins laid over it."""

    fields: ClassVar[tuple[str, ...]] = ("roi",)

    @classmethod
    def from_request(cls, params: Mapping[str, Any], shape: tuple[int, ...], spacing: tuple[float, ...]) -> Sequence[Prompt]:
        """One prompt for each box in ``roi``: ``[i0, i1, j0, j1, k0, k1]``, or a list of such; see :meth:`Box.from_bounds`."""
        roi = params.get("roi")
        if roi is None or (isinstance(roi, Sequence) and len(roi) == 0 and not isinstance(roi, str)):
            return ()
        if isinstance(roi, list) and len(roi) > MAX_BOXES and isinstance(roi[0], list):
            raise PromptError(f"roi holds {len(roi)} boxes: send at most {MAX_BOXES} at a time.")
        is_list_of_boxes = isinstance(roi, (list, tuple)) and all(isinstance(item, (list, tuple)) for item in roi)
        return tuple(cls(Box.from_bounds(bounds, shape)) for bounds in (roi if is_list_of_boxes else [roi]))

    @staticmethod
    def clip(coordinates: Tensor, size: tuple[int, ...]) -> Tensor | None:
        """Start and stop, sorted and clipped. A box with less than one pixel inside the image counts as no box; one without thickness on a
        single axis is kept (RoIAlign samples it at one place)."""
        start, stop = coordinates.amin(0), coordinates.amax(0)
        limit = torch.tensor(size, dtype=torch.float32)
        thin = start == stop
        clipped = torch.stack((start.clamp_min(0.0), torch.minimum(stop, limit)))
        edges = clipped[1] - clipped[0]
        outside = (edges < 0) | ((edges == 0) & ~thin) | (thin & (start >= limit))
        if outside.any() or thin.sum() > 1 or edges.masked_fill(thin, 1.0).prod() < 1.0:
            return None
        return clipped

    @staticmethod
    def queries(features: Tensor, coordinates: Tensor, sample: Tensor, k: int) -> Tensor:
        """(N, k**D, C): the features under k bins along each axis of each box."""
        return roi_align(features, coordinates, sample, k).flatten(2).transpose(1, 2)

    @staticmethod
    def guidance(coordinates: Tensor, size: tuple[int, ...]) -> Tensor:
        """float32 (N, 1, *size): 1 where a pixel's middle lies in the box, 0 elsewhere."""
        inside = torch.ones(len(coordinates), *size, dtype=torch.bool, device=coordinates.device)
        for axis, count in enumerate(size):
            middle = torch.arange(count, device=coordinates.device) + 0.5
            along = (middle >= coordinates[:, :1, axis]) & (middle < coordinates[:, 1:, axis])
            inside &= along.view(-1, *(count if a == axis else 1 for a in range(len(size))))
        return inside.unsqueeze(1).float()
