"""One page about a heart: slices at end-diastole and end-systole with contours, volumes over time, the table and what is doubtful."""

from __future__ import annotations

import base64
import html
import io
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from prato.data.atomic import write_bytes
from prato.data.structures import COLOURS, STRUCTURES, voxel_ml
from prato.data.studies.folder import is_study_id
from prato.data.wording import counted
from prato.function.curve import VolumeCurve
from prato.function.hearts import SegmentedHeart
from prato.prompts.box import Box

#: Slices shown of each phase, and mm shown round the heart.
_SLICES, _MARGIN_MM = 4, 15.0
_NAMES = {"edv_ml": "EDV (ml)", "esv_ml": "ESV (ml)", "sv_ml": "SV (ml)", "ef_percent": "EF (%)"}
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>body{{font:15px sans-serif;max-width:60em;margin:2em auto}}
img{{width:100%}}td,th{{padding:.2em 1em;text-align:right}}td:first-child{{text-align:left}}</style></head><body>
<h1>{title}</h1><p>{about}</p><img alt="slices with contours, and volumes over time" src="data:image/png;base64,{picture}">
<table>{table}</table><h2>Warnings</h2><ul>{warnings}</ul><p>Not for diagnosis.</p></body></html>
"""


def write_report(heart: SegmentedHeart, folder: Path) -> None:
    """Write ``<name>.html`` and ``<name>.pdf`` into ``folder``, which is there, each whole or not at all. Where the heart's name can be no
    file's, as that of a patient, they are called like its first frame.

    Raises:
        OSError: they cannot be written.
    """
    name = heart.name if is_study_id(heart.name) else heart.phases[0]
    write_bytes(folder / f"{name}.pdf", _save(_draw(heart, is_whole=True), "pdf"))
    picture = base64.b64encode(_save(_draw(heart, is_whole=False), "png")).decode()
    rows = _rows(heart)
    table = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    doubts = "".join(f"<li>{html.escape(doubt)}</li>" for doubt in heart.function.warnings) or "<li>none</li>"
    text = _PAGE.format(title=html.escape(heart.name), about=html.escape(_about(heart)), picture=picture, table=table, warnings=doubts)
    write_bytes(folder / f"{name}.html", text.encode())


def _save(figure: Figure, kind: str) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # names in letters that the font lacks: the HTML page shows them
        figure.savefig(stream, format=kind, dpi=120, metadata={"CreationDate": None} if kind == "pdf" else None)
    return stream.getvalue()


def _about(heart: SegmentedHeart) -> str:
    function = heart.function
    bsa = f", body surface {function.bsa_m2:.2f} m²" if function.bsa_m2 else ", body surface unknown"
    ed, es = (f"phase {name}" if name.isdecimal() else name for name in (heart.phases[function.ed], heart.phases[function.es]))
    return (
        f"Patient {heart.patient}{bsa}. {counted(len(heart.phases), 'phase')} with a mask; end-diastole: {ed}, end-systole: {es} "
        f"({heart.ed_es_source}). Masks: {heart.source}."
    )


def _rows(heart: SegmentedHeart) -> list[list[str]]:
    """The table, its head first."""
    function, indexed = heart.function, heart.function.indexed()
    rows = [["", "LV", "RV", *(["LV per m²", "RV per m²"] if indexed else [])]]
    for name, words in _NAMES.items():
        values = [getattr(side, name) for side in (function.lv, function.rv)]
        values += [indexed.get(f"{side}_{name}_per_m2", np.nan) for side in ("lv", "rv")] if indexed else []
        rows.append([words, *("-" if np.isnan(value) else f"{value:.1f}" for value in values)])
    mass = [f"{function.lv_mass_g:.1f}", "", *([f"{indexed['lv_mass_g_per_m2']:.1f}", ""] if indexed else [])]
    return [*rows, ["Mass at ED (g)", *mass]]


def _draw(heart: SegmentedHeart, is_whole: bool) -> Figure:
    """A page in A4, or without ``is_whole`` what of it no text can show."""
    figure = Figure(figsize=(8.27, 11.69 if is_whole else 6.2))
    top, height = (0.88, 0.44) if is_whole else (0.94, 0.86)
    grid = figure.add_gridspec(3, _SLICES, top=top, bottom=top - height, left=0.08, right=0.97, hspace=0.12, wspace=0.04)
    around = Box.around((heart.masks > 0).any(-1))
    assert around is not None
    planes = np.rint(np.linspace(around.start[2], around.stop[2] - 1, _SLICES + 2)[1:-1]).astype(int)
    for row, (words, t) in enumerate((("ED", heart.function.ed), ("ES", heart.function.es))):
        low, high = np.percentile(heart.images[..., t], (0.5, 99.5))
        for column, k in enumerate(planes):
            axis = figure.add_subplot(grid[row, column])
            _draw_slice(axis, heart, k, t, around, (low, high))
            said = axis.text(0.03, 0.97, f"{words}, slice {k + 1}", color="white", fontsize=7, va="top", transform=axis.transAxes)
            said.set_path_effects([withStroke(linewidth=1.5, foreground="black")])  # also on bright tissue
    _draw_curve(figure.add_subplot(grid[2, :]), heart)
    if is_whole:
        # between two dollars of a name, matplotlib would look for a formula
        figure.text(0.08, 0.955, heart.name, fontsize=16, parse_math=False)
        figure.text(0.08, 0.945, _lines([_about(heart)], 5), fontsize=8.5, va="top", parse_math=False)
        _draw_table(figure, heart)
    return figure


def _lines(paragraphs: Sequence[str], most: int) -> str:
    """The paragraphs in lines of the page's width, as many as have room; the HTML page and the table have all of them."""
    lines = [line for paragraph in paragraphs for line in textwrap.wrap(paragraph, 105)]
    return "\n".join(lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1][:100] + " …"])


