"""A test case as every network is shown it, and the way back to the grid that it is scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prato.evaluation.box_conditions import BoxCondition, conditioned_box
from prato.prompts.box import Box

#: Draws the boxes at evaluation, which are the same for all seeds of training.
_BOX_SEED = 0


@dataclass(frozen=True)
class View:
    """The part of slices that a network sees: from ``start`` to ``stop`` (each (2,), pixels), stretched to ``edge`` pixels."""

    start: np.ndarray
    stop: np.ndarray
    edge: int

    @classmethod
    def of(cls, box: np.ndarray, boxes: float, edge: int) -> View:
        """``boxes`` times as long as ``box`` (2, 2), start and stop, and with the same middle."""
        middle, half = box.mean(0), boxes * np.maximum(box[1] - box[0], 1.0) / 2
        return cls(middle - half, middle + half, edge)

    def scaled(self, scale: np.ndarray) -> View:
        """On a grid with ``scale`` (2,) times as many pixels."""
        return View(self.start * scale, self.stop * scale, self.edge)

    def inside(self, box: np.ndarray) -> np.ndarray:
        """``box`` (2, 2) in pixels of the stretched view."""
        return (box - self.start) * self.edge / (self.stop - self.start)

    def cut(self, slices: Tensor) -> Tensor:
        """``slices`` (K, C, X, Y) -> (K, C, edge, edge), as training's samples are made: bilinear, and -1 beyond the image."""
        places = self.start + (np.arange(self.edge) + 0.5)[:, None] * (self.stop - self.start) / self.edge
        grid = np.stack(np.meshgrid(*(2.0 * places / slices.shape[2:] - 1.0).T, indexing="ij")[::-1], -1)
        sampled = torch.from_numpy(grid).float().expand(len(slices), -1, -1, -1)
        return F.grid_sample(slices + 1, sampled, mode="bilinear", padding_mode="zeros", align_corners=False) - 1

    def back(self, maps: Tensor, shape: Sequence[int]) -> tuple[Tensor, tuple[slice, slice]]:
        """Maps (K, C, edge, edge) at the pixels of a ``shape`` grid whose middles are in view, and which pixels these are."""
        first = np.clip(np.ceil(self.start - 0.5), 0, shape).astype(int)
        after = np.clip(np.ceil(self.stop - 0.5), first, shape).astype(int)
        axes = [2.0 * (np.arange(a, b) + 0.5 - s) / (e - s) - 1.0 for a, b, s, e in zip(first, after, self.start, self.stop)]
        grid = torch.from_numpy(np.stack(np.meshgrid(*axes, indexing="ij")[::-1], -1)).float().expand(len(maps), -1, -1, -1)
        values = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return values, (slice(first[0], after[0]), slice(first[1], after[1]))


@dataclass(frozen=True)
class EvalCase:
    """Slices of one volume, or one image.

    Attributes:
        case, patient: names; an image is its own patient.
        image: float32 (K, 3, edge, edge).
        box: (2, 2), start and stop in pixels of ``image``, the same on all slices.
        truth: uint8 (X, Y, Z) or (X, Y), on the grid that is scored. spacing: of its voxels, in mm (ISIC: pixels).
        structures: name -> value.
        native: predicted classes' maps (K, C, edge, edge) -> mask on the grid of ``truth``.
        picture: a mask on that grid -> (edge', edge') of the middle slice, for figures; and that slice in grey, and the box in it.
        view: the part of that picture that ``image`` shows; None for all of it.
    """

    __test__ = False  # no test of pytest's

    case: str
    patient: str
    image: Tensor
    box: np.ndarray
    truth: np.ndarray
    spacing: tuple[float, ...]
    structures: Mapping[str, int]
    native: Callable[[Tensor], np.ndarray]
    picture: Callable[[np.ndarray], np.ndarray]
    grey: np.ndarray
    grey_box: np.ndarray
    view: View | None = None


def drawn_box(name: str, truth: np.ndarray, condition: str) -> Box:
    """The box that ``condition`` gives round the structures of ``truth``; it hangs on both and the case's ``name`` alone."""
    tight = Box.around(truth > 0)
    assert tight is not None
    seed = hashlib.sha256(f"{_BOX_SEED}:{condition}:{name}".encode()).digest()[:8]
    box = conditioned_box(tight, truth.shape, BoxCondition(condition), np.random.default_rng(int.from_bytes(seed, "big")))
    assert box is not None
    return box
