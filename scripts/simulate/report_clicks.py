"""The tables of docs/measured/clicks.md and the refiner's model card, from what the click scripts beside this one and in bench measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from prato.data.atomic import write_bytes
from prato.data.structures import STRUCTURES
from prato.models.checkpoint import load_model
from prato.training.click_trainer import ClickRecipe
from scripts.common.markdown import fill_page, markdown_table
from scripts.common.paths import DOCS, REFINER, RESULTS
from scripts.common.results import Row, read_rows

#: Stands for "never" where clicks are ranked.
_NEVER = 10**6


def main() -> None:
    """Write them."""
    rows = _shown(read_rows(RESULTS / "clicks.csv"))
    requests, times = read_rows(RESULTS / "click_requests.csv"), read_rows(RESULTS / "click_http.csv")
    table = _courses(rows)
    blocks = {"clicks": table, "structures": _structures(rows), "requests": _requests(requests), "times": _times(times)}
    blocks["parts"] = _parts(read_rows(RESULTS / "wrong_parts.csv"))
    blocks["guidance"] = _guidance(read_rows(RESULTS / "guidance.csv"), rows)
    fill_page(DOCS / "measured" / "clicks.md", blocks)
    write_bytes(REFINER.with_suffix(".md"), _card(table).encode())


def _shown(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows by labeller and way; of the discs, those of the radius with the best DSC after ten clicks."""
    by: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by.setdefault((row["labeller"], row["way"]), []).append(row)
    for labeller in {labeller for labeller, _ in by}:
        discs = sorted((fmean(_dice(by[key], "10")), key) for key in by if key[0] == labeller and key[1].startswith("disc"))
        for _, key in discs[:-1]:
            del by[key]
    order = ("refined", "followed", "disc", "DeepEdit", "whole part")
    return dict(sorted(by.items(), key=lambda item: (item[0][0], [item[0][1].startswith(start) for start in order].index(True))))


def _dice(rows: Sequence[Row], clicks: str) -> list[float]:
    return [row["dice"][clicks] for row in rows]


def _median(rows: Sequence[Row], value: Callable[[Row], float]) -> float:
    return float(np.median([value(row) for row in rows]))


def _until(rows: Sequence[Row], goal: int, what: str = "mean") -> str:
    """Median, 90th percentile and share of never."""
    found = [row[f"clicks_to_{goal}"][what] for row in rows]
    ranked = np.percentile([_NEVER if n is None else n for n in found], (50, 90), method="higher")
    middle, most = ("> 20" if n == _NEVER else f"{n:.0f}" for n in ranked)
    return f"{middle}, {most}, {np.mean([n is None for n in found]):.0%}"


def _courses(by: dict[tuple[str, str], list[Row]]) -> str:
    head = ["labeller", "a click is", "DSC before", "after 5", "10", "20", "clicks to .95"]
    head += ["error left after 10", "voxels left after 10", "correct clicks that raise DSC", "that lower it by > .01", "ms"]
    lines = []
    for (labeller, way), rows in by.items():
        right = sum(row["right_clicks"] for row in rows)
        cells = [labeller, way, *(f"{np.median(_dice(rows, n)):.3f}" for n in ("0", "5", "10", "20")), _until(rows, 95)]
        cells.append(f"{_median(rows, lambda row: (1 - row['dice']['10']) / (1 - row['dice']['0'])):.0%}")
        cells.append(f"{_median(rows, lambda row: row['wrong_voxels']['10'] / row['wrong_voxels']['0']):.0%}")
        cells += [f"{sum(row['raised'] for row in rows) / right:.1%}", f"{sum(row['lowered'] for row in rows) / right:.1%}"]
        lines.append([*cells, f"{_median(rows, lambda row: row['ms'] or 0.0):.1f}"])
    studies = len(next(iter(by.values())))
    about = f"Medians over {studies} studies of validation patients, with a tight box each. Clicks to a DSC: median, 90th percentile, and "
    about += "the fraction that is not there after 20."
    return about + "\n\n" + markdown_table(head, lines)


def _structures(by: dict[tuple[str, str], list[Row]]) -> str:
    lines = [[*key, *(_until(rows, 95, name) for name in STRUCTURES)] for key, rows in by.items() if key[1] != "followed"]
    return markdown_table(["labeller", "a click is", *(f"{name}, clicks to .95" for name in STRUCTURES)], lines)


