"""Figures 2, 5 and 8: what is spent, where tokens leave, and how the prompt's queries are weighed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.research.datasets.base import dataset_class
from scripts.research.figures.drawing import WIDTH, save
from scripts.research.figures.slices import ShownSlices
from scripts.research.tables.rows import DATA, Row

#: Slices whose weights are shown.
_MAPS = 4
#: A family of rows each: how it is drawn.
_MARKS = {"prato": ("o", "tab:red"), "dense": ("s", "0.25"), "random": ("x", "tab:orange"), "baseline": ("^", "tab:blue")}


def draw_overview(path: Path, rows: Mapping[str, Sequence[Row]]) -> None:
    """DSC against operations and against time, a line of panels a data set; a short line is the spread over seeds."""
    figure = Figure(figsize=(WIDTH, 4.2 * len(rows)))
    for line, (data, own) in zip(figure.subplots(len(rows), 2, squeeze=False), rows.items()):
        for axis, unit in zip(line, ("GFLOP", "ms")):
            places = []
            for row in own:
                assert row.outcome
                cost, dice = row.outcome.mean("gflops") if unit == "GFLOP" else row.outcome.ms, row.dice()
                if cost is None or dice is None:
                    continue
                marker, colour = _MARKS.get(str(row.design("method")), _MARKS["baseline"])
                seeds = row.outcome.by_seed("dice")
                error = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None
                filled = "none" if row.is_still_learning else colour
                axis.errorbar(cost, dice, yerr=error, marker=marker, color=colour, mfc=filled, ls="", ms=6, capsize=2)
                places.append((dice, cost, row.label, colour))
            axis.margins(x=0.12, y=0.08)
            axis.set(title=f"{DATA[data]} (hollow: still learning)", xlabel=f"{unit} {dataset_class(data).sample}", ylabel="mean DSC")
            axis.grid(alpha=0.3)
            _label_points(axis, places)
    figure.tight_layout(w_pad=2.5)
    save(figure, path)


def _label_points(axis: Axes, places: Sequence[tuple[float, float, str, str]]) -> None:
    """Names in a column beside the panel, in the order of the marks, each with a line to its own: they never cover each other."""
    order = sorted(places)
    heights = np.linspace(0.03, 0.97, len(order)) if len(order) > 1 else [0.5]
    for (dice, cost, label, colour), height in zip(order, heights):
        line = {"arrowstyle": "-", "color": colour, "lw": 0.4, "alpha": 0.6}
        there: dict[str, Any] = {"xytext": (1.04, height), "textcoords": "axes fraction", "va": "center"}
        axis.annotate(label, (cost, dice), fontsize=7, color=colour, arrowprops=line, **there)


def draw_stages(path: Path, rows: Sequence[Row]) -> None:
    """Figure 5: operations of each row beside its dense network's, and the share of tokens that each of its stages let go on."""
    figure = Figure(figsize=(WIDTH, 0.3 * len(rows) + 1.3))
    costs, density = figure.subplots(1, 2, width_ratios=[1.1, 1])
    place = np.arange(len(rows))
    outcomes = [row.outcome for row in rows if row.outcome]
    costs.barh(place - 0.2, [outcome.runs[0].get("gflops_dense") or 0.0 for outcome in outcomes], 0.36, color="0.7", label="dense")
    costs.barh(place + 0.2, [outcome.mean("gflops") or 0.0 for outcome in outcomes], 0.36, color="tab:red", label="as evaluated")
    costs.set_yticks(place, [row.label for row in rows], fontsize=7)
    costs.set_ylim(len(rows) - 0.5, -0.5)
    costs.set_title("GFLOP a slice", fontsize=9)
    costs.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.35 / figure.get_figheight()), ncols=2, frameon=False)
    costs.grid(alpha=0.3, axis="x")
    stages = [outcome.runs[0]["token_density"] for outcome in outcomes]
    shares = np.full((len(rows), max(map(len, stages))), np.nan)
    for line, values in zip(shares, stages):
        line[: len(values)] = values
    density.imshow(shares, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for (line, stage), share in np.ndenumerate(shares):
        if not np.isnan(share):
            density.text(stage, line, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color="w" if share < 0.6 else "k")
    density.set_xticks(range(shares.shape[1]), [str(n + 1) for n in range(shares.shape[1])])
    density.set_yticks([])
    density.set_title("% of tokens that go on after each stage", fontsize=9)
    density.set_xlabel("stage", fontsize=8)
    for axis in (costs, density):
        axis.tick_params(labelsize=7)
    figure.tight_layout(rect=(0.01, 0, 1, 1))
    save(figure, path)


def draw_queries(path: Path, found: Mapping[str, ShownSlices]) -> None:
    """Figure 8: how often a query has which entropy rank and which weight, and the weights where they lie in each slice's box."""
    figure = Figure(figsize=(WIDTH, 1.75 * len(found) + 0.3))
    for line, (name, weights) in zip(figure.subplots(len(found), 2 + _MAPS, squeeze=False), found.items()):
        assert weights.rank is not None and weights.weight is not None
        side = round(weights.weight.shape[1] ** 0.5)
        for axis, values, what in ((line[0], weights.rank, "entropy rank"), (line[1], weights.weight, "weight Ω")):
            axis.hist(values.ravel(), bins=side * side, color="tab:blue")
            axis.set_xlabel(what, fontsize=8)
            axis.tick_params(labelsize=7)
        line[0].set_ylabel(f"{fill(name, 18)}\n\nqueries", fontsize=7)
        for n, axis in enumerate(line[2:]):
            axis.set_axis_off()
            if n < len(weights.weight) and side * side == weights.weight.shape[1]:  # one box, one stage
                shown = axis.imshow(weights.weight[n].reshape(side, side), cmap="viridis", vmin=0, vmax=1)
                axis.set_title(f"Ω in the box, {n + 1}", fontsize=8)
    figure.tight_layout(rect=(0, 0, 0.94, 1))
    figure.colorbar(shown, cax=figure.add_axes((0.945, 0.15, 0.012, 0.7))).ax.tick_params(labelsize=7)
    save(figure, path)
