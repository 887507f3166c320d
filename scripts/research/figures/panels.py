"""Figures 3, 4, 6, 7 and 9: what the networks made of the same few slices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill

from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from scripts.research.figures.drawing import WIDTH, frame, key, save, show, square_round
from scripts.research.figures.slices import ShownSlices
from scripts.research.tables.rows import BOXES

#: Columns for up to so many panels a slice; seven are the most whose titles can be read.
_COLUMNS = ((18, 6), (math.inf, 7))
#: Slices in a figure of methods; one more would make it taller than a screen.
_SLICES = 2


def draw_methods(path: Path, data: str, found: Mapping[str, ShownSlices]) -> None:
    """Image with its box, truth, and the mask of each of ``found`` (by title) with its DSC on the slice, for some slices."""
    first = next(iter(found.values()))
    slices = range(min(_SLICES, len(first.image)))
    columns = next(columns for most, columns in _COLUMNS if 2 + len(found) <= most)
    lines, cell = math.ceil((2 + len(found)) / columns), WIDTH / columns
    figure = Figure(figsize=(WIDTH, len(slices) * lines * (cell + 0.38) + 0.35))
    axes = figure.subplots(len(slices) * lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for n in slices:
        own = axes[n * lines : (n + 1) * lines].ravel()
        cut = square_round([first.truth[n]], [first.box[n]])
        show(own[0], first.image[n], around=cut)
        frame(own[0], first.box[n])
        show(own[1], first.image[n], first.truth[n], data, cut)
        titles = ["image and box", "truth"]
        for axis, (name, shown) in zip(own[2:], found.items()):
            show(axis, shown.image[n], shown.mask[n], data, cut)
            titles.append(f"{fill(name, 24)}\n{shown.slice_dice(n):.2f}")
        for axis, title in zip(own, titles):
            axis.set_title(title, fontsize=7.5, pad=2)
    _finish(figure, path, data)


def draw_retention(path: Path, found: Mapping[str, ShownSlices]) -> None:
    """What each of ``found`` (by title) kept, one a row: bright where tokens went through all stages."""
    first = next(iter(found.values()))
    columns = min(4, len(first.image))
    figure = Figure(figsize=(WIDTH * (columns + 1) / 6, len(found) * (WIDTH / 6 + 0.1) + 0.45))
    axes = figure.subplots(len(found), columns + 1, squeeze=False, width_ratios=[0.45, *[1] * columns])
    for line, (name, shown) in zip(axes, found.items()):
        line[0].set_axis_off()
        line[0].text(0.5, 0.5, "\n".join(fill(part, 13) for part in name.split(", ")), ha="center", va="center", fontsize=7.5)
        for n, axis in enumerate(line[1:]):
            show(axis, shown.image[n])
            assert shown.retention is not None
            height, width = shown.image[n].shape
            axis.imshow(
                shown.retention[n],
                cmap="viridis",
                vmin=0,
                vmax=1,
                alpha=0.6,
                interpolation="nearest",
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            )
            frame(axis, shown.box[n])
    figure.subplots_adjust(left=0.01, right=0.9, top=0.97, bottom=0.03, wspace=0.04, hspace=0.06)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), "viridis"), cax=figure.add_axes((0.915, 0.1, 0.015, 0.8)))
    bar.set_label("share of stages survived", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    save(figure, path)


def draw_boxes(path: Path, data: str, found: Mapping[str, ShownSlices]) -> None:
    """One slice under the boxes that ``found`` goes by: what was kept above, the mask below."""
    boxes = [box for box in BOXES if box in found]
    figure = Figure(figsize=(WIDTH, 2 * WIDTH / len(boxes) + 0.75))
    axes = figure.subplots(2, len(boxes), squeeze=False)
    cut = square_round([found[box].truth[0] for box in boxes], [found[box].box[0] for box in boxes])
    for box, above, below in zip(boxes, *axes):
        shown = found[box]
        show(above, shown.image[0], around=cut)
        if shown.retention is not None:
            height, width = shown.image[0].shape
            above.imshow(shown.retention[0], cmap="viridis", vmin=0, vmax=1, alpha=0.45, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
            above.set_xlim(cut[1].start - 0.5, cut[1].stop - 0.5)
            above.set_ylim(cut[0].stop - 0.5, cut[0].start - 0.5)
        show(below, shown.image[0], shown.mask[0], data, cut)
        for axis in (above, below):
            frame(axis, shown.box[0])
        above.set_title(box, fontsize=9)
        below.set_title(f"DSC {shown.slice_dice(0):.2f}", fontsize=8, pad=2)
    axes[0][0].set_ylabel("tokens kept", fontsize=8)
    axes[1][0].set_ylabel("mask", fontsize=8)
    _finish(figure, path, data)


def _finish(figure: Figure, path: Path, data: str) -> None:
    key(figure, data)
    bottom = 0.3 / figure.get_figheight()
    figure.subplots_adjust(left=0.03, right=0.995, top=1 - 0.4 / figure.get_figheight(), bottom=bottom, wspace=0.04, hspace=0.3)
    save(figure, path)
