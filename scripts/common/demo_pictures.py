"""The demo's pictures: the prompt, which tokens the network kept, and the mask before and after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from prato.data.nifti import Volume
from prato.data.structures import COLOURS, STRUCTURES
from prato.prompts.box import Box

_MARGIN_MM = 30.0


def draw_loop(path: Path, title: str, *, image: Volume, box: Box, tokens: np.ndarray, masks: dict[str, np.ndarray]) -> None:
    """Three slices of a study, one a row: whole with its box, whole with what was pruned veiled, then one panel round the box for each of
    ``masks``.

    Args:
        image: the study. box: the prompt, in voxels. tokens: 0..1 on the image's grid (X, Y, Z).
        masks: values of ``prato.data.structures`` on the image's grid, by the words over their panels.
    """
    spacing = image.spacing
    first, last = box.start[2], box.stop[2] - 1
    planes = [round(first + share * (last - first)) for share in (0.15, 0.5, 0.85)]
    columns = ["image and box", "tokens kept to the end", *masks]
    figure = Figure(figsize=(2.6 * len(columns), 2.6 * len(planes) + 0.6), facecolor="black")
    axes = figure.subplots(len(planes), len(columns))
    low, high = np.percentile(image.array, (0.5, 99.5))
    for row, k in zip(axes, planes):
        for axis, name in zip(row, columns):
            axis.imshow(image.array[:, :, k].T, cmap="gray", vmin=low, vmax=high, aspect=spacing[1] / spacing[0])
            axis.set_axis_off()
            if k == planes[0]:
                axis.set_title(name, color="white", fontsize=10)
        row[0].add_patch(_frame(box))
        row[1].imshow(_veil(tokens[:, :, k]).transpose(1, 0, 2), interpolation="nearest", aspect=spacing[1] / spacing[0])
        row[1].add_patch(_frame(box))
        for axis, mask in zip(row[2:], masks.values()):
            axis.imshow(_overlay(mask[:, :, k]).transpose(1, 0, 2), interpolation="nearest", aspect=spacing[1] / spacing[0])
        for axis in row[2:]:
            _zoom(axis, box, image.array.shape, spacing)
        row[0].text(4, 4, f"slice {k + 1}", color="white", fontsize=8, va="top")
    handles: list[Any] = [Line2D([], [], color=COLOURS[name], marker="s", linestyle="", label=name) for name in STRUCTURES]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, labelcolor="white", fontsize=9)
    figure.suptitle(title, color="white", fontsize=11, y=0.985)
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.05, top=0.9, wspace=0.02, hspace=0.03)
    figure.savefig(path, dpi=110, facecolor="black")


def _frame(box: Box) -> Rectangle:
    (x, y), (width, height) = box.start[:2], box.size[:2]
    return Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor="yellow", linewidth=1.2)


def _veil(tokens: np.ndarray) -> np.ndarray:
    """RGBA: what was pruned early lies under a blue veil, what was kept to the end is clear."""
    veil = np.zeros((*tokens.shape, 4))
    veil[..., :3] = (0.08, 0.12, 0.38)
    veil[..., 3] = 0.8 * (1 - tokens)
    return veil


def _overlay(mask: np.ndarray) -> np.ndarray:
    """RGBA: the structures in their colours, see-through."""
    paint = np.zeros((*mask.shape, 4))
    for name, value in STRUCTURES.items():
        paint[mask == value] = (*COLOURS[name], 0.6)
    return paint


def _zoom(axis: Axes, box: Box, shape: tuple[int, ...], spacing: tuple[float, float, float]) -> None:
    margin = [_MARGIN_MM / mm for mm in spacing]
    axis.set_xlim(max(box.start[0] - margin[0], 0) - 0.5, min(box.stop[0] + margin[0], shape[0]) - 0.5)
    axis.set_ylim(min(box.stop[1] + margin[1], shape[1]) - 0.5, max(box.start[1] - margin[1], 0) - 0.5)
