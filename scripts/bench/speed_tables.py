"""The tables of what was measured in speed, one after another: docs/results/speed_tables.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.bench.gpu_tables import gpu_part, gpu_said
from scripts.bench.timing import CAPTURED
from scripts.common.markdown import markdown_table

TITLES = {"prato_unetr": "UNETR", "prato_swin_unetr": "Swin UNETR"}
FLOOR = """What is decoded equals the dense network's numbers, so each convolution also computes the rim that the next one looks
at, where the crop has zeros. That alone, without any encoder and without context, is as much arithmetic as the whole of
the crop or more (GFLOP of a slice):

"""


def speed_tables(benchmarks: Mapping[str, dict[str, Any]], requests: list[dict[str, Any]], floor: list[dict[str, Any]]) -> str:
    """Markdown of every measurement.

    Args:
        benchmarks: by name, each with ``rows``, ``parts`` and ``peers``, device, threads and window. requests: one a device, with ``rows``.
        floor: rows of crop_floor.csv.
    """
    text = "## What decoding a box exactly costs at least\n\n" + FLOOR + markdown_table(*_floor(floor))
    return text + "".join(_speed(name, result) for name, result in benchmarks.items()) + "".join(map(_http, requests))


def _floor(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    ways = list(rows[0]["gflops"])
    lines = []
    for row in rows:
        gflops = row["gflops"]
        area = 100 * (row["box_edge"] / row["image"]) ** 2
        counts = [f"{gflops[way]:.2f}" for way in ways]
        lines.append([TITLES[row["model"]], f"{area:.0f}", *counts, f"{gflops[ways[-1]] / gflops['crop']:.2f}"])
    return ["network", "box, % of the image", *ways, f"{ways[-1]}, of the crop"], lines


def _speed(name: str, result: dict[str, Any]) -> str:
    if is_gpu(result):
        return _gpu(name, result)
    said = f"{result['device']}, {result['threads']} thread{'s' * (result['threads'] > 1)}"
    flat = [row for row in result["rows"] if not row["model"].endswith("3D")]
    text = ""
    if flat:
        text += f"## One call of the network: {said}, image of {result['window']} pixels\n\n"
        text += f"![times against the area of the box](../images/benchmark_{name}.png)\n\n" + _ways(flat)
    if len(flat) < len(result["rows"]):
        text += f"## A volume of 96 pixels a side in one call: {said}\n\nUntrained networks: times depend on sizes alone. The box is an "
        text += "eighth of the volume and ends between two tokens.\n\n" + _ways([row for row in result["rows"] if row not in flat])
    # the parts are those of one slice
    parts = result.get("parts", []) if any(row["batch"] == 1 for row in flat) else []
    return text + _parts(said, parts) + _peers(said, result.get("peers", []))


def quartiles(row: Mapping[str, Any]) -> str:
    """Median and quartiles of the ms that ``row`` is of, in words."""
    return f"{row['ms']:.0f} ({row['ms_q25']:.0f} to {row['ms_q75']:.0f})"


def is_gpu(result: Mapping[str, Any]) -> bool:
    """Whether a benchmark ran on a GPU."""
    return any("peak_mib" in row for row in result["rows"])


def _gpu(name: str, result: dict[str, Any]) -> str:
    """On a GPU, eager and captured; a picture of the captured calls where several boxes were measured."""
    kinds = ", ".join(dict.fromkeys(row["dtype"] for row in result["rows"]))
    text = f"## One call of the network: {result['device']}, {kinds}, image of {result['window']} pixels or 96 pixels cubed\n\n"
    flat = [{**row, "way": row["way"].removesuffix(CAPTURED)} for row in result["rows"] if row["way"].endswith(CAPTURED)]
    flat = [row for row in flat if not row["model"].endswith("3D")]
    if len({row["box_edge"] for row in flat}) > 1:
        text += gpu_said() + f"![times of captured calls against the area of the box](../images/benchmark_{name}.png)\n\n"
    head, *rows = gpu_part(result)
    return text + markdown_table(head, [[TITLES.get(model, model), *rest] for model, *rest in rows])


def _parts(said: str, rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    head = ["network", "way", "encoder", "scoring", "decoder", "together", "patches and first block", "their share, %"]
    lines = [
        [TITLES.get(row["model"], row["model"]), row["way"]]
        + [f"{row['ms'][part]:.1f}" for part in ("encoder", "scoring", "decoder", "network", "first")]
        # with stage 0 that block is not run on all tokens
        + [f"{100 * row['ms']['first'] / row['ms']['network']:.0f}" if row["way"].endswith("without stage 0") else ""]
        for row in rows
    ]
    text = f"## Where a slice's time goes: {said}\n\nMedians in processor ms, a box of {rows[0]['box_edge']} pixels.\n\n"
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
        text += f"DSC on {measured[0]['studies']} volume(s) of the validation patients, and the median ms of a volume.\n\n"
    return text + markdown_table(["model", *structures, "ms per volume"], lines)


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
            TITLES.get(row["model"], row["model"]),
            str(row["batch"]),
            f"{100 * row['box_area']:.0f}",
            row["way"] + (f" ({100 * row['tokens_dropped']:.0f} % of tokens dropped)" if "tokens_dropped" in row else ""),
            quartiles(row),
            f"{row['times_faster_than_dense']:.2f}",
            f"{row['processor_ms']:.0f}" if "processor_ms" in row else "",
            f"{row['less_work_than_dense']:.2f}" if "processor_ms" in row else "",
            f"{row['gflops']:.1f}",
        ]
        for row in rows
    ]
    return markdown_table(head, lines)


def _http(result: dict[str, Any]) -> str:
    steps = list(result["rows"][0]["steps_ms"])
    rows = [[row["model"], row["request"], quartiles(row)] + [f"{row['steps_ms'][step]:.0f}" for step in steps] for row in result["rows"]]
    note = f"Medians in ms; {result['slices']} slices" + (f", cines of {result['frames']} frames." if result.get("frames") else ".")
    return f"## Whole requests over HTTP: {result['device']}\n\n{note}\n\n" + markdown_table(["model", "request", "whole", *steps], rows)
