"""Dice against time, drawn from docs/results/front.csv."""

from __future__ import annotations

from pathlib import Path

import matplotlib

from scripts.common.results import Row
from scripts.research.figures.drawing import WIDTH, save

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

_BOXES = {"tight": "tight box", "partial": "partial box", "none": "no box"}
#: Marks by way of using a network.
_MARKS = {
    "pruned": "o",
    "whole slices": "s",
    "random tokens": "x",
    "random region": "x",
    "crop to the box": "v",
    "crop with context": "^",
}


def draw_front(rows: list[Row], path: Path) -> None:
    """A row of panels for each device, a panel for each box; ours as a line through its levels of pruning."""
    devices = list(dict.fromkeys((row["device"], row["threads"]) for row in rows))
    figure, panels = plt.subplots(len(devices), len(_BOXES), figsize=(WIDTH, 3.4 * len(devices) + 1.1), squeeze=False, sharey=True)
    names = list(dict.fromkeys(row["training"] for row in rows))
    colours = {name: f"C{number % 10}" for number, name in enumerate(names)}
    for number, (line, device) in enumerate(zip(panels, devices)):
        for panel, (box, title) in zip(line, _BOXES.items()):
            own = [row for row in rows if (row["device"], row["threads"]) == device and row["box"] == box]
            _draw(panel, own, colours)
            panel.set(xscale="log", ylim=(0.8, 0.94), title="" if number else title)
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter(ScalarFormatter())
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.grid(alpha=0.3)
            panel.set_xlabel(f"network, ms for 10 slices ({device[0]})")
        line[0].set_ylabel("mean DSC")
    handles = [plt.Line2D([], [], color=colour, marker="o", linestyle="", label=name) for name, colour in colours.items()]
    marks = {"random tokens or region" if mark == "x" else way: mark for way, mark in _MARKS.items()}
    handles += [plt.Line2D([], [], color="0.3", marker=mark, linestyle="", label=way) for way, mark in marks.items()]
    below = "hollow, or x on the edge: below"
    handles.append(plt.Line2D([], [], color="0.3", marker="v", markerfacecolor="none", linestyle="", label=below))
    figure.legend(handles=handles, loc="lower center", ncol=4, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.8 / figure.get_figheight(), 1, 1))
    save(figure, path)
    plt.close(figure)


def _draw(panel: Axes, rows: list[Row], colours: dict[str, str]) -> None:
    """What lies below the panel is drawn on its edge, hollow."""
    for name, colour in colours.items():
        own = [row for row in rows if row["training"] == name]
        levels = sorted((row["ms"]["all"], row["dice"]["mean"]) for row in own if row["way"].startswith("pruned"))
        if levels:
            panel.plot(*zip(*levels), "-", color=colour, linewidth=1)
        for row in own:
            dice, mark = row["dice"]["mean"], _MARKS["pruned" if row["way"].startswith("pruned") else row["way"]]
            filled = colour if dice >= 0.8 or mark == "x" else "none"
            panel.plot(row["ms"]["all"], max(dice, 0.803), mark, color=colour, markerfacecolor=filled, markersize=5)