def _draw_slice(axis: Axes, heart: SegmentedHeart, k: int, t: int, around: Box, window: tuple[float, float]) -> None:
    down, right = heart.spacing[:2]
    axis.imshow(heart.images[:, :, k, t], cmap="gray", vmin=window[0], vmax=window[1], aspect=down / right)
    for name, value in STRUCTURES.items():
        inside = heart.masks[:, :, k, t] == value
        if inside.any():
            axis.contour(inside, levels=[0.5], colors=[COLOURS[name]], linewidths=1)
    axis.set_xlim(around.start[1] - _MARGIN_MM / right, around.stop[1] + _MARGIN_MM / right)
    axis.set_ylim(around.stop[0] + _MARGIN_MM / down, around.start[0] - _MARGIN_MM / down)
    axis.set_axis_off()


def _draw_curve(axis: Axes, heart: SegmentedHeart) -> None:
    curve = VolumeCurve.from_masks(heart.masks, voxel_ml(heart.spacing))
    at = np.arange(len(curve)) if heart.times_ms is None else heart.times_ms
    gaps = _gaps(heart.phases)
    for name, volume in (("LV cavity", curve.lv), ("RV cavity", curve.rv)):
        axis.plot(
            np.insert(at * 1.0, gaps, np.nan), np.insert(volume, gaps, np.nan), marker="o", markersize=2.5, color=COLOURS[name], label=name
        )
    for words, t in (("ED", heart.function.ed), ("ES", heart.function.es)):
        axis.axvline(at[t], color="grey", linewidth=0.8, linestyle=":")
        axis.annotate(words, (at[t], 1), xycoords=("data", "axes fraction"), fontsize=7, ha="center", va="bottom")
    axis.set_xlabel("phase" if heart.times_ms is None else "ms after the first phase", fontsize=8)
    axis.set_ylabel("ml", fontsize=8)
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=7, frameon=False)


def _gaps(phases: Sequence[str]) -> list[int]:
    """The phases of a cine, by their place, before which others have no mask: no line is drawn across."""
    numbers = [int(name) for name in phases if name.isdecimal()]
    return [n for n in range(1, len(numbers)) if numbers[n] != numbers[n - 1] + 1] if len(numbers) == len(phases) else []


def _draw_table(figure: Figure, heart: SegmentedHeart) -> None:
    rows = _rows(heart)
    axis = figure.add_axes((0.08, 0.22, 0.89, 0.16))
    axis.set_axis_off()
    drawn = axis.table(cellText=rows, loc="center", edges="horizontal", cellLoc="right")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(9)
    drawn.scale(1, 1.3)
    doubts = [f"• {doubt}" for doubt in heart.function.warnings]
    figure.text(0.08, 0.19, "Warnings", fontsize=11, va="top")
    figure.text(0.08, 0.17, _lines(doubts or ["none"], 10), fontsize=8.5, va="top", parse_math=False)
    figure.text(0.08, 0.03, "Not for diagnosis.", fontsize=8)
