"""The picture, the tables and the verdicts of the pages on the simulated loop, from what simulate_loop.py and score_study.py measured."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import Any

import matplotlib
import typer

from scripts.common.figures import legend_below
from scripts.common.markdown import fill_page, grid, markdown_table
from scripts.common.paths import DOCS, IMAGES, RESULTS
from scripts.common.results import Row, read_rows
from scripts.simulate.score_study import rank_correlations
from scripts.simulate.summary import DICE, MINUTES, PATIENTS, Run, against, mean_goal, runs

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

_COLOURS = {"random": "0.45", "jitter": "tab:blue", "phases": "tab:orange", "entropy": "tab:green", "coverage": "tab:red"}


def main() -> None:
    """Dice and corrected voxels against labelled patients, by strategy, pruning and seed."""
    rounds = read_rows(RESULTS / "simulation.csv")
    all_runs, budget = runs(rounds), rounds[0]["budget"]
    _plot(all_runs, budget)
    parts = [_table(all_runs), _verdicts(all_runs), _making(rounds, budget)]
    blocks = {"simulation": "\n".join(parts), "scores": _scores(read_rows(RESULTS / "scores.csv"))}
    fill_page(DOCS / "measured" / "simulation.md", {**blocks, "clicks": _clicks(read_rows(RESULTS / "loop_clicks.csv"))})


def _name(run: Run) -> str:
    return f"{run.strategy}, {'pruned' if run.key[1] else 'dense'}"


def _clicks(rows: list[Row]) -> str:
    """Voxels left to correct by round: painting alone, and after the clicks of each labeller."""
    labellers = list(dict.fromkeys(row["labeller"] for row in rows))
    lines = []
    for patients in dict.fromkeys(row["labelled_patients"] for row in rows):
        own = {row["labeller"]: row for row in rows if row["labelled_patients"] == patients}
        first = own[labellers[0]]
        alone = first["voxels"]["painting_alone"]
        left = [own[labeller]["voxels"]["after_clicks"] for labeller in labellers]
        lines.append([str(patients), f"{alone / first['studies']:.0f}", *(f"{n / first['studies']:.0f} ({n / alone:.0%})" for n in left)])
    return markdown_table(
        ["labelled patients", "painting alone", *(f"after {rows[0]['clicks']} clicks, {who}" for who in labellers)], lines
    )


def _plot(all_runs: list[Run], budget: dict[str, Any]) -> None:
    """Every run thin, the mean of its seeds thick."""
    figure, grid = plt.subplots(2, 2, figsize=(11, 8.4))
    panels = grid.ravel()
    named: dict[str, list[Run]] = {}
    for run in all_runs:
        named.setdefault(_name(run), []).append(run)
    for label, members in named.items():
        first = members[0]
        style: dict[str, Any] = {"color": _COLOURS[first.strategy], "ls": "-" if first.key[1] else "--"}
        curves = [_curves(run) for run in members]
        for panel, lines in zip(panels, zip(*curves)):
            for x, y in lines:
                panel.plot(x, y, **style, lw=0.8, alpha=0.5)
            rounds = range(min(len(x) for x, _ in lines))
            across, up = ([fmean(line[axis][n] for line in lines) for n in rounds] for axis in (0, 1))
            seeds = f" ({len(members)} seeds)" if len(members) > 1 else ""
            panel.plot(across, up, **style, lw=2, marker="o", ms=4, label=label + seeds)
    for pruned, ls in ((True, ":"), (False, "-.")):
        if goal := mean_goal(all_runs, pruned):
            dice, patients = goal  # each run is held against its own seed's
            panels[0].axhline(
                dice, color="k", ls=ls, lw=1, label=f"{DICE:.0%} of all {patients} patients', {'pruned' if pruned else 'dense'}"
            )
    axes = (
        ("labelled patients", f"Dice, {budget['validation_patients']} validation patients"),
        ("thousand voxels corrected since the first round", f"Dice, {budget['validation_patients']} validation patients"),
        ("labelled patients", "thousand voxels per study, chosen patients"),
        ("labelled patients", "thousand voxels per study, validation patients"),
    )
    for panel, (x_label, y_label) in zip(panels, axes):
        panel.set(xlabel=x_label, ylabel=y_label)
        panel.grid(alpha=0.3)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, columns=4)
    figure.savefig(IMAGES / "simulation.png", dpi=110)


def _curves(run: Run) -> list[tuple[list[float], list[float]]]:
    """What each panel shows of ``run``: x and y."""
    patients, dice = [float(n) for n in run.patients], [row["dice"] for row in run.rows]
    spent = [0.0, *(voxels / 1000 for voxels in run.spent(len(run.rows)))]
    a_study = [row["corrected"]["voxels"] / row["corrected"]["studies"] / 1000 for row in run.rows[1:]]
    left = [row["validation_voxels"] / 1000 for row in run.rows]
    return [(patients, dice), (spent, dice), (patients[1:], a_study), (patients, left)]


def _table(all_runs: list[Run]) -> str:
    head = [
        "strategy",
        "seed",
        "patients",
        "Dice",
        "of *all*",
        "from",
        "voxels per study: archive",
        "chosen",
        "share of hearts",
        "longest round",
    ]
    lines = []
    for run in all_runs:
        last, rounds = run.rows[-1], len(run.rows)
        share = f"{last['dice'] / run.goal['dice']:.1%}" if run.goal else ""
        archive = f"{run.archive:.0f}" if run.archive else ""
        cells = [_name(run), run.key[0], run.patients[-1], f"{last['dice']:.3f}", share, run.reached() or "not yet"]
        cells += [archive, f"{run.a_study(rounds):.0f}", f"{run.of_heart(rounds):.1%}", f"{run.minutes:.1f} min"]
        lines.append([*map(str, cells)])
    return grid(head, lines)


def _verdicts(all_runs: list[Run]) -> str:
    """The goals, one by one, in words and tables."""
    parts = []
    goals = [run.goal for run in all_runs if run.goal]
    most = PATIENTS * goals[0]["labelled_patients"] if goals else 0
    judged = [run for run in all_runs if run.goal and run.patients[-1] >= most]  # one that is not done yet may still reach it
    if judged:
        good = [run for run in judged if (run.reached() or most + 1) <= most]
        word = "holds in every run" if len(good) == len(judged) else f"holds in {len(good)} of {len(judged)} runs"
        parts.append(f"- **{DICE:.0%} of the full-data Dice with at most {most:.0f} patients**: {word}{_exceptions(judged, good)}.\n")
    longest = max(run.minutes for run in all_runs)
    kept = "holds" if longest < MINUTES else "does not hold"
    parts.append(
        f"- **A round in less than {MINUTES:.0f} minutes**: {kept} for this small network; the longest took {longest:.1f} minutes.\n"
    )
    return "".join([*parts, "\n", _compared(all_runs), "\n", _dense(all_runs)])


def _exceptions(judged: list[Run], good: list[Run]) -> str:
    others = [f"{_name(run)}, seed {run.key[0]}" for run in judged if run not in good]
    return f" (not {'; '.join(others)})" if others else ""


def _compared(all_runs: list[Run]) -> str:
    """How much work each strategy makes beside random, seed by seed, in as many rounds: in who was chosen, and in the whole archive."""
    columns: dict[str, list[str]] = {}
    for strategy in dict.fromkeys(run.strategy for run in all_runs if run.strategy != "random"):
        pairs = [(run, other) for run in all_runs if run.strategy == strategy and (other := against(run, all_runs))]
        if pairs:
            columns[strategy] = _beside_random(pairs)
    measures = [
        "**per study of the whole archive**",
        "per study of a validation patient, mean of all rounds",
        "per study of a chosen patient",
        "the same, as a fraction of their hearts",
        f"in all studies chosen until the Dice stayed above {DICE:.0%} of that of *all*",
        "in all studies chosen until the Dice reached that of the last model of random",
        "Dice minus that of random, after as many rounds as both have",
    ]
    lines = [[measure, *cells] for measure, *cells in zip(measures, *columns.values())]
    said = "Corrected voxels as a multiple of those with random, a number for each seed; *-* where one of the two did not get there:\n\n"
    return said + grid(["measure", *(f"`{strategy}`" for strategy in columns)], lines)


def _beside_random(pairs: list[tuple[Run, Run]]) -> list[str]:
    """The cells of one strategy, of its runs with those of random."""

    def ratios(values: Iterable[tuple[float | None, float | None]]) -> str:
        return ", ".join(f"{one / two:.2f}" if one and two else "-" for one, two in values)

    rounds = [(run, other, min(len(run.rows), len(other.rows))) for run, other in pairs]
    dice = [run.rows[n - 1]["dice"] - other.rows[n - 1]["dice"] for run, other, n in rounds]
    return [
        ratios((run.archive, other.archive) for run, other in pairs),
        ratios((run.validation(n), other.validation(n)) for run, other, n in rounds),
        ratios((run.spent(n)[-1], other.spent(n)[-1]) for run, other, n in rounds),
        ratios((run.of_heart(n), other.of_heart(n)) for run, other, n in rounds),
        ratios((run.spent_to_goal(), other.spent_to_goal()) for run, other in pairs),
        ratios((run.spent_until(other.rows[n - 1]["dice"]), other.spent(n)[-1]) for run, other, n in rounds),
        ", ".join(f"{each:+.3f}" for each in dice),
    ]


def _dense(all_runs: list[Run]) -> str:
    """What training without pruning changes."""
    lines = []
    for run in (each for each in all_runs if not each.key[1]):
        other = next((each for each in all_runs if each.strategy == run.strategy and each.key == (run.key[0], True)), None)
        if other:
            n = min(len(run.rows), len(other.rows))
            # the machine did other things as well, and every run of as many patients takes as many steps: the least disturbed one counts
            alike = [[each for each in all_runs if each.key[1] == pruned and len(each.rows) >= n] for pruned in (True, False)]
            train = [fmean(min(one.rows[r]["seconds"]["train"] for one in each) for r in range(1, n)) for each in alike]
            cells = [
                " / ".join(form.format(value) for value in values)
                for form, values in (
                    ("{:.3f}", (other.rows[n - 1]["dice"], run.rows[n - 1]["dice"])),
                    ("{:.0f}", (other.a_study(n), run.a_study(n))),
                    ("{:.1f}", train),
                )
            ]
            lines.append([f"`{run.strategy}`, seed {run.key[0]}, {run.patients[n - 1]} patients", *cells])
    head = ["pruned / dense", "Dice", "voxels corrected per study", "seconds of training per round (the fastest run of each)"]
    return grid(head, lines) if lines else ""


def _scores(rows: list[Row]) -> str:
    """How well each score ranks the studies by what is wrong in them."""
    lines = [[f"`{name}`", f"{both['1 - dice']:+.2f}", f"{both['share']:+.2f}"] for name, both in rank_correlations(rows).items()]
    head = ["score", "with 1 - Dice", "with the voxels to correct, as a fraction of the heart"]
    made = f"`{rows[0]['command']}` at `{rows[0]['commit']}`, model `{rows[0]['model_version']}`"
    return grid(head, lines) + f"\n{len(rows)} studies; made by {made}."


def _making(rows: list[Row], budget: dict[str, Any]) -> str:
    commits = ", ".join(f"`{commit}`" for commit in dict.fromkeys(row["commit"] for row in rows))
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in budget.items())
    where = ", ".join(dict.fromkeys(f"{row['device']}, {row['threads']} thread(s)" for row in rows))
    return f"Settings: {settings}. Measured on {where} at the commits {commits}; the commands are in the CSV rows."


if __name__ == "__main__":
    typer.run(main)
