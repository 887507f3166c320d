"""What a client asks for, read and checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prato.data.structures import STRUCTURES
from prato.prompts.box import Box, BoxError
from prato.pruning.plan import PRUNE_CHOICES

#: Parameters that carry clicked points: the structures' names, their short forms, and what OHIF calls "inside".
POINT_KEYS = (*STRUCTURES, "RV", "MYO", "LV", "foreground")
#: Room left round clicked points, in mm: a click marks the inside of a structure, seldom its rim.
POINT_MARGIN_MM = 30.0
#: More boxes than anybody draws on one heart; every box costs queries on every slice.
MOST_BOXES = 32


class RequestError(ValueError):
    """A request that cannot be answered; the message is one sentence for the person who sent it."""


@dataclass(frozen=True)
class Request:
    """A checked request.

    Attributes:
        boxes: prompt boxes in voxels of the stored image; empty when the box has to be proposed.
        source: where ``boxes`` come from.
        prune: the contract's ``prune``, or None for the model's own plan.
        return_tokens: whether the token-retention map is wanted.
        return_opinion: whether entropy and summary are wanted; no client asks for them, the choice of the next study does.
    """

    boxes: tuple[Box, ...] = ()
    source: Literal["roi", "points", "none"] = "none"
    prune: str | None = None
    return_tokens: bool = False
    return_opinion: bool = False


def parse_request(params: Mapping[str, Any], shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Request:
    """Read ``params`` as the wire contract defines it, for an image of ``shape`` voxels of ``spacing`` mm.

    Raises:
        RequestError: a value is not what the contract allows.
    """
    prune = params.get("prune")
    if isinstance(prune, (list, tuple)):  # a choice list that a stock client handed back untouched
        prune = None
    if prune is not None and prune not in PRUNE_CHOICES:
        raise RequestError(f"prune must be one of {', '.join(PRUNE_CHOICES)} (as text), not {prune!r}.")
    return_tokens = params.get("return_tokens", False)
    if not isinstance(return_tokens, bool):
        raise RequestError(f"return_tokens must be true or false, not {return_tokens!r}.")
    boxes, source = _boxes(params, shape, spacing)
    return Request(boxes, source, prune, return_tokens)


def _boxes(
    params: Mapping[str, Any], shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> tuple[tuple[Box, ...], Literal["roi", "points", "none"]]:
    roi = params.get("roi")
    if roi is not None and not (isinstance(roi, Sequence) and len(roi) == 0 and not isinstance(roi, str)):
        if isinstance(roi, list) and len(roi) > MOST_BOXES and isinstance(roi[0], list):
            raise RequestError(f"roi holds {len(roi)} boxes: send at most {MOST_BOXES} at a time.")
        many = isinstance(roi, (list, tuple)) and all(isinstance(item, (list, tuple)) for item in roi)
        try:
            return tuple(Box.from_bounds(bounds, shape) for bounds in (roi if many else [roi])), "roi"
        except BoxError as error:
            raise RequestError(str(error)) from error
    points = [_point(name, point, shape) for name in POINT_KEYS for point in _points(name, params.get(name))]
    if not points:
        return (), "none"
    margin = [math.ceil(POINT_MARGIN_MM / mm) for mm in spacing[:2]]
    start = [max(min(p[a] for p in points) - margin[a], 0) for a in (0, 1)]
    stop = [min(max(p[a] for p in points) + margin[a] + 1, shape[a]) for a in (0, 1)]
    planes = [p[2] for p in points]
    # clicks on one slice say where the heart is in plane, not how far it reaches along the stack
    first, last = (0, shape[2]) if min(planes) == max(planes) else (max(min(planes) - 1, 0), min(max(planes) + 2, shape[2]))
    return (Box((start[0], start[1], first), (stop[0], stop[1], last)),), "points"


def _points(name: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise RequestError(f"{name} must be a list of points [i, j, k], not {value!r:.80}.")
    # OHIF sends one bare point where there is only one
    return [value] if len(value) == 3 and all(isinstance(v, (int, float)) for v in value) else list(value)


def _point(name: str, value: Any, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    numbers = isinstance(value, (list, tuple)) and len(value) == 3 and all(isinstance(v, (int, float)) for v in value)
    if not numbers or not all(math.isfinite(v) for v in value):
        raise RequestError(f"{name} must hold points of three finite voxel indices [i, j, k], not {value!r:.80}.")
    i, j, k = (math.floor(v) for v in value)
    if not all(0 <= v < size for v, size in zip((i, j, k), shape)):
        raise RequestError(f"The point {list(value)} of {name} lies outside the image of {'x'.join(map(str, shape))} voxels.")
    return i, j, k
