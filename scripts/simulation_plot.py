"""docs/images/simulation.png, and how far the goals are reached, from what scripts/simulate_loop.py measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import typer

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_DOCS = Path(__file__).parents[1] / "docs"
_COLOURS = {"random": "0.45", "jitter": "tab:blue", "phases": "tab:orange", "entropy": "tab:green"}
#: The goals: share of the Dice that all patients give, share of the patients, and minutes a round.
_DICE, _PATIENTS, _MINUTES = 0.95, 0.25, 10.0


def main() -> None:
    """Dice and corrected voxels against labelled patients, one line a strategy, pruning and seed."""
    found = json.loads((_DOCS / "results" / "simulation.json").read_text())
    rows = found["rows"]
    runs: dict[tuple[str, int, bool], list[dict[str, Any]]] = {}
    for row in rows:
        runs.setdefault((row["strategy"], row["seed"], row["pruned"]), []).append(row)
    figure, (dice, voxels) = plt.subplots(1, 2, figsize=(10, 3.8))
    for (strategy, seed, pruned), run in runs.items():
        if strategy == "all":
            dice.axhline(
                _DICE * run[0]["dice"], color="k", ls=":", lw=1, label=f"{_DICE:.0%} of all {run[0]['labelled_patients']} patients'"
            )
            continue
        label = f"{strategy}, {'pruned' if pruned else 'dense'}, seed {seed}"
        style: dict[str, Any] = {"color": _COLOURS[strategy], "ls": "-" if pruned else "--", "marker": "o", "ms": 4, "label": label}
        patients = [row["labelled_patients"] for row in run]
        dice.plot(patients, [row["dice"] for row in run], **style)
        voxels.plot(patients, [row["corrected_voxels_per_study"] for row in run], **style)
        _tell(label, run, runs[("all", seed, pruned)][0], runs.get(("random", seed, pruned), []))
    budget = found["budget"]
    dice.set(xlabel="labelled patients", ylabel=f"Dice, {budget['validation_patients']} validation patients, tight box")
    voxels.set(xlabel="labelled patients", ylabel="voxels corrected a study, in the round")
    for panel in (dice, voxels):
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.suptitle(f"{budget['network']}, {budget['steps']} steps of {budget['batch']} slices from fresh weights a round", fontsize=10)
    figure.tight_layout()
    figure.savefig(_DOCS / "images" / "simulation.png", dpi=110)


def _tell(label: str, run: list[dict[str, Any]], everybody: dict[str, Any], random: list[dict[str, Any]]) -> None:
    most = _PATIENTS * everybody["labelled_patients"]
    reached = [row["labelled_patients"] for row in run if row["dice"] >= _DICE * everybody["dice"]]
    at = f"with {min(reached)} patients" if reached else f"not with {run[-1]['labelled_patients']}"
    minutes = max(sum(row["seconds"].values()) for row in run) / 60
    typer.echo(f"{label}: {_DICE:.0%} of the full Dice ({everybody['dice']:.3f}) {at} (goal: {most:.0f} at most);")
    typer.echo(f"  the longest round took {minutes:.1f} min (goal: {_MINUTES:.0f} at most);")
    # all strategies begin with the same patients
    ours, theirs = (sum(row["corrected_voxels_per_study"] for row in each[1:]) for each in (run, random[: len(run)]))
    if theirs and run is not random:
        typer.echo(f"  voxels corrected a study: {ours / theirs:.2f} times random's (goal: below 1).")


if __name__ == "__main__":
    typer.run(main)
