"""Clicked points, which stand for the box round them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from prato.data.stack import slice_axis
from prato.data.structures import STRUCTURES
from prato.prompts.base import Prompt, PromptError, register_prompt
from prato.prompts.box import Box, BoxPrompt

#: Room left round clicked points, in mm: a click marks the inside of a structure, seldom its rim.
ROOM_MM = 30.0


@register_prompt("points")
@dataclass(frozen=True)
class PointsPrompt(BoxPrompt):
    """All points clicked on an image: to a network, the box that holds them and some room round them."""

    #: The structures' names, their short forms, and what OHIF calls "inside".
    fields: ClassVar[tuple[str, ...]] = (*STRUCTURES, "RV", "MYO", "LV", "foreground")
    bounds_heart: ClassVar[bool] = False

    @classmethod
    def from_request(cls, params: Mapping[str, Any], shape: tuple[int, ...], spacing: tuple[float, ...]) -> Sequence[Prompt]:
        """One prompt for all points [i, j, k] under all of ``fields``."""
        found = {name: read_points(name, params.get(name), shape) for name in cls.fields}
        points = [point for each in found.values() for point in each]
        if not points:
            return ()
        across = slice_axis(shape, spacing)
        start, stop = [min(values) for values in zip(*points)], [max(values) + 1 for values in zip(*points)]
        room = [1 if axis == across else math.ceil(ROOM_MM / mm) for axis, mm in enumerate(spacing)]
        if stop[across] - start[across] == 1 or not found["foreground"]:
            # clicks on one slice say where the heart is in plane, not how far it reaches along the stack, and those on a structure
            # say what is there
            room[across] = shape[across]
        return (
            cls(
                Box(
                    tuple(max(first - margin, 0) for first, margin in zip(start, room)),
                    tuple(min(last + margin, size) for last, margin, size in zip(stop, room, shape)),
                )
            ),
        )


def read_points(name: str, value: Any, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The voxels [i, j, k] of an image of ``shape`` that stand under ``name`` in a request.

    Raises:
        PromptError: they are no such list, or lie outside the image.
    """
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise PromptError(f"{name} must be a list of points [i, j, k], not {value!r:.80}.")
    # OHIF sends one bare point where there is only one
    is_bare = _is_point(value)
    return [_point(name, point, shape) for point in ([value] if is_bare else value)]


def _point(name: str, value: Any, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if not _is_point(value) or not all(abs(v) < math.inf for v in value):  # of whole numbers larger than any float, too
        raise PromptError(f"{name} must hold points of three finite voxel indices [i, j, k], not {value!r:.80}.")
    i, j, k = (math.floor(v) for v in value)
    if not all(0 <= v < size for v, size in zip((i, j, k), shape)):
        raise PromptError(f"The point {list(value)!r:.80} of {name} lies outside the image of {'x'.join(map(str, shape))} voxels.")
    return i, j, k


def _is_point(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(type(v) in (int, float) for v in value)
