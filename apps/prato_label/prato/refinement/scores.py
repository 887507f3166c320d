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
        planes: the slices of the image that these are.
    """

    values: np.ndarray
    region: Region
    planes: tuple[int, ...]

    @classmethod
    def nothing(cls) -> Scores:
        """Of no slice."""
        return cls(np.zeros((0, NUM_CLASSES, 0, 0), np.uint8), Region.whole((0, 0)), ())

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return int(self.values.nbytes)

    def cut(self, k: int, corner: tuple[int, int], edge: int) -> np.ndarray:
        """float32 (classes, edge, edge) in 0..1: slice ``k`` from pixel ``corner`` on; all is background where nothing was computed."""
        out = np.zeros((NUM_CLASSES, edge, edge), np.float32)
        out[BACKGROUND] = 1
        if k not in self.planes:
            return out
        source, target = [], []
        for low, start, stop in zip(corner, self.region.start, self.region.stop):
            a, b = max(low, start), min(low + edge, stop)
            source.append(slice(a - start, max(a, b) - start))
            target.append(slice(a - low, max(a, b) - low))
        if all(part.stop > part.start for part in target):
            out[(slice(None), *target)] = self.values[self.planes.index(k)][(slice(None), *source)] / np.float32(255)
        return out
