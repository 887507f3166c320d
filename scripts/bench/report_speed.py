"""Write docs/speed.md and its pictures from the measured files in docs/results; nothing in them is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import typer

from prato.data.atomic import write_bytes
from scripts.bench.gpu_tables import gpu_part, gpu_said
from scripts.bench.speed_goals import goal_rows
from scripts.bench.timing import CAPTURED
from scripts.common.paths import DOCS, IMAGES, RESULTS
from scripts.research.tables.token_goals import token_goal_rows
from scripts.research.tables.token_tables import markdown_table, token_part

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_TITLES = {"prato_unetr": "UNETR", "prato_swin_unetr": "Swin UNETR"}
#: How the ways are drawn; the others stand in the tables alone.
_LINES = {"dense": "k-", "cut to the box": "C2-", "window at the box, plan": "C0-", "dropped, decode all": "C1:", "engine": "C3-"}
_HEAD = """# What a box saves, and what it is worth

Every table and picture here is written by `scripts/bench/report_speed.py` from files in [results](results) that
`scripts/bench/benchmark.py`,
`scripts/bench/benchmark_http.py` and `scripts/research/token_study.py` measured. Times of a shared machine mean little by themselves; the
ways are timed
in turn in one process, so their ratios mean something. *Processor ms* leave out the waiting for other programs of the same machine.

*Dense* and *cut to the box* are MONAI's own calls; *norms folded* are the same with batch norms made part of the convolutions, which the
engine does where it decodes. The engine drops 75 % of the tokens that stage 0 leaves, but none that the box touches; *stage 0* keeps what
lies within 8 pixels of the box in 2D, and within 16 in 3D.

"""
_GOALS = """## What was aimed at

With at least 75 % of the tokens dropped, one thread. The *crop* is the quicker of the two ways to cut to the box, which see nothing but
the box; the *crop with context* is the window that the app shows a dense model: the smaller of its two sizes in which 8 pixels, as the
engine keeps, lie round the box. All have edges that are multiples of 32 pixels, which the networks ask for.

"""


_FLOOR = """Why not within 20 % of the crop in 2D: what is decoded equals the dense network's numbers, so each convolution also computes the
rim that the next one looks at, where the crop has zeros. That alone, without any encoder and without context, is as much arithmetic as
the whole of the crop or more (GFLOP of a slice):

