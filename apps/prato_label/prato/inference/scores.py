"""What a network thought of each pixel before it decided: where it hesitated, a click tips the scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prato.data.structures import BACKGROUND, NUM_CLASSES
from prato.inference.native_grid import interpolation_matrix
from prato.runtime.region import Region

#: Logits below the largest that are told apart.
_DEPTH = 8.0


def quantise(logits: Tensor) -> Tensor:
    """uint8, of the same shape: ``logits`` (K, classes, h, w), 255 for the largest of a pixel and 0 for those far below it."""
    below = (logits - logits.amax(1, keepdim=True)).clamp_min(-_DEPTH)
    return (below * (255 / _DEPTH) + 255).round().to(torch.uint8)


@dataclass(frozen=True)
class Scores:
    """Scores of slices of an image.

    Attributes:
        values: uint8 (K, classes, h, w), as :func:`quantise` has them, in ``region`` of the network's input.
        pixels: rows and columns of a whole slice at the network's resolution. planes: the slices of the image that these are.
    """

    values: np.ndarray
    region: Region
    pixels: tuple[int, ...]
    planes: tuple[int, ...]

    @classmethod
    def nothing(cls) -> Scores:
        """Scores of no slice."""
        return cls(np.zeros((0, NUM_CLASSES, 0, 0), np.uint8), Region.whole((0, 0)), (0, 0), ())

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return int(self.values.nbytes)

    @property
    def heart_slices(self) -> set[int]:
        """The slices of the image in which a structure scores highest anywhere."""
        return {k for k, values in zip(self.planes, self.values) if (values.argmax(0) != BACKGROUND).any()}

    def cut(self, k: int, corner: tuple[int, int], edge: int, pixels: tuple[int, ...]) -> np.ndarray:
        """float32 (classes, edge, edge) in 0..1: slice ``k``, of ``pixels`` rows and columns as a whole, from pixel ``corner`` on.

        Where its pixels are others than the network's, scores are read between these. All is background where nothing was computed.
        """
        out = np.zeros((NUM_CLASSES, edge, edge), np.float32)
        out[BACKGROUND] = 1
        if k not in self.planes:
            return out
        (rows, i), (columns, j) = (self._reader(axis, pixels[axis], corner[axis], edge) for axis in (0, 1))
        values = torch.from_numpy(self.values[self.planes.index(k)])[:, : rows.shape[1], : columns.shape[1]]
        out[:, i, j] = (rows @ (values.float() / 255) @ columns.T).numpy()
        return out

    def _reader(self, axis: int, whole: int, corner: int, edge: int) -> tuple[Tensor, slice]:
        """What reads ``edge`` pixels of ``whole`` from ``corner`` on, along one axis, as a matrix, and which of them lie in the region."""
        own = self.pixels[axis]
        matrix, there = interpolation_matrix(whole, own, self.region.start[axis], min(self.region.stop[axis], own))
        first, stop = max(corner, there.start), max(corner, there.start, min(corner + edge, there.stop))
        return matrix[first - there.start : stop - there.start], slice(first - corner, stop - corner)
