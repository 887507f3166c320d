"""What the figures share: image, mask and box in a panel, and small files."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from prato.data.atomic import write_bytes
from scripts.research.datasets.base import dataset_class

matplotlib.use("Agg")

#: A page shows a picture no wider than some 900 pixels; text below 7 points would not be read there.
WIDTH, _DPI = 9.0, 110
_LARGEST = 290_000


def save(figure: Figure, path: Path) -> None:
    """As PNG below 300 KB: with a palette where it takes one, then with fewer pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for dpi, colours in ((_DPI, None), (_DPI, 256), (_DPI, 64), (80, 64)):
        drawn, packed = io.BytesIO(), io.BytesIO()
        figure.savefig(drawn, dpi=dpi, format="png", facecolor="white")
        picture = Image.open(drawn).convert("RGB")
        (picture.quantize(colours, dither=Image.Dither.NONE) if colours else picture).save(packed, "PNG", optimize=True)
        if packed.tell() <= _LARGEST:
            break
    write_bytes(path, packed.getvalue())


def show(
    axes: Axes, image: np.ndarray, mask: np.ndarray | None = None, data: str = "acdc", around: tuple[slice, slice] | None = None
) -> None:
    """``image`` (H, W) in grey with ``mask`` in the colours of ``data`` over it, cut to ``around``."""
    low, high = np.percentile(image, (0.5, 99.5))
    where = around or (slice(None), slice(None))
    bottom, top = _edges(where[0], image.shape[0])
    left, right = _edges(where[1], image.shape[1])
    place = (left - 0.5, right - 0.5, top - 0.5, bottom - 0.5)
    axes.imshow(image[where], cmap="gray", vmin=low, vmax=max(high, low + 1e-6), extent=place, interpolation="nearest")
    if mask is not None:
        axes.imshow(_overlay(mask[where], data), extent=place, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def frame(axes: Axes, box: np.ndarray) -> None:
    """``box`` (2, 2) as a yellow frame."""
    (top, left), (bottom, right) = box
    edge = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor="gold", linewidth=1.5)
    axes.add_patch(edge)


def square_round(masks: list[np.ndarray], boxes: list[np.ndarray]) -> tuple[slice, slice]:
    """A square round all ``masks`` (H, W) and ``boxes``, with some room, inside the image."""
    shape = masks[0].shape
    marked = np.zeros(shape, bool)
    for mask in masks:
        marked |= mask > 0
    for box in boxes:
        (top, left), (bottom, right) = np.clip(np.round(box), 0, shape).astype(int)
        marked[top:bottom, left:right] = True
    if not marked.any():
        return slice(0, shape[0]), slice(0, shape[1])
    rows, columns = np.nonzero(marked)
    side = min(int(1.25 * max(np.ptp(rows), np.ptp(columns))) + 6, *shape)
    starts = (int(np.clip((line.min() + line.max() + 1 - side) // 2, 0, n - side)) for line, n in zip((rows, columns), shape))
    top, left = starts
    return slice(top, top + side), slice(left, left + side)


def key(figure: Figure, data: str, box: bool = True) -> None:
    """Which colour is what, under the figure."""
    marks = [Line2D([], [], color=colour, marker="s", ls="", label=name) for name, colour in dataset_class(data).colours.items()]
    if box:
        marks.append(Line2D([], [], color="gold", label="box"))
    figure.legend(handles=marks, loc="lower center", ncols=len(marks), frameon=False, fontsize=8)


def _edges(part: slice, length: int) -> tuple[int, int]:
    return (part.start or 0, length if part.stop is None else part.stop)


def _overlay(mask: np.ndarray, data: str) -> np.ndarray:
    """(H, W, 4): half-transparent colours by mask value."""
    paint = np.zeros((*mask.shape, 4))
    for value, colour in enumerate(dataset_class(data).colours.values(), start=1):
        paint[mask == value] = (*colour, 0.55)
    return paint
