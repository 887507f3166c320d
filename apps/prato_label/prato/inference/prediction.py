"""The answer to prompts on an image, or on a whole heartbeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from prato.data.stack import stack_axes, to_stack
from prato.data.structures import STRUCTURES, voxel_ml
from prato.data.studies.ed_es import NamedPhases
from prato.function.curve import VolumeCurve, find_ed_es
from prato.function.ventricles import CardiacFunction, cardiac_function
from prato.inference.prediction_warnings import MASK_WARNINGS, mask_warnings
from prato.prompts.box import Box


@dataclass(frozen=True)
class Prediction:
    """An answer, as ``docs/protocol/infer.md`` describes its parts; arrays lie on the image's own grid (X, Y, Z).

    Attributes:
        slices: how many the heart was looked for in.
    """

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
    slices: int
    entropy: float | None = None
    summary: Tensor | None = None

    def with_mask(self, mask: np.ndarray, spacing: Sequence[float], axis: int) -> Prediction:
        """This answer with another mask, such as one corrected since, and what is to be said of that one.

        Args:
            spacing: of its voxels, mm along X, Y, Z. axis: the one that slices lie along.
        """
        others = [warning for warning in self.warnings if warning not in MASK_WARNINGS]
        in_plane = tuple(spacing[a] for a in stack_axes(axis)[:2])
        return replace(self, mask=mask, warnings=others + mask_warnings(to_stack(mask, axis), in_plane, self.slices))

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


@dataclass(frozen=True)
class CinePrediction:
    """An answer for some phases of a cine, as ``docs/protocol/cines.md`` describes its parts.

    Attributes:
        mask: uint8 (X, Y, Z, T) on the cine's own grid; 0 in phases that were not asked for.
        phases: those that were, from 0, in order.
        predictions: of each of ``phases``; their masks are views of ``mask``.
        spacing: of a voxel, mm along X, Y, Z. axis: the one that slices lie along.
        has_times: whether the cine says when its phases were acquired.
        named: end-diastole and end-systole as somebody named them; None where they are found.
        found: those that were found among all phases before; None to find them among ``phases``.
    """

    mask: np.ndarray
    phases: tuple[int, ...]
    predictions: tuple[Prediction, ...]
    spacing: tuple[float, float, float]
    axis: int
    has_times: bool
    named: NamedPhases | None = None
    found: tuple[int, int] | None = None

    def with_mask(self, mask: np.ndarray) -> CinePrediction:
        """This answer with another mask, (X, Y, Z, T), and what is to be said of the phases of that one."""
        predictions = [one.with_mask(mask[..., t], self.spacing, self.axis) for t, one in zip(self.phases, self.predictions)]
        return replace(self, mask=mask, predictions=tuple(predictions))

    @property
    def model_version(self) -> str:
        """The model that made it, which may have been published while the request waited."""
        return self.predictions[0].model_version

    @cached_property
    def curve(self) -> VolumeCurve:
        """Volumes in ml of ``phases``."""
        return VolumeCurve.from_masks(self._hearts, voxel_ml(self.spacing))

    def find_ed_es(self) -> tuple[int, int] | None:
        """The phases of end-diastole and end-systole: named, or found among ``phases``; None where these hold no heart that beats."""
        known = self.named.pair if self.named else self.found
        if known is not None:
            return known
        pair = find_ed_es(self.curve, is_cycle=len(self.phases) == self.mask.shape[3])
        return None if pair is None else (self.phases[pair[0]], self.phases[pair[1]])

    def function(self, height_cm: float | None = None, weight_kg: float | None = None) -> CardiacFunction | None:
        """The function of both ventricles; None where end-diastole and end-systole are not known, or not among ``phases``."""
        pair = self.find_ed_es()
        if pair is None or not {*pair} <= {*self.phases}:
            return None
        spacing = [self.spacing[axis] for axis in stack_axes(self.axis)]
        count = self.mask.shape[3]
        among = count if self.found is not None else len(self.phases)
        function = cardiac_function(
            self._hearts,
            (spacing[0], spacing[1], spacing[2]),
            phases=(self.phases.index(pair[0]), self.phases.index(pair[1])),
            found_among=among if self.named is None else None,
            count=count,
            height_cm=height_cm,
            weight_kg=weight_kg,
            image_warnings=self.warnings,
        )
        return None if function is None else replace(function, ed=pair[0], es=pair[1])

    @property
    def warnings(self) -> dict[str, list[int]]:
        """What the labeller should know, by name, and of which phases."""
        warned: dict[str, list[int]] = {}
        for phase, prediction in zip(self.phases, self.predictions):
            for warning in prediction.warnings:
                warned.setdefault(warning, []).append(phase)
        if self.mask.shape[3] == 1:
            warned["one_phase"] = list(self.phases)
        elif not self.has_times:
            warned["phase_times_unknown"] = list(self.phases)
        return warned

    def reply(self, height_cm: float | None = None, weight_kg: float | None = None) -> dict[str, Any]:
        """The JSON part of the reply: what a prediction says, of all phases together, and what they say of the heart."""
        pair, function, curve = self.find_ed_es(), self.function(height_cm, weight_kg), self.curve
        volumes = {"RV cavity": curve.rv, "myocardium": curve.myocardium, "LV cavity": curve.lv}
        return {
            **_join(self.predictions).reply(),
            "warnings": list(self.warnings),
            "warned_phases": self.warnings,
            "phases": list(self.phases),
            "volumes_ml": {name: [round(float(ml), 2) for ml in values] for name, values in volumes.items()},
            "ed": pair and pair[0],
            "es": pair and pair[1],
            "ed_es_source": pair and (self.named.source if self.named else "found"),
            "function": function and function.to_dict(),
        }

    @cached_property
    def _hearts(self) -> np.ndarray:
        """uint8 (x, y, Z, phases): the masks of ``phases`` as stacks, in plane as far as any of them holds a structure."""
        masks = [to_stack(self.mask[..., t], self.axis) for t in self.phases]
        boxes = [box for mask in masks if (box := Box.around(mask)) is not None]
        part = Box.union(boxes).in_plane.slices if boxes else (slice(0, 1), slice(0, 1))
        return np.stack([mask[part] for mask in masks], -1)


def _join(predictions: tuple[Prediction, ...]) -> Prediction:
    """What the ``predictions`` of several phases say together: boxes hold all boxes, shares are means, and times are sums."""
    first, count = predictions[0], len(predictions)
    sources = [each.box_source for each in predictions]
    names = [list(getattr(first, what)) for what in ("kept_fraction", "latency_ms")]
    return replace(
        first,
        box=Box.union(each.box for each in predictions),
        box_source=max(sources, key=sources.count),
        kept_fraction={name: sum(each.kept_fraction.get(name, 1.0) for each in predictions) / count for name in names[0]},
        gflops=sum(each.gflops for each in predictions),
        gflops_dense=sum(each.gflops_dense for each in predictions),
        latency_ms={name: sum(each.latency_ms[name] for each in predictions) for name in names[1]},
    )