def _parts(rows: list[Row]) -> str:
    repaired, damaged = (sum(row[f"beside_{what}"] for row in rows) for what in ("repaired", "damaged"))

    def middle(name: str) -> float:
        return _median(rows, lambda row: row[name])

    lines = [
        ["wrong parts of a study", f"{middle('parts'):.0f}"],
        ["voxels of one of the ten largest", f"{middle('largest_median'):.0f}"],
        ["fraction of the error in the ten largest", f"{middle('share_of_largest'):.0%}"],
        ["fraction of the error in parts that are one or two voxels wide", f"{middle('share_of_thin'):.0%}"],
        ["error left if all contours of a structure were moved together, by the best amount", f"{middle('left_if_study_moves'):.0%}"],
        ["the same, in each slice separately", f"{middle('left_if_slice_moves'):.0%}"],
        ["voxels corrected in neighbouring slices if the ten largest were corrected there, too", f"{repaired}"],
        ["voxels made wrong there", f"{damaged}"],
    ]
    return markdown_table(["", "median, or sum"], lines)


def _guidance(rows: list[Row], shown: dict[tuple[str, str], list[Row]]) -> str:
    by: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        by.setdefault((row["entry"], row["labeller"], row["steps"] * ClickRecipe(row["steps"]).batch), []).append(row)
    for labeller in dict.fromkeys(labeller for _, labeller, _ in by):
        deepedit = shown[labeller, "DeepEdit"]
        by["DeepEdit", labeller, deepedit[0]["slices"]] = deepedit
    lines = []
    for (entry, labeller, seen), group in by.items():
        right = sum(row["right_clicks"] for row in group)
        cells = [entry, labeller, f"{seen:,}", *(f"{fmean(_dice(group, n)):.4f}" for n in ("0", "5", "10", "20"))]
        lines.append([*cells, f"{sum(row['raised'] for row in group) / right:.1%}"])
    head = ["guidance enters", "labeller", "slices seen", "mean DSC before", "after 5", "10", "20", "correct clicks that raise DSC"]
    return markdown_table(head, lines)


def _requests(rows: list[Row]) -> str:
    lines = []
    for title, key, before in (
        ("ten points in one request", "dice", "points as a box"),
        ("slices beside right ones", "other_slices", "as they were"),
    ):
        for name in rows[0][key]:
            values = [row[key][name] for row in rows]
            better = np.mean([row[key][name] > row[key][before] for row in rows])
            lines.append([title, name, f"{fmean(values):.3f}", "" if name == before else f"{better:.0%}"])
    return markdown_table(["", "", "mean DSC", "better in"], lines)


def _times(rows: list[Row]) -> str:
    found = {(row["part"], row["beside"]): f"{row['median']:.1f}, {row['p90']:.1f}" for row in rows}
    parts, beside = (list(dict.fromkeys(row[name] for row in rows)) for name in ("part", "beside"))
    devices = ", ".join(dict.fromkeys(row["device"] for row in rows))
    lines = [[part, *(found.get((part, job), "-") for job in beside)] for part in parts]
    return markdown_table([f"median, 90th percentile ({devices})", *(f"beside {job}" for job in beside)], lines)


def _card(table: str) -> str:
    network, spec, version = load_model(REFINER)
    training: dict[str, Any] = spec.training
    minutes = training.get("seconds", 0) / 60
    weights = sum(parameter.numel() for parameter in network.parameters())
    spent = f"{training.get('steps')} steps, {ClickRecipe(1).batch} clicks each, {minutes:.0f} min on a CPU thread that others used, too"
    return f"""# The network behind a click

- File: `{REFINER.name}`, version `{version}`, {REFINER.stat().st_size / 1e6:.1f} MB (half precision, safetensors), {weights:,} weights
- Data: ACDC (Bernard et al., IEEE TMI 2018), ED and ES of the 80 training patients of `docs/results/acdc_split.json`
- Licence of the weights: research, non-commercial, as ACDC's data (CC BY-NC-SA 4.0); the code is Apache-2.0
- Seed {training.get("seed")}; {spent}
- Command: `{training.get("command")}` at commit `{training.get("commit")}`
- {training.get("note", "Trained in one go.")}
- Not for clinical use: trained on one centre's scanners, one sequence, adults.

## Validation patients

{table.rstrip()}
"""
