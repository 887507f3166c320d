"""The slices of a study side by side in one picture, and the contours of its structures on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from contourpy import contour_generator
from PIL import Image

from prato.data.nifti import Volume
from prato.data.structures import STRUCTURES
from prato.data.view import View, radiological_view

#: Slices in a picture, at most; of more, evenly spaced ones are shown.
_SLICES = 30
#: Pixels: width of a picture, and the edges that a slice may have in it.
_WIDTH, _EDGES = 1000, (60, 400)
#: Pixels of all phases of a study together: what a browser holds.
_ALL_PIXELS = 40e6
#: Round the heart, mm.
_MARGIN_MM = 20.0
#: Contours are given in so many parts of a pixel.
PARTS = 10


@dataclass(frozen=True)
class Montage:
    """A picture of the slices of a volume, in rows of ``columns``.

    Attributes:
        rows, cols: the part of each slice that is shown, of the volume as ``view`` gives it.
        slices: those that are shown, from 0.
        tile: pixels of a slice, width and height.
    """

    view: View
    rows: slice
    cols: slice
    slices: tuple[int, ...]
    tile: tuple[int, int]
    columns: int

    @classmethod
    def of(cls, grid: Volume, heart: np.ndarray | None, phases: int) -> Montage:
        """The montage for the images and masks of a study of so many ``phases`` on ``grid``.

        Args:
            heart: bool (X, Y, Z), where any phase holds a structure, which is shown with a margin; None for whole slices.
        """
        view = radiological_view(grid)
        down, right, axis = view.axes
        shape, spacing = grid.array.shape, grid.spacing
        rows, cols = slice(0, shape[down]), slice(0, shape[right])
        if heart is not None and heart.any():
            seen = view.apply(heart).any(2)
            rows, cols = _part(seen.any(1), spacing[down]), _part(seen.any(0), spacing[right])
        count = min(shape[axis], _SLICES)
        slices = tuple(int(k) for k in np.linspace(0, shape[axis] - 1, count).round())
        columns = min(count, math.ceil(math.sqrt(2 * count)))
        edge = min(max(_WIDTH / columns, _EDGES[0]), _EDGES[1], max(math.sqrt(_ALL_PIXELS / (phases * count)), _EDGES[0]))
        millimetres = (cols.stop - cols.start) * spacing[right], (rows.stop - rows.start) * spacing[down]
        tile = [max(1, round(edge * mm / max(millimetres))) for mm in millimetres]
        return cls(view, rows, cols, slices, (tile[0], tile[1]), columns)

    @property
    def size(self) -> tuple[int, int]:
        """Pixels, width and height."""
        return self.columns * self.tile[0], math.ceil(len(self.slices) / self.columns) * self.tile[1]

    def corners(self) -> list[tuple[int, int]]:
        """The upper left corner of each slice, in pixels."""
        return [(n % self.columns * self.tile[0], n // self.columns * self.tile[1]) for n in range(len(self.slices))]

    def cut(self, array: np.ndarray) -> np.ndarray:
        """The part of ``array`` (X, Y, Z) that is shown, as (rows, columns, slices)."""
        return self.view.apply(array)[self.rows, self.cols][:, :, list(self.slices)]

    def jpeg(self, array: np.ndarray, window: tuple[float, float]) -> bytes:
        """The picture of the image ``array`` (X, Y, Z), with black and white at the grey values ``window``."""
        low, high = window
        grey = (np.clip((self.cut(array).astype(np.float32) - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
        picture = Image.new("L", self.size)
        for n, corner in enumerate(self.corners()):
            picture.paste(Image.fromarray(np.ascontiguousarray(grey[:, :, n])).resize(self.tile, Image.Resampling.BICUBIC), corner)
        stream = BytesIO()
        picture.save(stream, "JPEG", quality=85)
        return stream.getvalue()

    def contours(self, mask: np.ndarray) -> dict[str, str]:
        """Round each structure of ``mask`` (X, Y, Z), an SVG path in the picture, in ``PARTS`` of a pixel."""
        shown = self.cut(mask)
        scale = np.array([self.tile[0] / shown.shape[1], self.tile[1] / shown.shape[0]])
        paths = {name: "" for name, value in STRUCTURES.items() if (shown == value).any()}
        for n, corner in enumerate(self.corners()):
            for name in paths:
                drawn = np.pad(shown[:, :, n] == STRUCTURES[name], 1)
                for line in contour_generator(z=drawn.astype(np.float32)).lines(0.5) if drawn.any() else ():
                    # the middle of the first pixel lies half a pixel from the edge, and at 1 after the padding
                    paths[name] += _path((np.asarray(line) - 0.5) * scale + corner)
        return paths


def grey_window(array: np.ndarray) -> tuple[float, float]:
    """The grey values that are shown black and white, by those that ``array`` holds."""
    low, high = np.percentile(array, (1.0, 99.5))
    return float(low), float(high)


def _part(filled: np.ndarray, spacing: float) -> slice:
    """From the first to the last that is ``filled`` (bool (n,)), and the margin."""
    found, margin = np.flatnonzero(filled), math.ceil(_MARGIN_MM / spacing)
    return slice(max(0, int(found[0]) - margin), min(len(filled), int(found[-1]) + 1 + margin))


def _path(points: Sequence[Sequence[float]] | np.ndarray) -> str:
    """A closed line through ``points`` (n, 2), from which what is nearer to each other than a part of a pixel is left out."""
    whole = np.rint(np.asarray(points)[:-1] * PARTS).astype(int)
    steps = np.diff(whole, axis=0)
    moves = " ".join(f"{x} {y}" for x, y in steps[steps.any(1)])
    return f"M{whole[0, 0]} {whole[0, 1]}l{moves}z"
