"""The part of docs/results/speed_tables.md on what the prompt is worth, from results of scripts/research/token_study.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from scripts.common.figures import legend_below
from scripts.common.markdown import markdown_table
from scripts.common.results import Row, read_rows

#: Which networks a token study measured.
_STUDIED = {
    "tokens_swin_unetr": "Networks of half the shipped width, on whole slices. ",
    "tokens_unetr": "Networks of the shipped size on whole slices, trained for four passes more from the shipped weights on copies of "
    "the studies that `scripts/pack_studies.py` makes (`scripts/train.py --network unetr --whole-slices 192 --epochs 4 --rate 5e-4`, with "
    "`--after 1 --percentile 65` and, for the engine, `--margin 16 --boxed`; seed 0's dense network of windows is the dense twin of the "
    "shipped one). ",
}
#: What rows of both files have in common.
_WAY = ("network", "seed", "way", "keep")
_BOXES = ("tight", "oversized", "partial", "misleading")


def read_token_study(results: Path) -> list[Row]:
    """The rows of tokens.csv, each with its ``cases``: DSC by study.

    DSC and HD95 are the means of token_cases.csv: the rows have them rounded, and whoever shows them rounds again.
    """
    cases: dict[tuple[Any, ...], list[Row]] = {}
    for case in read_rows(results / "token_cases.csv"):
        cases.setdefault(tuple(case[name] for name in _WAY), []).append(case)
    found = []
    for row in read_rows(results / "tokens.csv"):
        own, box = cases[tuple(row[name] for name in _WAY)], row["box"]
        means = {metric: fmean(case[metric][box] for case in own) for metric in ("dice", "hd95")}
        found.append({**row, **means, "cases": {case["study"]: case["dice"][box] for case in own}})
    return found


def token_part(name: str, results: list[dict[str, Any]]) -> tuple[str, Figure]:
    """Text and picture of the token study ``name``, of one result for each seed."""
    rows = [row for result in results for row in result["rows"]]
    ways = [*dict.fromkeys((row["way"], row["keep"]) for row in rows)]
    by: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for row in rows:
        by.setdefault((row["way"], row["keep"], row["box"]), []).append(row)
    figure, panels = plt.subplots(1, len(_BOXES), figsize=(14, 4), sharey=True)
    for panel, box in zip(panels, _BOXES):
        for way in dict.fromkeys(way for way, _ in ways):
            own = [by[key] for key in ((way, keep, box) for w, keep in ways if w == way) if key in by]
            mean = [sum(r["dice"] for r in seeds) / len(seeds) for seeds in own]
            panel.plot([seeds[0]["keep"] for seeds in own], mean, "o-" if len(own) > 1 else "s", label=way, markersize=4)
        panel.set(title=f"{box} box", xlabel="tokens kept after the first stage, %")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("mean DSC")
    legend_below(figure, columns=5)
    cell: dict[str, Callable[[dict[str, Any]], str]] = {
        "DSC": lambda r: f"{r['dice']:.3f}",
        "HD95 (mm)": lambda r: f"{r['hd95']:.1f}",
        "GFLOP a volume": lambda r: f"{r['gflops']:.1f}",
    }
    text = f"## What the prompt is worth: {name.removeprefix('tokens_').replace('_', ' ')}\n\n"
    text += f"![DSC against kept tokens](../images/{name}.png)\n\n"
    text += _STUDIED[name]
    text += f"{results[0]['studies']} volumes of the validation patients; one number for each seed of training and boxes "
    text += f"({', '.join(str(result['seed']) for result in results)}), the picture shows their mean; "
    text += "no search elsewhere when a box holds no heart.\n\n"
    for what, shown in cell.items():
        lines = [[way, str(keep), *(" / ".join(map(shown, by.get((way, keep, box), []))) for box in _BOXES)] for way, keep in ways]
        text += f"**{what}**\n\n" + markdown_table(["way", "% kept", *_BOXES], lines)
    return text, figure
