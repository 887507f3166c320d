"""The pictures of docs/speed.md."""

from __future__ import annotations

from typing import Any

import matplotlib

from scripts.bench.speed_tables import TITLES
from scripts.bench.timing import CAPTURED
from scripts.common.figures import legend_below
from scripts.common.paths import IMAGES

matplotlib.use("Agg")
import matplotlib.pyplot as plt

#: How the ways are drawn; the others stand in the tables alone.
_LINES = {"dense": "k-", "cut to the box": "C2-", "window at the box, plan": "C0-", "dropped, decode all": "C1:", "engine": "C3-"}


def rows_to_draw(result: dict[str, Any], gpu: bool) -> list[dict[str, Any]]:
    """The rows of a benchmark that its picture shows, in 2D: on a GPU the captured calls; none where a single box was measured there."""
    flat = [row for row in result["rows"] if not row["model"].endswith("3D")]
    if not gpu:
        return flat
    captured = [{**row, "way": row["way"].removesuffix(CAPTURED)} for row in flat if row["way"].endswith(CAPTURED)]
    return captured if len({row["box_edge"] for row in captured}) > 1 else []


def draw_speed(name: str, measured: list[dict[str, Any]]) -> None:
    """Times of the ways against the area of the box: a panel for each network and number of slices a call."""
    models, batches = ([*dict.fromkeys(row[key] for row in measured)] for key in ("model", "batch"))
    figure, panels = plt.subplots(len(batches), len(models), figsize=(5 * len(models), 3.2 * len(batches)), squeeze=False)
    for line, batch in zip(panels, batches):
        for panel, model in zip(line, models):
            rows = [row for row in measured if row["model"] == model and row["batch"] == batch]
            for way, style in _LINES.items():
                own = [row for row in rows if row["way"] == way]
                panel.plot([100 * r["box_area"] for r in own], [r["ms"] for r in own], style, label=way, marker=".")
            dense = [row for row in rows if row["way"] == "dense"]
            area = [row["box_area"] for row in dense]
            panel.plot([100 * a for a in area], [r["ms"] * r["box_area"] for r in dense], "0.6", ls="--", label="ideal: dense x area")
            title = f"{TITLES.get(model, model)}, {batch} slice{'s' * (batch > 1)} a call"
            panel.set(title=title, xlabel="box, % of the image", ylabel="ms a call", ylim=(0, None))
            panel.grid(alpha=0.3)
    legend_below(figure, columns=6)
    save_figure(figure, name)


def save_figure(figure: Any, name: str) -> None:
    """As docs/images/``name``.png."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / f"{name}.png", dpi=100)
    plt.close(figure)
