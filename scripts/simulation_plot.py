"""The picture, the table and the goals of docs/simulation.md, from what scripts/simulate_loop.py measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import typer

from prato.data.atomic import write_bytes

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_DOCS = Path(__file__).parents[1] / "docs"
_COLOURS = {"random": "0.45", "jitter": "tab:blue", "phases": "tab:orange", "entropy": "tab:green"}
_BLOCK = re.compile(r"(<!-- simulation: begin -->\n).*?(<!-- simulation: end -->)", re.DOTALL)
#: The goals: share of the Dice that all patients give, share of the patients, and minutes a round.
_DICE, _PATIENTS, _MINUTES = 0.95, 0.25, 10.0

Run = list[dict[str, Any]]


def main() -> None:
    """Dice and corrected voxels against labelled patients, by strategy, pruning and seed."""
    found = json.loads((_DOCS / "results" / "simulation.json").read_text())
    runs: dict[tuple[str, int, bool], Run] = {}
    for row in found["rows"]:
        runs.setdefault((row["strategy"], row["seed"], row["pruned"]), []).append(row)
    _plot(runs, found["budget"])
    page = _DOCS / "simulation.md"
    text = _BLOCK.sub(lambda block: block[1] + _table(runs, found["budget"]) + block[2], page.read_text())
    write_bytes(page, text.encode())


def _name(run: Run) -> str:
    return f"{run[0]['strategy']}, {'pruned' if run[0]['pruned'] else 'dense'}, seed {run[0]['seed']}"


def _plot(runs: dict[tuple[str, int, bool], Run], budget: dict[str, Any]) -> None:
    figure, (dice, voxels) = plt.subplots(1, 2, figsize=(10, 3.8))
    for (strategy, _, pruned), run in runs.items():
        if strategy == "all":
            goal = f"{_DICE:.0%} of all {run[0]['labelled_patients']} patients'"
            dice.axhline(_DICE * run[0]["dice"], color="k", ls=":" if pruned else "-.", lw=1, label=goal)
            continue
        style: dict[str, Any] = {"color": _COLOURS[strategy], "ls": "-" if pruned else "--", "marker": "o", "ms": 4, "label": _name(run)}
        patients = [row["labelled_patients"] for row in run]
        dice.plot(patients, [row["dice"] for row in run], **style)
        voxels.plot(patients, [row["corrected_voxels_per_study"] for row in run], **style)
    dice.set(xlabel="labelled patients", ylabel=f"Dice, {budget['validation_patients']} validation patients, tight box")
    voxels.set(xlabel="labelled patients", ylabel="voxels corrected a study, in the round")
    for panel in (dice, voxels):
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.suptitle(f"{budget['network']}, {budget['steps']} steps of {budget['batch']} slices from fresh weights a round", fontsize=10)
    figure.tight_layout()
    figure.savefig(_DOCS / "images" / "simulation.png", dpi=110)


def _table(runs: dict[tuple[str, int, bool], Run], budget: dict[str, Any]) -> str:
    lines = ["| strategy | labelled patients | Dice | voxels corrected a study | minutes of the round |", "| --- | --- | --- | --- | --- |"]
    for run in runs.values():
        for row in run:
            corrected, minutes = row.get("corrected_voxels_per_study", ""), _minutes(row)
            lines.append(f"| {_name(run)} | {row['labelled_patients']} | {row['dice']:.3f} | {corrected} | {minutes:.1f} |")
    lines.append("")
    for (strategy, seed, pruned), run in runs.items():
        if strategy != "all" and ("all", seed, pruned) in runs:
            lines.append(_goals(run, runs["all", seed, pruned][0], runs.get(("random", seed, pruned), [])))
    made = sorted(
        {f"`{row['command']}` at `{row['commit']}`, {row['device']}, {row['threads']} thread(s)" for run in runs.values() for row in run}
    )
    return "\n".join([*lines, "", f"Budget: {json.dumps(budget)}; made by {'; '.join(made)}.", ""])


def _minutes(row: dict[str, Any]) -> float:
    return float(sum(row["seconds"].values())) / 60


def _goals(run: Run, everybody: dict[str, Any], random: Run) -> str:
    most = _PATIENTS * everybody["labelled_patients"]
    below = [n for n, row in enumerate(run) if row["dice"] < _DICE * everybody["dice"]]
    stays = run[below[-1] + 1 :] if below else run  # reaching it once by chance is not enough
    at = f"from {stays[0]['labelled_patients']} patients on" if stays else f"not with {run[-1]['labelled_patients']} patients"
    text = f"- {_name(run)}: {_DICE:.0%} of the full-data Dice {at} (goal: {most:.0f} at most); "
    text += f"longest round {max(map(_minutes, run)):.1f} min (goal: {_MINUTES:.0f})"
    # all strategies begin with the same patients; what counts is what they chose, in as many rounds
    ours, theirs = run[1:], random[1 : len(run)]
    if run is not random and len(ours) == len(theirs) > 0:
        ratio = sum(row["corrected_voxels_per_study"] for row in ours) / sum(row["corrected_voxels_per_study"] for row in theirs)
        text += f"; {ratio:.2f} times the voxels corrected with random (goal: below 1)"
    return text + "."


if __name__ == "__main__":
    typer.run(main)