"""


def main() -> None:
    """docs/speed.md and a picture for each of its benchmarks and studies."""
    timed = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("benchmark_*.json"))}
    requests = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("http_*.json"))]
    studies = {path.stem: _seeds(path) for path in sorted(RESULTS.glob("tokens_*.json")) if "_seed" not in path.stem}
    rows = goal_rows(list(timed.values()), requests, _TITLES)
    for name, seeds in studies.items():
        rows += token_goal_rows(_TITLES[name.replace("tokens", "prato")], seeds)
    text = _HEAD + _GOALS + markdown_table(["what", "box, % of the image", "goal", "measured", "met"], rows)
    floor = json.loads((RESULTS / "crop_floor.json").read_text())
    text += _FLOOR + markdown_table(*_floor(floor))
    text += "".join(_speed(name, result) for name, result in timed.items())
    text += "".join(map(_http, requests))
    for name, seeds in studies.items():
        part, figure = token_part(name, seeds)
        _saved(figure, name)
        text += part
    write_bytes(DOCS / "speed.md", (text.rstrip() + "\n").encode())


def _seeds(path: Path) -> list[dict[str, Any]]:
    """A token study with its other seeds."""
    return [json.loads(each.read_text()) for each in (path, *sorted(RESULTS.glob(f"{path.stem}_seed*.json")))]


def _floor(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    ways = list(result["rows"][0]["gflops"])
    lines = []
    for row in result["rows"]:
        gflops = row["gflops"]
        area = 100 * (row["box_edge"] / result["image"]) ** 2
        counts = [f"{gflops[way]:.2f}" for way in ways]
        lines.append([_TITLES[row["model"]], f"{area:.0f}", *counts, f"{gflops[ways[-1]] / gflops['crop']:.2f}"])
    return ["network", "box, % of the image", *ways, f"{ways[-1]}, of the crop"], lines


def _speed(name: str, result: dict[str, Any]) -> str:
    if any("peak_mib" in row for row in result["rows"]):
        return _gpu(name, result)
    said = f"{result['device']}, {result['threads']} thread{'s' * (result['threads'] > 1)}"
    flat = [row for row in result["rows"] if not row["model"].endswith("3D")]
    text = ""
    if flat:
        _draw_speed(name, flat)
        text += f"## One call of the network: {said}, image of {result['window']} pixels\n\n"
        text += f"![times against the area of the box](images/{name}.png)\n\n" + _ways(flat)
    if len(flat) < len(result["rows"]):
        text += f"## A volume of 96 pixels a side in one call: {said}\n\nUntrained networks: times hang on sizes alone. The box is an "
        text += "eighth of the volume and ends between two tokens.\n\n" + _ways([row for row in result["rows"] if row not in flat])
    # the parts are those of one slice
    parts = result.get("parts", []) if any(row["batch"] == 1 for row in flat) else []
    return text + _parts(said, parts) + _peers(said, result.get("peers", []))


def _gpu(name: str, result: dict[str, Any]) -> str:
    """On a GPU, eager and captured; a picture of the captured calls where several boxes were measured."""
    kinds = ", ".join(dict.fromkeys(row["dtype"] for row in result["rows"]))
    text = f"## One call of the network: {result['device']}, {kinds}, image of {result['window']} pixels or 96 pixels cubed\n\n"
    flat = [{**row, "way": row["way"].removesuffix(CAPTURED)} for row in result["rows"] if row["way"].endswith(CAPTURED)]
    flat = [row for row in flat if not row["model"].endswith("3D")]
    if len({row["box_edge"] for row in flat}) > 1:
        _draw_speed(name, flat)
        text += gpu_said() + f"![times of captured calls against the area of the box](images/{name}.png)\n\n"
    head, *rows = gpu_part(result)
    return text + markdown_table(head, [[_TITLES.get(model, model), *rest] for model, *rest in rows])


def _parts(said: str, rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    head = ["network", "way", "encoder", "scoring", "decoder", "together", "patches and first block", "their share, %"]
    lines = [
        [_TITLES.get(row["model"], row["model"]), row["way"]]
        + [f"{row['ms'][part]:.1f}" for part in ("encoder", "scoring", "decoder", "network", "first")]
        # with stage 0 that block is not run on all tokens
        + [f"{100 * row['ms']['first'] / row['ms']['network']:.0f}" if row["way"].endswith("without stage 0") else ""]
        for row in rows
    ]
    text = f"## Where a slice's time goes: {said}\n\nMedians in ms of the processor's work, a box of {rows[0]['box_edge']} pixels. "
    text += "Embedding patches and the first block (Swin: its first stage) of all tokens hang on no box where the window does not: their "
    text += (
        "share is what a second box in the same window saves. The app keeps them with the image, its normalised and resampled slices and "
    )
    text += "the locator's proposal: windows begin at multiples of 8 pixels, so that a box moved a little stays in its window. The shipped "
    text += (
        "models' plans look at no box until after the fourth block (UNETR, which saves more than the table says) or the first stage (Swin "
    )
    text += "UNETR). With stage 0 the patches alone are kept.\n\n"
    return text + markdown_table(head, lines)


def _peers(said: str, rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    measured = [row for row in rows if "dice" in row]
    structures = list(measured[0]["dice"]) if measured else []
    lines = [
        [row["model"]]
        + ([f"{row['dice'][s]:.3f}" for s in structures] + [f"{row['ms_a_volume']:.0f}"] if "dice" in row else [row["status"]])
        for row in rows
    ]
    text = f"## Beside others' models: {said}\n\n"
    if measured:
        text += f"DSC on {measured[0]['studies']} volume(s) of the validation patients, and the median ms of a volume. Ours get the tight "
        text += (
            "box of the heart; LiteMedSAM the tight box of every structure on every slice; myopari none, and it may have been trained on "
        )
        text += "these hearts.\n\n"
    return text + markdown_table(["model", *structures, "ms a volume"], lines)


def _ways(rows: list[dict[str, Any]]) -> str:
    head = [
        "network",
        "slices a call",
        "box, % of the image",
        "way",
        "ms (quartiles)",
        "times faster than dense",
        "processor ms",
        "times less than dense",
        "GFLOP",
    ]
    lines = [
        [
            _TITLES.get(row["model"], row["model"]),
            str(row["batch"]),
            f"{100 * row['box_area']:.0f}",
            row["way"] + (f" ({100 * row['tokens_dropped']:.0f} % of tokens dropped)" if "tokens_dropped" in row else ""),
            f"{row['ms']:.0f} ({row['ms_quartiles'][0]:.0f} to {row['ms_quartiles'][1]:.0f})",
            f"{row['times_faster_than_dense']:.2f}",
            f"{row['processor_ms']:.0f}" if "processor_ms" in row else "",
            f"{row['less_work_than_dense']:.2f}" if "processor_ms" in row else "",
            f"{row['gflops']:.1f}",
        ]
        for row in rows
    ]
    return markdown_table(head, lines)


def _draw_speed(name: str, measured: list[dict[str, Any]]) -> None:
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
            panel.set(title=f"{_TITLES.get(model, model)}, {batch} a call", xlabel="box, % of the image", ylabel="ms", ylim=(0, None))
            panel.grid(alpha=0.3)
    panels[0][0].legend(fontsize=6, loc="center right", bbox_to_anchor=(1.0, 0.58))
    _saved(figure, name)


def _http(result: dict[str, Any]) -> str:
    steps = list(result["rows"][0]["steps_ms"])
    rows = [
        [row["model"], row["request"], f"{row['ms']:.0f} ({row['ms_quartiles'][0]:.0f} to {row['ms_quartiles'][1]:.0f})"]
        + [f"{row['steps_ms'][step]:.0f}" for step in steps]
        for row in result["rows"]
    ]
    note = f"A warm server, {result['slices']} slices; medians in ms. *http* is all that is not the app's."
    if result.get("frames"):
        note += f" A cine has {result['frames']} frames: those of one slice are one request, those of a stack one request for each frame, "
        note += "one after another, from the first prompt to the last mask; their steps are sums."
    return f"## Whole requests over HTTP: {result['device']}\n\n{note}\n\n" + markdown_table(["model", "request", "whole", *steps], rows)


def _saved(figure: Any, name: str) -> None:
    figure.tight_layout()
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / f"{name}.png", dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    typer.run(main)
