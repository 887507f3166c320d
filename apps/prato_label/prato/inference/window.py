"""From the native voxel grid to the network's window and back: fixed in-plane resolution, centred on the prompt box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prato.data.resampling import resampled_size
from prato.models.checkpoint import Centre
from prato.prompts.box import Box

#: Context (pixels) that a window round the box's very middle shows beyond the box on each side at least.
_MARGIN = 8
#: Windows round boxes begin at multiples of so many pixels: a box that is moved a little stays in its window, and what the network made of
#: that before it looked at a box serves again. A window's middle is then at most half as far from the box's, and half of the margin stays.
STEP = 8
#: Share of the smaller one, in plane, that a drawn box and the proposed one have in common where the box holds heart. On 40 ACDC volumes
#: boxes round half of the heart had 84 % and more, and boxes beside it 53 % at most.
_BESIDE = 0.7


@dataclass(frozen=True)
class Window:
    """A square of ``size`` pixels cut from the in-plane resampled image, and its place on the native grid.

    Attributes:
        native: (X, Y), the image in voxels.
        resampled: (X', Y'), the image in pixels of the network's resolution.
        corner: first pixel of the window in the resampled image; may be negative (beyond the image lies -1, the darkest value).
        size: edge of the window in pixels.
    """

    native: tuple[int, int]
    resampled: tuple[int, int]
    corner: tuple[int, int]
    size: int

    @classmethod
    def from_centre(cls, box: Box, shape: tuple[int, ...], spacing: tuple[float, ...], pixel: float, size: int, step: int = 1) -> Window:
        """The window round the in-plane centre of ``box`` (voxels) of an image of ``shape`` and ``spacing`` (mm).

        Args:
            step: the window's corner is the nearest pixel whose indices are multiples of this.
        """
        resampled = resampled_size(shape, spacing, pixel)
        middle = [(a + b) / 2 * r / n for a, b, r, n in zip(box.start, box.stop, resampled, shape)]
        corner = [step * round((centre - size / 2) / step) for centre in middle]
        return cls((shape[0], shape[1]), resampled, (corner[0], corner[1]), size)

    @classmethod
    def for_boxes(
        cls,
        boxes: Sequence[Box],
        focus: Box,
        shape: tuple[int, ...],
        spacing: tuple[float, ...],
        pixel: float,
        size: int,
        centre: Centre,
    ) -> Window:
        """The window of ``size`` pixels round ``focus``.

        Args:
            boxes, focus: in voxels; the in-plane centre of ``focus`` is the window's, unless ``centre`` is "image". No box sticks out
                of the window for its place on the grid of :data:`STEP`.
            shape, spacing: of the image, in voxels and mm. pixel: of the window, in mm.
        """
        if centre == "image":
            return cls.from_centre(Box.whole(shape), shape, spacing, pixel, size)
        resampled = resampled_size(shape, spacing, pixel)
        sides = [(b - a) * r / n for box in (focus, *boxes) for a, b, r, n in zip(box.start, box.stop, resampled, shape)]
        return cls.from_centre(focus, shape, spacing, pixel, size, STEP if max(sides) + 2 * _MARGIN <= size else 1)

    def cut(self, resampled: Tensor) -> Tensor:
        """(K, X', Y') -> (K, size, size)."""
        out = resampled.new_full((resampled.shape[0], self.size, self.size), -1.0)
        source, target = [], []
        for corner, length in zip(self.corner, self.resampled):
            a, b = max(corner, 0), min(corner + self.size, length)
            source.append(slice(a, max(a, b)))
            target.append(slice(a - corner, max(a, b) - corner))
        out[:, target[0], target[1]] = resampled[:, source[0], source[1]]
        return out

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels a voxel."""
        return self.resampled[0] / self.native[0], self.resampled[1] / self.native[1]

    def to_native(self, maps: Tensor, mode: Literal["bilinear", "nearest"] = "bilinear") -> tuple[Tensor, tuple[slice, slice]]:
        """Window maps (K, C, size, size), read at the centres of the native voxels that lie in the window.

        Returns:
            (K, C, x, y), and the slices of the native grid that it belongs to.
        """
        extent, axes = [], []
        for corner, native, resampled in zip(self.corner, self.native, self.resampled):
            # the voxels whose centres lie inside
            edges = [np.ceil(edge * native / resampled - 0.5) for edge in (corner, corner + self.size)]
            first, last = (int(np.clip(edge, 0, native)) for edge in edges)
            extent.append(slice(first, last))
            centre = torch.arange(first, last, dtype=maps.dtype, device=maps.device) + 0.5
            axes.append(2.0 * (centre * resampled / native - corner) / self.size - 1.0)
        # grid_sample wants the last axis first
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1).expand(maps.shape[0], -1, -1, -1)
        return F.grid_sample(maps, grid, mode=mode, padding_mode="border", align_corners=False), (extent[0], extent[1])


def heart_beside(heart: Box, drawn: Box) -> Box | None:
    """The proposed box ``heart`` in the slices of the ``drawn`` one, where that was drawn beside it; None where it was not."""
    shared = heart.in_plane.intersection(drawn.in_plane)
    if shared and shared.voxels >= _BESIDE * min(heart.in_plane.voxels, drawn.in_plane.voxels):
        return None
    return heart.intersection(Box((*heart.start[:2], drawn.start[2]), (*heart.stop[:2], drawn.stop[2])))
