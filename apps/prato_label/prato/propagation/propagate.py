"""Carries what a labeller corrected in some phases of a cine to the others.

The keys are the phases that somebody corrected. In each the difference between the corrected mask and the network's is a *correction*, in
mm by which every contour has to move. It moves with the heart to the other phases, from the key before and the key after, round the
cycle, and is added to the network's own mask there. How much of it is worth that far away the keys themselves tell, by how well each
follows the others. docs/cines.md says what was compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from prato.data.cine import Cine
from prato.data.distances import signed_distances
from prato.data.resampling import resample_in_plane, resampled_size
from prato.data.stack import from_stack, stack_axes, to_stack
from prato.data.structures import NUM_CLASSES, STRUCTURES
from prato.inference.postprocess import remove_small_components
from prato.inference.prediction import CinePrediction
from prato.prompts.box import Box
from prato.propagation.motion import compose, invert, pull, register
from prato.runtime.cancel_token import NEVER_CANCELLED, CancelToken

#: mm beyond which it does not matter how far a contour is.
REACH_MM = 10.0
#: Pixel at which phases are registered, in mm.
_PIXEL = 1.5
#: Seen beyond the heart, in mm.
_MARGIN_MM = 15.0
#: Distance in cycles from which a key is far away: end-systole is so far from end-diastole.
_FAR = 1 / 3
#: Share of the network's own mask in a phase beside a key.
_OWN_BESIDE = 0.5
#: Share of the larger of two areas of a structure from which both are about as large.
_ALIKE = 0.5
#: Share of the slices in which structures have to be added or removed from which the network is no good with these images at all.
_HOPELESS = 0.5


@dataclass(frozen=True)
class CorrectedPhases:
    """What labellers drew in a cine; masks are uint8 (X, Y, Z) on its own grid, by phase.

    Attributes:
        keys: those that the others are to follow, at least one, each with a structure.
        kept: those that neither follow nor are followed.
        version: of the label that holds them; None where nothing is stored.
    """

    keys: Mapping[int, np.ndarray]
    kept: Mapping[int, np.ndarray] = field(default_factory=dict)
    version: int | None = None

    def reply(self, count: int) -> dict[str, Any]:
        """What the reply says of them, of ``count`` phases."""
        filled = [t for t in range(count) if t not in self.keys and t not in self.kept]
        return {"keys": sorted(self.keys), "filled": filled, "kept": sorted(self.kept), "label_version": self.version}


def propagate(
    cine: Cine,
    prediction: CinePrediction,
    corrected: CorrectedPhases,
    *,
    token: CancelToken = NEVER_CANCELLED,
    report: Callable[[int], object] = lambda done: None,
) -> CinePrediction:
    """``prediction``, of all phases of ``cine``, whose masks follow those that were ``corrected``; these are in it as they are.

    Args:
        report: called with the number of phases that are done.

    Raises:
        VolumeError: a phase cannot be read.
        CancelledError: ``token`` was cancelled.
    """
    axis, count = prediction.axis, len(cine)
    spacing = tuple(prediction.spacing[a] for a in stack_axes(axis)[:2])
    follower = Propagation(
        np.stack([to_stack(prediction.mask[..., t], axis) for t in range(count)], -1),
        {t: to_stack(mask, axis) for t, mask in corrected.keys.items()},
        (spacing[0], spacing[1]),
    )
    motion = follower.find_motion(lambda t: to_stack(cine.phase(t).array, axis), report, token)
    trust = follower.choose_trust(motion)
    mask = prediction.mask.copy(order="F")
    for t, moved in follower.move(motion):
        token.raise_if_cancelled()
        mask[..., t] = from_stack(follower.mask(t, moved, trust), axis)
    for t, drawn in [*corrected.keys.items(), *corrected.kept.items()]:
        mask[..., t] = drawn
    return prediction.with_mask(mask)


@dataclass(frozen=True)
class Moved:
    """What the key before and the key after say of a phase, which may be the same one, from both sides of the cycle.

    Attributes:
        distances: in time, in cycles.
        depths: float32 (2 * NUM_CLASSES, Z, H, W), as of ``signed_distances``: of the corrected mask, then of the network's, as they moved.
    """

    distances: tuple[float, float]
    depths: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Trust:
    """What is left of a key a third of a cycle and more away from it, and the less the nearer.

    Attributes:
        loss_mm: by so much every correction has become smaller: small ones are one drawing's chance, not the network's habit.
        own: share of the network's own mask of a phase, beside its masks of the keys as they moved.
    """

    loss_mm: float
    own: float


@dataclass(frozen=True)
class Motion:
    """For each phase t of a cycle, where a pixel of phase t + 1 is found in t (``ahead``), and where one of t is found in t + 1 (``back``):
    displacements as of ``register``."""

    ahead: Sequence[np.ndarray]
    back: Sequence[np.ndarray]


#: From the most careful.
_TRUSTS = tuple(Trust(loss_mm, own) for loss_mm in (3.0, 2.0, 1.0, 0.0) for own in (1.0, 0.5, 0.25))
#: Keys that are asked at most how far the others are to be trusted.
_JUDGES = 4


class Propagation:
    """Masks of a cine that follow those of its keys.

    Args:
        predicted: uint8 (X, Y, Z, T), by the network, slices along Z.
        keys: uint8 (X, Y, Z) by phase, as they were corrected; at least one, and a structure in each.
        spacing: of a voxel in mm along X and Y.
    """

    def __init__(self, predicted: np.ndarray, keys: Mapping[int, np.ndarray], spacing: tuple[float, float]) -> None:
        self.predicted, self.keys, self.spacing = predicted, dict(sorted(keys.items())), spacing
        heart = (predicted > 0).any(-1)
        for mask in keys.values():
            heart |= mask > 0
        around = Box.around(heart)
        assert around is not None
        margins = [round(_MARGIN_MM / mm) for mm in spacing]
        self.part = tuple(slice(max(a - m, 0), b + m) for a, b, m in zip(around.start[:2], around.stop[:2], margins))
        self._shape = predicted[self.part].shape
        self.size = resampled_size(self._shape, spacing, _PIXEL)

    def find_motion(
        self,
        frame: Callable[[int], np.ndarray],
        report: Callable[[int], object] = lambda done: None,
        token: CancelToken = NEVER_CANCELLED,
    ) -> Motion:
        """How the heart moves from each phase to the next, and from the last to the first.

        Args:
            frame: gives the grey values of a phase, (X, Y, Z).

        Raises:
            CancelledError: ``token`` was cancelled.
        """
        count = self.predicted.shape[3]
        frames = [self._to_pixels(frame(t)) for t in range(count)]
        ahead, back = [], []
        for t in range(count):
            token.raise_if_cancelled()
            ahead.append(register(frames[(t + 1) % count], frames[t]))
            back.append(invert(ahead[-1]))
            report(t + 1)
        return Motion(ahead, back)

    def move(self, motion: Motion, left_out: int | None = None) -> Iterator[tuple[int, Moved]]:
        """What the keys, but for one that is ``left_out``, say of each phase that is none, one after the other."""
        count, numbers = self.predicted.shape[3], [key for key in self.keys if key != left_out]
        depths = {key: self._key_depths(key) for key in numbers}
        for before, after in zip(numbers, [*numbers[1:], numbers[0] + count]):
            between = range(before + 1, after)
            ways = [motion.ahead[t % count] for t in range(before, after - 1)]  # of each phase between, to the one before it
            from_before = [pull(depths[before], way) for way in accumulate(ways, lambda way, step: compose(step, way))]
            ways = [motion.back[t % count] for t in reversed(between)]  # to the one after it
            from_after = (pull(depths[after % count], way) for way in accumulate(ways, lambda way, step: compose(step, way)))
            for t, later in zip(reversed(between), from_after):
                yield t % count, Moved(((t - before) / count, (after - t) / count), (from_before.pop(), later))

    def choose_trust(self, motion: Motion) -> Trust:
        """What would have left least to correct in each key, had it followed the other ones; with a single key, what does no harm."""
        best = _TRUSTS[0]
        if len(self.keys) == 1:
            return best
        seen = {key: next(moved for t, moved in self.move(motion, left_out=key) if t == key) for key in [*self.keys][:_JUDGES]}

        def left(trust: Trust) -> int:
            return sum(np.count_nonzero(self.mask(key, moved, trust) != self.keys[key]) for key, moved in seen.items())

        return min(_TRUSTS, key=left)

    def _to_pixels(self, frame: np.ndarray) -> np.ndarray:
        """The grey values ``frame`` (X, Y, Z) round the heart, float32 (Z, H, W) of mean 0 and standard deviation 1."""
        planes = torch.from_numpy(frame[self.part].astype(np.float32)).permute(2, 0, 1)
        small = resample_in_plane(planes, self.size).numpy()
        low, high = np.percentile(small, (1, 99))
        small = small.clip(low, high)
        return (small - small.mean()) / max(float(small.std()), 1e-6)

    def _key_depths(self, key: int) -> np.ndarray:
        """float32 (2 * NUM_CLASSES, Z, H, W): depths in the corrected mask of ``key``, then in the predicted one."""
        both = [self.keys[key][self.part], self.predicted[..., key][self.part]]
        depths = np.concatenate([signed_distances(mask, self.spacing, REACH_MM) for mask in both])
        planes = torch.from_numpy(depths).permute(0, 3, 1, 2)
        return np.stack([resample_in_plane(each, self.size).numpy() for each in planes])

    def to_voxels(self, planes: np.ndarray) -> np.ndarray:
        """(C, Z, H, W) as (C, X', Y', Z)."""
        size = (self._shape[0], self._shape[1])
        return np.stack([resample_in_plane(torch.from_numpy(each), size).numpy() for each in planes]).transpose(0, 2, 3, 1)

    def mask(self, t: int, moved: Moved, trust: Trust) -> np.ndarray:
        """uint8 (X, Y, Z) of phase ``t``.

        In a slice that the valve plane or the apex passes between a key and the phase, or that the labeller gave or took a structure, what
        was corrected says nothing of phases that are far away: motion in plane does not show what moves through it.
        """
        found = self.predicted[..., t].copy()
        here = found[self.part]
        own_areas = _areas(here, self._shape[0] * self._shape[1])
        correction, predicted = (np.zeros_like(moved.depths[0][:NUM_CLASSES]) for _ in range(2))
        for distance, depths, other in zip(moved.distances, moved.depths, reversed(moved.distances)):
            weight, far = other / sum(moved.distances), min(distance / _FAR, 1.0)
            drawn, seen = depths[:NUM_CLASSES], depths[NUM_CLASSES:]
            areas = [_areas(np.moveaxis(each.argmax(0), 0, 2), self.size[0] * self.size[1]) for each in (drawn, seen)]
            gained = _differ(*areas)
            if gained.sum() > _HOPELESS * areas[0].any(0).sum():
                gained[:] = False
            moves = np.where(_differ(own_areas, areas[1]) | gained, max(1 - 2 * far, 0.0), 1.0).astype(np.float32)[:, None, None]
            correction = correction + weight * moves * _shrink(drawn - seen, trust.loss_mm * far)
            predicted = predicted + weight * seen
        near = 1 - min(min(moved.distances) / _FAR, 1.0)
        passes = _differ(own_areas, _areas(np.moveaxis(predicted.argmax(0), 0, 2), self.size[0] * self.size[1]))
        own = np.where(passes, 1.0, trust.own + (_OWN_BESIDE - trust.own) * near).astype(np.float32)
        depths = own * signed_distances(here, self.spacing, REACH_MM) + (1 - own) * self.to_voxels(predicted)
        found[self.part] = (depths + self.to_voxels(correction)).argmax(0).astype(np.uint8)
        return remove_small_components(found)


def _shrink(change: np.ndarray, loss_mm: float) -> np.ndarray:
    """``change`` without what is smaller than ``loss_mm``, and what is far larger nearly as it is (Breiman's non-negative garrote)."""
    return change * np.maximum(1 - (loss_mm / np.maximum(np.abs(change), 1e-6)) ** 2, 0) if loss_mm else change


def _areas(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Of each structure in each slice of ``mask`` (X, Y, Z), as a share of its ``pixels``: (structures, Z)."""
    return np.stack([(mask == value).sum((0, 1)) for value in STRUCTURES.values()]) / pixels


def _differ(areas: np.ndarray, others: np.ndarray) -> np.ndarray:
    """bool (Z,): whether a structure has a far larger area in one than in the other."""
    return (np.minimum(areas, others) < _ALIKE * np.maximum(areas, others)).any(0)
