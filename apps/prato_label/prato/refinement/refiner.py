"""Masks corrected where a labeller clicks: what is near the click is computed anew, and all else stays as it is, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prato.data.structures import NUM_CLASSES
from prato.inference.image_stack import ImageStack
from prato.inference.native_grid import interpolation_matrix
from prato.inference.scores import Scores
from prato.inference.stack_slices import seen_beside
from prato.inference.window import Window
from prato.models.checkpoint import CheckpointError, ModelSpec, channels_last, load_model
from prato.prompts.box import Box
from prato.prompts.clicks import Stroke
from prato.prompts.mask_prompt import MaskPrompt
from prato.refinement.refiner_input import RIM, TRUST, fading, keep_touching, refiner_input
from prato.runtime.fused_conv_bn import fuse_batch_norms
from prato.runtime.precision import inference

#: Voxels round a stroke: parts of the change that come nowhere so near are none that it asked for.
REACH = 4.0
#: What the mask so far counts where somebody has just clicked, in logits: less than in training, where the refiner has learned to change
#: hardly anything of which it is not sure. Chosen on twelve validation patients that docs/clicks.md does not report.
BOLD = 2.0
#: Edge of the crop, in pixels, in which a slice without strokes is computed: a whole heart.
WHOLE_HEART = 128


@dataclass(frozen=True)
class Refinement:
    """A corrected mask.

    Attributes:
        mask: uint8 (X, Y, Z) on the image's own grid.
        box: all that may have changed; None where nothing may. changed: how many voxels have.
    """

    mask: np.ndarray
    box: Box | None
    changed: int


class Refiner:
    """Corrects masks on ``device``, whichever network they come from.

    Args:
        network, spec, version: as :func:`prato.models.checkpoint.load_model` gives them.
    """

    def __init__(self, network: Any, spec: ModelSpec, version: str, device: torch.device) -> None:
        self.spec, self.version, self.device = spec, version, device
        self._network = channels_last(fuse_batch_norms(network.to(device)))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], device: str = "cpu") -> Refiner:
        """The refiner of a model file.

        Raises:
            CheckpointError: the file cannot be used, or holds another kind of network.
        """
        network, spec, version = load_model(path)
        if spec.network != "click_refiner":
            raise CheckpointError(f"{Path(path).name} holds a network of the kind {spec.network}, which corrects no mask.")
        return cls(network, spec, version, torch.device(device))

    def refine(
        self,
        image: ImageStack,
        previous: MaskPrompt,
        strokes: Sequence[Stroke],
        done: int = 0,
        scores: Scores | None = None,
    ) -> Refinement:
        """The mask of ``previous`` corrected where ``strokes`` say so, one after the other.

        Args:
            previous: in voxels of the stored image; it is not changed. What is certain no change may touch but a stroke on it.
            strokes: in voxels of the stored image, on one slice each, oldest first. done: so many of them ``previous`` knows already: they
                are shown, and stay true.
            scores: what the network that made the first mask thought of ``image``; None where nobody knows.
        """
        scene = _Scene(image, previous, strokes, scores)
        for number in range(done, len(strokes)):
            for part in _pieces(scene.strokes[number].points, self._span(image)):
                self._apply(scene, number, part)
        return scene.result()

    def propagate(
        self,
        image: ImageStack,
        previous: MaskPrompt,
        strokes: Sequence[Stroke] = (),
        scores: Scores | None = None,
    ) -> Refinement:
        """The mask of ``previous`` with the slices of its ``propagate_to`` computed anew from what is right beside them, the nearest first;
        slices that are right stay.

        Args:
            strokes: of all slices; they stay true. Others as for :meth:`refine`.
        """
        scene = _Scene(image, previous, strokes, scores)
        right, settled = scene.right, set(scene.right)
        for k in sorted(
            set(image.renumber_slices(previous.propagate_to)) - settled, key=lambda k: (min((abs(k - r) for r in right), default=0), k)
        ):
            beside = [n for n in (k - 1, k + 1) if n in settled]
            if not beside:
                continue
            heart = np.argwhere(np.any([scene.mask[:, :, n] > 0 for n in (*beside, k)], axis=0))
            if len(heart):
                self._renew(scene, k, (heart.min(0) + heart.max(0) + 1) / 2, settled)
                settled.add(k)
        return scene.result()

    def _apply(self, scene: _Scene, number: int, points: np.ndarray) -> None:
        """A stroke, or a piece of it."""
        stroke, k = scene.strokes[number], int(points[0, 2])
        places, before = points[:, :2], scene.mask[:, :, k]
        if not (before[tuple(places.T)] != stroke.structure).any():
            return  # it says what is there already
        known = [(each.structure, each.points[:, :2]) for each in scene.strokes[: number + 1] if each.points[0, 2] == k]
        middle = (places.min(0) + places.max(0) + 1) / 2
        after, voxels = self._look(scene, k, middle, self.spec.window, known, places, scene.right)
        whole = before.copy()
        whole[voxels] = after
        scene.write(k, voxels, keep_touching(before, whole, places, REACH), number + 1)

    def _renew(self, scene: _Scene, k: int, middle: np.ndarray, settled: set[int]) -> None:
        """A slice without a new stroke, from its neighbours."""
        known = [(each.structure, each.points[:, :2]) for each in scene.strokes if each.points[0, 2] == k]
        after, voxels = self._look(scene, k, middle, WHOLE_HEART, known, None, settled)
        whole = scene.mask[:, :, k].copy()
        whole[voxels] = after
        scene.write(k, voxels, whole, len(scene.strokes))

    def _look(
        self,
        scene: _Scene,
        k: int,
        middle: np.ndarray,
        edge: int,
        known: list[tuple[int, np.ndarray]],
        newest: np.ndarray | None,
        settled: Collection[int],
    ) -> tuple[np.ndarray, tuple[slice, slice]]:
        """The mask of the crop of ``edge`` pixels round ``middle`` (voxels), and which voxels of the slice these are."""
        slices = scene.image.slices(self.spec.pixel)
        native, pixels = (scene.mask.shape[0], scene.mask.shape[1]), (slices.shape[1], slices.shape[2])
        scale = np.array(pixels) / native
        corner = np.round(middle * scale - edge / 2).astype(int)
        window = Window(native, pixels, (int(corner[0]), int(corner[1])), edge)
        seen = seen_beside(scene.image, [k])
        row = seen.index(k)
        before, after = seen[max(row - 1, 0)], seen[min(row + 1, len(seen) - 1)]
        to_pixels = _Grid(native, pixels, window.corner, edge)
        others = [to_pixels.cut(scene.mask[:, :, n]) if n in settled and n != k else None for n in (before, after)]
        inputs = refiner_input(
            window.cut(slices[[before, k, after]]).numpy(),
            to_pixels.cut(scene.mask[:, :, k]),
            [(value, to_pixels.places(at)) for value, at in known],
            None if newest is None else (known[-1][0], to_pixels.places(newest)),
            to_pixels.cut(scene.certain[:, :, k]) if scene.certain is not None else np.zeros((edge, edge), bool),
            others,
            None if scene.scores is None else scene.scores.cut(k, window.corner, edge, pixels),
        )
        with inference(self.device):
            change = self._network(torch.from_numpy(inputs)[None].to(self.device)).float().cpu()
        change = torch.nan_to_num(change, nan=0.0) * torch.from_numpy(fading((edge, edge)))
        added, voxels = _at_voxels(change[0], window)
        there = np.arange(NUM_CLASSES)[:, None, None] == scene.mask[:, :, k][voxels]
        trust = TRUST if newest is None else BOLD
        return (trust * there + added.numpy()).argmax(0).astype(np.uint8), voxels

    def _span(self, image: ImageStack) -> np.ndarray:
        """Voxels along both axes that a piece of a scribble may reach, so that a crop shows room round it."""
        slices = image.slices(self.spec.pixel)
        scale = np.array(slices.shape[1:]) / image.volume.array.shape[:2]
        return np.asarray((self.spec.window / 2 - RIM) / scale)


class _Scene:
    """A mask on its way, as a stack of slices; what is asked for in voxels of the stack."""

    def __init__(self, image: ImageStack, previous: MaskPrompt, strokes: Sequence[Stroke], scores: Scores | None) -> None:
        self.image, self.right, self.scores = image, set(image.renumber_slices(previous.right)), scores
        self.strokes = [stroke.rearrange(*image.order) for stroke in strokes]
        self._before = image.to_stack(previous.mask)
        self.mask = self._before.copy()
        self.certain = None if previous.certain is None else image.to_stack(previous.certain)
        self._boxes: list[Box] = []

    def write(self, k: int, voxels: tuple[slice, slice], after: np.ndarray, strokes: int) -> None:
        """Slice ``k`` becomes ``after``, uint8 (X, Y), but for what is certain and what the first ``strokes`` say."""
        if self.certain is not None:
            after = np.where(self.certain[:, :, k], self.mask[:, :, k], after)
        boxes = [Box((voxels[0].start, voxels[1].start, k), (voxels[0].stop, voxels[1].stop, k + 1))]
        for stroke in self.strokes[:strokes]:
            if stroke.points[0, 2] == k:
                at = stroke.points[:, :2]
                after[tuple(at.T)] = stroke.structure
                boxes.append(Box((*at.min(0).tolist(), k), (*(at.max(0) + 1).tolist(), k + 1)))
        self.mask[:, :, k] = after
        self._boxes += boxes

    def result(self) -> Refinement:
        """What has come of it."""
        box = self.image.stored_box(Box.union(self._boxes)) if self._boxes else None
        changed = int(np.count_nonzero(self.mask != self._before))
        return Refinement(self.image.to_stored(self.mask), box, changed)


class _Grid:
    """From voxels of a slice to pixels of a crop, each pixel as the voxel that its middle lies in."""

    def __init__(self, native: tuple[int, int], pixels: tuple[int, int], corner: tuple[int, int], edge: int) -> None:
        self._scale, self._corner = np.array(pixels) / native, np.array(corner)
        at = [np.floor((np.arange(edge) + start + 0.5) * n / size).astype(int) for n, size, start in zip(native, pixels, corner)]
        self._at = [line.clip(0, n - 1) for line, n in zip(at, native)]
        self._beyond = [(line < 0) | (line >= n) for line, n in zip(at, native)]

    def cut(self, mask: np.ndarray) -> np.ndarray:
        """``mask`` (X, Y) in the crop; 0 beyond the image."""
        part = mask[np.ix_(*self._at)]
        part[self._beyond[0]] = 0
        part[:, self._beyond[1]] = 0
        return np.asarray(part)

    def places(self, voxels: np.ndarray) -> np.ndarray:
        """The pixels that the middles of ``voxels`` int (n, 2) lie in."""
        return np.asarray(np.floor((voxels + 0.5) * self._scale).astype(int) - self._corner)


def _at_voxels(change: Tensor, window: Window) -> tuple[Tensor, tuple[slice, slice]]:
    """``change`` (C, edge, edge), read at the middles of the voxels in the window, and which voxels these are."""
    bounds = [(max(a, 0), min(a + window.size, n)) for a, n in zip(window.corner, window.resampled)]
    (rows, x), (columns, y) = (
        interpolation_matrix(voxels, size, low, high) for voxels, size, (low, high) in zip(window.native, window.resampled, bounds)
    )
    inside = tuple(slice(low - a, high - a) for a, (low, high) in zip(window.corner, bounds))
    return rows @ change[(slice(None), *inside)] @ columns.T, (x, y)


def _pieces(points: np.ndarray, span: np.ndarray) -> list[np.ndarray]:
    """``points`` in groups that reach no farther than ``span`` voxels along both axes."""
    reach = np.ptp(points[:, :2], axis=0) - span
    axis = int(reach.argmax())
    if reach[axis] <= 0:
        return [points]
    middle = (points[:, axis].min() + points[:, axis].max()) / 2
    low = points[:, axis] <= middle
    return [*_pieces(points[low], span), *_pieces(points[~low], span)]
