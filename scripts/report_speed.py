"""Write docs/speed.md and its pictures from the measured files in docs/results; nothing in them is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import typer

from prato.data.atomic import write_bytes

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_ROOT = Path(__file__).parents[1]
_RESULTS, _IMAGES = _ROOT / "docs" / "results", _ROOT / "docs" / "images"
_TITLES = {"prato_unetr": "UNETR", "prato_swin_unetr": "Swin UNETR"}
#: How the ways are drawn; the others stand in the tables alone.
_LINES = {"dense": "k-", "cut to the box": "C2-", "window at the box, plan": "C0-", "dropped, decode all": "C1:", "engine": "C3-"}
_BOXES = ("tight", "oversized", "partial", "misleading")
_HEAD = """# What a box saves, and what it is worth

Every table and picture here is written by `scripts/report_speed.py` from files in [results](results) that `scripts/benchmark.py`,
`scripts/benchmark_http.py` and `scripts/token_study.py` measured. Times of a shared machine mean little by themselves; the ways are timed
in turn in one process, so their ratios mean something.

"""


def main() -> None:
    """docs/speed.md and a picture for each of its benchmarks and studies."""
    text = _HEAD
    for path in sorted(_RESULTS.glob("benchmark_*.json")):
        text += _speed(path.stem, json.loads(path.read_text()))
    for path in sorted(_RESULTS.glob("http_*.json")):
        text += _http(json.loads(path.read_text()))
    for path in sorted(_RESULTS.glob("tokens_*.json")):
        text += _tokens(path.stem, json.loads(path.read_text()))
    write_bytes(_ROOT / "docs" / "speed.md", (text.rstrip() + "\n").encode())


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "".join("| " + " | ".join(cells) + " |\n" for cells in (head, ["---"] * len(head), *rows)) + "\n"


def _speed(name: str, result: dict[str, Any]) -> str:
    head = ["network", "slices a call", "box, % of the image", "way", "ms (quartiles)", "times faster than dense", "GFLOP"]
    rows = [
        [
            _TITLES.get(row["model"], row["model"]),
            str(row["batch"]),
            f"{100 * row['box_area']:.0f}",
            row["way"] + (f" ({100 * row['tokens_dropped']:.0f} % of tokens dropped)" if "tokens_dropped" in row else ""),
            f"{row['ms']:.0f} ({row['ms_quartiles'][0]:.0f} to {row['ms_quartiles'][1]:.0f})",
            f"{row['times_faster_than_dense']:.2f}",
            f"{row['gflops']:.1f}",
        ]
        for row in result["rows"]
    ]
    _draw_speed(name, result)
    said = f"{result['device']}, {result['threads']} thread{'s' * (result['threads'] > 1)}, image of {result['window']} pixels"
    return f"## One call of the network: {said}\n\n![times against the area of the box](images/{name}.png)\n\n" + _table(head, rows)


def _draw_speed(name: str, result: dict[str, Any]) -> None:
    models, batches = ([*dict.fromkeys(row[key] for row in result["rows"])] for key in ("model", "batch"))
    figure, panels = plt.subplots(len(batches), len(models), figsize=(5 * len(models), 3.2 * len(batches)), squeeze=False)
    for line, batch in zip(panels, batches):
        for panel, model in zip(line, models):
            rows = [row for row in result["rows"] if row["model"] == model and row["batch"] == batch]
            for way, style in _LINES.items():
                own = [row for row in rows if row["way"] == way]
                panel.plot([100 * r["box_area"] for r in own], [r["ms"] for r in own], style, label=way, marker=".")
            dense = [row for row in rows if row["way"] == "dense"]
            area = [row["box_area"] for row in dense]
            panel.plot([100 * a for a in area], [r["ms"] * r["box_area"] for r in dense], "0.6", ls="--", label="ideal: dense x area")
            panel.set(title=f"{_TITLES.get(model, model)}, {batch} a call", xlabel="box, % of the image", ylabel="ms", ylim=(0, None))
            panel.grid(alpha=0.3)
    panels[0][0].legend(fontsize=7)
    _saved(figure, name)


def _http(result: dict[str, Any]) -> str:
    steps = list(result["rows"][0]["steps_ms"])
    rows = [
        [row["model"], row["request"], f"{row['ms']:.0f} ({row['ms_quartiles'][0]:.0f} to {row['ms_quartiles'][1]:.0f})"]
        + [f"{row['steps_ms'][step]:.0f}" for step in steps]
        for row in result["rows"]
    ]
    note = f"A warm server on {result['device']}, {result['slices']} slices; medians in ms. *http* is all that is not the app's.\n\n"
    return "## Whole requests over HTTP\n\n" + note + _table(["model", "request", "whole", *steps], rows)


def _tokens(name: str, result: dict[str, Any]) -> str:
    rows = result["rows"]
    ways = [*dict.fromkeys((row["way"], row["keep"]) for row in rows)]
    by = {(row["way"], row["keep"], row["box"]): row for row in rows}
    figure, panels = plt.subplots(1, len(_BOXES), figsize=(14, 3.4), sharey=True)
    for panel, box in zip(panels, _BOXES):
        for way in dict.fromkeys(way for way, _ in ways):
            own = [by[key] for key in ((way, keep, box) for w, keep in ways if w == way) if key in by]
            panel.plot([r["keep"] for r in own], [r["dice"] for r in own], "o-" if len(own) > 1 else "s", label=way, markersize=4)
        panel.set(title=box, xlabel="% kept after the first stage")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("mean DSC")
    panels[-1].legend(fontsize=6)
    _saved(figure, name)
    cell: dict[str, Callable[[dict[str, Any]], str]] = {
        "DSC": lambda r: f"{r['dice']:.3f}",
        "HD95 (mm)": lambda r: f"{r['hd95']:.1f}",
        "GFLOP a volume": lambda r: f"{r['gflops']:.1f}",
        "network ms a volume": lambda r: f"{r['network_ms']:.0f}",
    }
    text = f"## What the prompt is worth: {name.removeprefix('tokens_').replace('_', ' ')}\n\n"
    text += f"![DSC against kept tokens](images/{name}.png)\n\n"
    text += f"{result['studies']} volumes of the validation patients, seed {result['seed']}; "
    text += "no search elsewhere when a box holds no heart.\n\n"
    for what, shown in cell.items():
        lines = [[way, str(keep), *(shown(by[way, keep, box]) if (way, keep, box) in by else "" for box in _BOXES)] for way, keep in ways]
        text += f"**{what}**\n\n" + _table(["way", "% kept", *_BOXES], lines)
    return text


def _saved(figure: Any, name: str) -> None:
    figure.tight_layout()
    _IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(_IMAGES / f"{name}.png", dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    typer.run(main)
