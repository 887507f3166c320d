"""A test case as every network is shown it, and the way back to the grid that it is scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prato.box import Box
from prato.box_conditions import BoxCondition, conditioned_box

#: Draws the boxes at evaluation, which are the same for all seeds of training.
_BOX_SEED = 0


@dataclass(frozen=True)
class TestCase:
    """Slices of one volume, or one image.

    Attributes:
        case, patient: names; an image is its own patient.
        image: float32 (K, 3, edge, edge).
        box: (2, 2), start and stop in pixels of ``image``, the same on all slices.
        truth: uint8 (X, Y, Z) or (X, Y), on the grid that is scored. spacing: of its voxels, in mm (ISIC: pixels).
        structures: name -> value.
        native: predicted classes' maps (K, C, edge, edge) -> mask on the grid of ``truth``.
        picture: a mask on that grid -> (edge', edge') of the middle slice, for figures; and that slice in grey, and the box in it.
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


def drawn_box(name: str, truth: np.ndarray, condition: str) -> Box:
    """The box that ``condition`` gives round the structures of ``truth``; it hangs on both and the case's ``name`` alone."""
    tight = Box.around(truth > 0)
    assert tight is not None
    seed = hashlib.sha256(f"{_BOX_SEED}:{condition}:{name}".encode()).digest()[:8]
    box = conditioned_box(tight, truth.shape, BoxCondition(condition), np.random.default_rng(int.from_bytes(seed, "big")))
    assert box is not None
    return box


def boxed_view(slices: Tensor, start: np.ndarray, stop: np.ndarray, edge: int) -> Tensor:
    """The part of ``slices`` (K, C, X, Y) between ``start`` and ``stop`` (pixels), stretched to (K, C, edge, edge).

    As training's samples are made: bilinear, and -1 beyond the image.
    """
    size = np.maximum(stop - start, 1.0)
    axes = [
        2.0 * (s + (np.arange(edge) + 0.5) * length / edge) / n - 1.0
        for s, length, n in zip((start + stop - size) / 2, size, slices.shape[2:])
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij")[::-1], -1)
    sampled = torch.from_numpy(grid).float().expand(len(slices), -1, -1, -1)
    return F.grid_sample(slices + 1, sampled, mode="bilinear", padding_mode="zeros", align_corners=False) - 1


def filling(edge: int) -> np.ndarray:
    """The box (2, 2) that fills an image of ``edge`` pixels."""
    return np.array([[0.0, 0.0], [edge, edge]])


def unboxed(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (K, C, edge, edge) of a stretched box, at the (K, C, *size) voxels of that box."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
