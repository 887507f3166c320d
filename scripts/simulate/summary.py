"""What the rows of a simulation say of the goals, run by run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from scripts.common.results import Row

#: The goals: share of the Dice that all patients give, share of the patients, and minutes a round on two CPU cores.
DICE, PATIENTS, MINUTES = 0.95, 0.25, 10.0


@dataclass(frozen=True)
class Run:
    """One strategy with one seed, ``goal`` being the row of the model that was trained on everybody (with another seed, if need be)."""

    rows: list[Row]
    goal: Row | None

    @property
    def strategy(self) -> str:
        """Its name."""
        return str(self.rows[0]["strategy"])

    @property
    def key(self) -> tuple[int, bool]:
        """Seed and whether it is pruned: what two runs that can be compared have in common."""
        return self.rows[0]["seed"], self.rows[0]["pruned"]

    @property
    def patients(self) -> list[int]:
        """Labelled patients, by round."""
        return [row["labelled_patients"] for row in self.rows]

    def reached(self) -> int | None:
        """Labelled patients from which on the Dice stays above its goal: to be above it once by chance is not enough."""
        if self.goal is None:
            return None
        below = [n for n, row in enumerate(self.rows) if row["dice"] < DICE * self.goal["dice"]]
        stays = self.patients[below[-1] + 1 :] if below else self.patients
        return stays[0] if stays else None

    def spent(self, rounds: int) -> list[int]:
        """Voxels corrected in the first ``rounds``, summed up round by round; the very first, the same for all, is left out."""
        each = [row["corrected"]["voxels"] for row in self.rows[1:rounds]]
        return [sum(each[: n + 1]) for n in range(len(each))]

    def spent_until(self, dice: float) -> int | None:
        """Voxels corrected when the Dice was first at least ``dice``; None if it never was."""
        rounds = next((n for n, row in enumerate(self.rows, 1) if row["dice"] >= dice), 0)
        return self.spent(rounds)[-1] if rounds > 1 else None

    def spent_to_goal(self) -> int | None:
        """Voxels corrected when the Dice had come to stay above its goal; None if it has not."""
        patients = self.reached()
        rounds = self.patients.index(patients) + 1 if patients else 0
        return self.spent(rounds)[-1] if rounds > 1 else None

    def a_study(self, rounds: int) -> float:
        """Voxels corrected a study in the chosen patients of those rounds."""
        return self.spent(rounds)[-1] / sum(row["corrected"]["studies"] for row in self.rows[1:rounds])

    def of_heart(self, rounds: int) -> float:
        """Those voxels as a share of the chosen hearts."""
        return self.spent(rounds)[-1] / sum(row["corrected"]["heart_voxels"] for row in self.rows[1:rounds])

    def validation(self, rounds: int) -> float:
        """Voxels to correct in a study of a validation patient: the mean over those rounds' models."""
        return fmean(row["validation_voxels"] for row in self.rows[1:rounds])

    @property
    def archive(self) -> float | None:
        """Voxels corrected a study of the whole archive, which is the goal's reading; None before the last round.

        Each study counts once, whoever was chosen: corrected when its patient was, or left by the last model to be corrected now.
        """
        left = self.rows[-1].get("unlabelled")
        if left is None:
            return None
        parts = [*(row["corrected"] for row in self.rows), left]
        return float(sum(part["voxels"] for part in parts) / sum(part["studies"] for part in parts))

    @property
    def minutes(self) -> float:
        """Of the longest round: training, measuring and choosing."""
        return max(float(sum(row["seconds"].values())) for row in self.rows) / 60


def runs(rows: list[Row]) -> list[Run]:
    """The runs in ``rows``, as they came; the goal of a seed without one is the first of another."""
    goals = [row for row in rows if row["strategy"] == "all"]
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["strategy"] != "all":
            found.setdefault((row["strategy"], row["seed"], row["pruned"]), []).append(row)

    def goal(seed: int, pruned: bool) -> Row | None:
        fitting = sorted((row for row in goals if row["pruned"] == pruned), key=lambda row: row["seed"] != seed)
        return fitting[0] if fitting else None

    return [Run(members, goal(seed, pruned)) for (_, seed, pruned), members in found.items() if len(members) > 1]


def mean_goal(all_runs: Sequence[Run], pruned: bool) -> tuple[float, int] | None:
    """The Dice to be reached, the mean over the seeds, and how many patients it is of; None where there is no goal."""
    goals = {goal["seed"]: goal for run in all_runs if run.key[1] == pruned and (goal := run.goal) is not None}
    return (
        (DICE * fmean(goal["dice"] for goal in goals.values()), max(goal["labelled_patients"] for goal in goals.values()))
        if goals
        else None
    )


def against(run: Run, all_runs: list[Run]) -> Run | None:
    """The run with "random" that ``run`` is compared with."""
    return next((other for other in all_runs if other.strategy == "random" and other.key == run.key and other is not run), None)
