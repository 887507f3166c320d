"""Corrections: clicks and scribbles of a structure, and points as MONAI Label's own clients send them under a structure's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prato.data.stack import slice_axis
from prato.data.structures import BACKGROUND, STRUCTURES, structure_from_name
from prato.prompts.base import Prompt, PromptError, register_prompt
from prato.prompts.box import Box
from prato.prompts.points import read_points

#: Of one request: more strokes than anybody draws on a heart, and more voxels than a stroke has. A scribble is the line that was drawn.
MAX_STROKES, MAX_VOXELS = 256, 4096
#: What stock clients call them.
CLICK_FIELDS = (*STRUCTURES, "RV", "MYO", "LV", "background")
_VALUES = {"background": BACKGROUND, **STRUCTURES}


@dataclass(frozen=True)
class Stroke:
    """A click, or a scribble on one slice: ``points`` int64 (n, 3), voxels (i, j, k) that show ``structure``, a value of a mask."""

    structure: int
    points: np.ndarray

    def rearrange(self, axes: Sequence[int], steps: Sequence[int], shape: Sequence[int]) -> Stroke:
        """As :meth:`Box.rearrange`."""
        points = self.points[:, list(axes)]
        return Stroke(self.structure, np.where(np.array(steps) < 0, np.array(shape) - 1 - points, points))


@register_prompt("clicks")
@dataclass(frozen=True)
class ClickPrompt(Prompt):
    """A click on a structure: the token under it may not leave, and relevance is measured against it, too. It comes beside other prompts.

    Attributes:
        place: the middle of what was clicked, in voxels.
    """

    place: tuple[float, ...]
    fields: ClassVar[tuple[str, ...]] = ()
    locates: ClassVar[bool] = False

    @classmethod
    def from_request(cls, params: Mapping[str, Any], shape: tuple[int, ...], spacing: tuple[float, ...]) -> Sequence[Prompt]:
        """None: no request is a click alone; see :meth:`from_strokes`."""
        return ()

    @classmethod
    def from_strokes(cls, strokes: Sequence[Stroke]) -> tuple[ClickPrompt, ...]:
        """One for each of ``strokes`` on a structure."""
        ends = [(each.points.min(0).tolist(), (each.points.max(0) + 1).tolist()) for each in strokes if each.structure != BACKGROUND]
        return tuple(cls(Box(tuple(a), tuple(b)), tuple((low + high) / 2 for low, high in zip(a, b))) for a, b in ends)

    @property
    def coordinates(self) -> Sequence[Sequence[float]]:
        return (self.place,)

    @staticmethod
    def queries(features: Tensor, coordinates: Tensor, sample: Tensor, k: int) -> Tensor:
        """(N, 1, C): the features at each place, interpolated."""
        cells = list(enumerate(features.shape[2:]))[::-1]  # grid_sample wants the fastest axis first
        where = torch.stack([2.0 * coordinates[..., axis] / count - 1.0 for axis, count in cells], dim=-1)
        where = where.unflatten(1, (-1, *(1,) * (features.ndim - 3)))
        return F.grid_sample(features[sample], where, padding_mode="border", align_corners=False).flatten(2).transpose(1, 2)


def read_clicks(params: Mapping[str, Any], shape: tuple[int, ...], spacing: tuple[float, ...]) -> list[Stroke]:
    """The strokes that a request holds, oldest first: ``clicks``, and before them points under the structures' names.

    Args:
        params: of the request. shape, spacing: of its image, in voxels and mm.

    Raises:
        PromptError: they cannot be used on that image, or contradict each other.
    """
    strokes = [
        Stroke(_VALUES[structure_from_name(name) or ""], np.array([point]))
        for name in CLICK_FIELDS
        for point in read_points(name, params.get(name), shape)
    ]
    sent = params.get("clicks") or ()
    if not isinstance(sent, (list, tuple)):
        raise PromptError(f'clicks must be a list of {{"structure": name, "points": [[i,j,k], ...]}}, not {sent!r:.60}.')
    if len(strokes) + len(sent) > MAX_STROKES:
        raise PromptError(f"There are {len(strokes) + len(sent)} clicks and points: send at most {MAX_STROKES} at a time.")
    strokes += [_stroke(each, shape, slice_axis(shape, spacing)) for each in sent]
    voxels = sum(len(stroke.points) for stroke in strokes)
    if voxels > MAX_VOXELS:
        raise PromptError(f"The clicks hold {voxels} points: send at most {MAX_VOXELS} at a time, and larger parts as certain voxels.")
    _require_consistent(strokes, read_points("foreground", params.get("foreground"), shape))
    return strokes


def _stroke(sent: Any, shape: tuple[int, ...], across: int) -> Stroke:
    if not isinstance(sent, Mapping) or set(sent) != {"structure", "points"}:
        raise PromptError(f'A click must be {{"structure": name, "points": [[i,j,k], ...]}}, not {sent!r:.80}.')
    name = sent["structure"]
    value = _VALUES.get((structure_from_name(name) if isinstance(name, str) else None) or "")
    if value is None:
        raise PromptError(f"The structure of a click must be one of {', '.join(_VALUES)}, not {name!r:.40}.")
    if isinstance(sent["points"], (list, tuple)) and len(sent["points"]) > MAX_VOXELS:
        raise PromptError(f"A click holds {len(sent['points'])} points: send at most {MAX_VOXELS}, and larger parts as certain voxels.")
    points = read_points("a click", sent["points"], shape)
    if not points:
        raise PromptError(f"A click of {name:.40} has no points: send one [i,j,k] for a click, or several on one slice for a scribble.")
    slices = {point[across] for point in points}
    if len(slices) > 1:
        raise PromptError(f"A scribble of {name:.40} crosses {len(slices)} slices: send one for each slice.")
    return Stroke(value, np.array(points))


def _require_consistent(strokes: Sequence[Stroke], foreground: Sequence[tuple[int, ...]]) -> None:
    seen: dict[tuple[int, ...], int] = {}
    names = {value: name for name, value in _VALUES.items()}
    for stroke in strokes:
        for point in map(tuple, stroke.points.tolist()):
            other = seen.setdefault(point, stroke.structure)
            if other != stroke.structure:
                raise PromptError(
                    f"The voxel {list(point)} cannot be both {names[other]} and {names[stroke.structure]}: leave the older click out."
                )
    for point in foreground:
        if seen.get(point) == BACKGROUND:
            raise PromptError(f"The voxel {list(point)} cannot be both foreground and background: leave one of the two points out.")
