"""Write docs/speed.md with its pictures, and docs/results/speed_tables.md, from the measurements in docs/results."""

from __future__ import annotations

from typing import Any

import typer

from prato.data.atomic import write_bytes
from scripts.bench.speed_figures import draw_speed, rows_to_draw, save_figure
from scripts.bench.speed_findings import Measured, findings
from scripts.bench.speed_goals import GOAL_COLUMNS, goal_rows, goal_summary, token_goal_rows
from scripts.bench.speed_tables import TITLES, is_gpu, speed_tables
from scripts.common.markdown import markdown_table
from scripts.common.paths import DOCS, RESULTS
from scripts.common.results import Row, read_rows
from scripts.research.tables.token_tables import read_token_study, token_part

_HEAD = """# What a box saves, and what it is worth

`make report` writes this page and its pictures from the measurements in [results](results): `benchmark.csv` (one call
of the network), `http.csv` (whole requests), `tokens.csv` (accuracy by kept tokens and box), `dense_twins.csv` (pruned
networks and the same networks trained dense) and `crop_floor.csv`. [All tables](results/speed_tables.md) are on another page.
[How it was measured](#how-it-was-measured) defines *window*, *plan*, *engine* and *crop*.

## What was learned

"""
_HOW = """## How it was measured

The ways to use a box are timed in turn in one process, because on a shared machine ratios of times mean more than times.

- *Dense*: the whole image. *Cut to the box* (the crop): only the box. *Window at the box*: the box with some context, as in
  the app, dense or with the model's pruning plan. All edges are multiples of 32 pixels, as the networks require.
- *Masked*, *dropped*: the model's plan on the whole image. Dropped tokens are hidden from the others, or not computed.
- *Engine*: tokens farther than 8 pixels from the box (16 in 3D) are never computed. Of the others, 75 % are dropped after
  the first block or stage, but none that the box touches. Only the kept region is decoded.
- *Crop* in the goals is the faster of two ways to cut to the box: with batch norms folded into the convolutions, as in the
  engine's decoder, or without. *Crop with context* is the dense window at the box.
- *Captured*: on a GPU, as one CUDA graph, which is how the app calls its networks.

"""
_TABLES_HEAD = """# What a box saves: all tables

Written by `make report` from the CSV files in this folder; [speed.md](../speed.md) says what they show. *Processor ms*
exclude the time spent waiting for other programs on the same machine. *Dense* and *cut to the box* are MONAI's own calls;
*norms folded* are the same with batch norms folded into the convolutions.

- *Where a slice's time goes*: without stage 0, embedding the patches and the first block (Swin UNETR: the first stage) depend
  on no box as long as the window stays in its place. Their share is what a second box in the same window saves, because the
  app keeps them with the image. Windows begin at multiples of 8 pixels, so a box that is moved a little stays in its window.
  The shipped models look at no box until after the fourth block (UNETR, which therefore saves more) or the first stage (Swin
  UNETR). With stage 0, only the embedded patches are kept.
- *Beside others' models*: ours get the tight box of the heart; LiteMedSAM gets the tight box of every structure on every
  slice. myopari gets none, and may have been trained on these hearts.
- *Whole requests over HTTP*: the server is warm; *http* is all the time not spent in the app. The frames of one slice are one
  request; those of a stack are one request each, one after another, and their times are sums.

## Goals

With at least 75 % of the tokens dropped, on one thread.

"""


def main() -> None:
    """docs/speed.md, docs/results/speed_tables.md, and a picture for each benchmark and study."""
    benchmarks = _benchmarks()
    requests = _grouped(read_rows(RESULTS / "http.csv"), "device", ("device", "computed_on", "slices", "frames"))
    studies = _studies()
    goals = goal_rows(list(benchmarks.values()), requests, TITLES)
    for network, seeds in studies.items():
        goals += token_goal_rows(TITLES[f"prato_{network}"], seeds)
    floor = read_rows(RESULTS / "crop_floor.csv")
    tables = _TABLES_HEAD + markdown_table(GOAL_COLUMNS, goals) + speed_tables(benchmarks, requests, floor)
    pictures = []
    for name, result in benchmarks.items():
        if rows := rows_to_draw(result, is_gpu(result)):
            draw_speed(f"benchmark_{name}", rows)
            threads = "" if is_gpu(result) else f", {result['threads']} thread{'s' * (result['threads'] > 1)}"
            pictures.append((f"benchmark_{name}", f"One call against the area of the box: {result['device']}{threads}"))
    for network, seeds in studies.items():
        part, figure = token_part(f"tokens_{network}", seeds)
        save_figure(figure, f"tokens_{network}")
        pictures.append((f"tokens_{network}", f"DSC against kept tokens, {TITLES[f'prato_{network}']}, under four boxes"))
        tables += part
    write_bytes(RESULTS / "speed_tables.md", (tables.rstrip() + "\n").encode())
    measured = Measured(benchmarks, requests, studies, floor, read_rows(RESULTS / "dense_twins.csv"))
    text = _HEAD + findings(measured) + "## Goals, and what was reached\n\n" + goal_summary(goals) + "## In pictures\n\n"
    text += "".join(f"**{title}**\n\n![{title}](images/{name}.png)\n\n" for name, title in pictures) + _HOW
    write_bytes(DOCS / "speed.md", (text.rstrip() + "\n").encode())


def _benchmarks() -> dict[str, dict[str, Any]]:
    """The benchmarks by the name under which their picture and tables stand."""
    found: dict[str, dict[str, Any]] = {}
    for table in ("rows", "parts", "peers"):
        file = {"rows": "benchmark", "parts": "benchmark_parts", "peers": "benchmark_peers"}[table]
        for row in read_rows(RESULTS / f"{file}.csv"):
            about: dict[str, Any] = {name: row[name] for name in ("device", "threads", "window") if name in row}
            own = found.setdefault(row["benchmark"], {**about, "rows": [], "parts": [], "peers": []})
            own[table].append(row)
    return found


def _grouped(rows: list[Row], by: str, about: tuple[str, ...]) -> list[dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for row in rows:
        found.setdefault(row[by], {**{name: row[name] for name in about}, "rows": []})["rows"].append(row)
    return list(found.values())


def _studies() -> dict[str, list[dict[str, Any]]]:
    """The studies of tokens by network, one for each seed."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row in read_token_study(RESULTS):
        seeds = found.setdefault(row["network"], {})
        seeds.setdefault(row["seed"], {"seed": row["seed"], "studies": row["studies"], "rows": []})["rows"].append(row)
    return {network: list(seeds.values()) for network, seeds in found.items()}


if __name__ == "__main__":
    typer.run(main)
