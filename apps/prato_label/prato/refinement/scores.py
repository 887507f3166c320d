"""What a network thought of each pixel before it decided: where it hesitated, a click tips the scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prato.data.structures import BACKGROUND, NUM_CLASSES
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
        """Of no slice."""
        return cls(np.zeros((0, NUM_CLASSES, 0, 0), np.uint8), Region.whole((0, 0)), (0, 0), ())

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return int(self.values.nbytes)

    def cut(self, k: int, corner: tuple[int, int], edge: int, pixels: tuple[int, ...]) -> np.ndarray:
        """float32 (classes, edge, edge) in 0..1: slice ``k``, of ``pixels`` rows and columns as a whole, from pixel ``corner`` on.

        Where its pixels are others than the network's, scores are read between these. All is background where nothing was computed.
        """
        out = np.zeros((NUM_CLASSES, edge, edge), np.float32)
        out[BACKGROUND] = 1
        if k not in self.planes:
            return out
        part, inside = self.values[self.planes.index(k)] / np.float32(255), []
        for axis, (low, whole, own) in enumerate(zip(corner, pixels, self.pixels), start=1):
            start, stop = self.region.start[axis - 1], self.region.stop[axis - 1]
            at = (low + np.arange(edge) + 0.5) * (own / whole) - 0.5
            below = np.floor(at).astype(int)
            share = (at - below).astype(np.float32).reshape(-1, *(1,) * (2 - axis))
            first, second = (np.take(part, (n - start).clip(0, stop - start - 1), axis) for n in (below, below + 1))
            part = first + share * (second - first)
            nearest = np.floor(at + 0.5).astype(int)
            inside.append((nearest >= start) & (nearest < stop))
        return np.where(inside[0][:, None] & inside[1][None], part, out)
