"""Compares a candidate with the current model on the same patients: which is better, and how certain that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prato.data.structures import STRUCTURES
from prato.data.studies.folder import StudyFile
from prato.data.wording import counted
from prato.evaluation.evaluate import evaluate_cases
from prato.inference.predictor import Predictor

#: Dice by structure and their "mean", by study.
CaseDice = dict[str, dict[str, float]]
_RESAMPLES = 2000
#: Below this many patients a bootstrap interval says nothing.
_MIN_PATIENTS = 3


def measure_dice(model: Path, files: Sequence[StudyFile], device: str, on_study: Callable[[], object]) -> CaseDice:
    """Dice by study in whose label every structure is drawn, as the server would answer tight boxes with ``model``; ``on_study`` is called
    after every study and may raise."""
    if not files:
        return {}
    rows = evaluate_cases(Predictor.from_files(model, device=device), files, report=lambda _: on_study())
    # a label may have been replaced by one that lacks a structure since it was chosen
    scored = [row for row in rows if row["scores"].keys() == STRUCTURES.keys()]
    return {row["study"]: {**{name: row["scores"][name]["dice"] for name in STRUCTURES}, "mean": row["mean_dice"]} for row in scored}


class NothingComparedError(ValueError):
    """No study is left to compare two models on; the message is one sentence."""


def of_both(before: CaseDice, after: CaseDice, files: Sequence[StudyFile]) -> tuple[CaseDice, CaseDice]:
    """The studies, of ``files``, that both models were measured on.

    Args:
        files: without those whose label or image was replaced in between, which would decide in the models' place.
    """
    both = [file.name for file in files if file.name in before and file.name in after]
    return {name: before[name] for name in both}, {name: after[name] for name in both}


def require_compared(measured: CaseDice) -> None:
    """Refuse to compare on nothing.

    Raises:
        NothingComparedError: ``measured`` is empty.
    """
    if not measured:
        raise NothingComparedError("Every held-back study was replaced or removed during this training: start it again.")


@dataclass(frozen=True)
class Comparison:
    """What the validation patients say.

    Attributes:
        before, after: Dice by structure and their "mean", each the mean over patients of the mean over their studies.
        interval: by structure and "mean", the 95 % interval of ``after - before``; empty for fewer than three patients.
        patients: how many.
    """

    before: dict[str, float]
    after: dict[str, float]
    interval: dict[str, tuple[float, float]]
    patients: int

    @property
    def regression(self) -> str | None:
        """What the candidate is worse at, None if nothing: its mean is lower, or a structure's whole interval lies below zero.

        A higher mean can hide a structure that was sacrificed for the others.
        """
        if self.after["mean"] < self.before["mean"]:
            return "the mean Dice"
        return next((f"the Dice of the {name}" for name, (_, high) in self.interval.items() if high < 0), None)

    def summary(self) -> str:
        """The mean and its interval in words."""
        patients = counted(self.patients, "patient")
        old, new = self.before["mean"], self.after["mean"]
        digits = next((n for n in range(4, 17) if f"{old:.{n}f}" != f"{new:.{n}f}"), 4)  # what decided should be seen
        change = f"mean Dice {old:.{digits}f} -> {new:.{digits}f} on {patients} held out"
        if not self.interval:
            return f"{change}, too few for an interval"
        low, high = self.interval["mean"]
        return f"{change}, 95 % interval of the change {low:+.4f} to {high:+.4f}"

    def to_json(self) -> dict[str, Any]:
        """As JSON values, rounded."""
        rounded = {name: [round(low, 4), round(high, 4)] for name, (low, high) in self.interval.items()}
        return {
            "structures": {name: {"before": round(self.before[name], 4), "after": round(self.after[name], 4)} for name in STRUCTURES},
            "interval": rounded.get("mean"),
            "interval_by_structure": {name: limits for name, limits in rounded.items() if name != "mean"},
        }


def compare(before: CaseDice, after: CaseDice, patients: Mapping[str, str], seed: int) -> Comparison:
    """Compare case by case; the interval is a percentile bootstrap over patients, paired: a patient brings both models' Dice.

    Args:
        before, after: of the same studies.
        patients: whose heart each study is. A patient's ED and ES are not independent, so they are averaged first.
        seed: of the resampling.
    """
    names = (*STRUCTURES, "mean")
    people = sorted({patients[study] for study in before})
    old, new = (
        np.array([[np.mean([dice[study][name] for study in dice if patients[study] == person]) for name in names] for person in people])
        for dice in (before, after)
    )
    interval = dict(zip(names, bootstrap_intervals(new - old, seed)))
    old_mean, new_mean = (dict(zip(names, map(float, values.mean(0)))) for values in (old, new))
    return Comparison(old_mean, new_mean, interval, len(people))


def bootstrap_intervals(differences: np.ndarray, seed: int) -> list[tuple[float, float]]:
    """The 95 % percentile bootstrap interval of each column's mean; none for fewer than three patients, of whom it says nothing.

    Args:
        differences: float (patients, columns), of two answers to the same patient.
        seed: of the resampling.
    """
    patients = len(differences)
    if patients < _MIN_PATIENTS:
        return []
    drawn = np.random.default_rng(seed).integers(patients, size=(_RESAMPLES, patients))
    low, high = np.percentile(differences[drawn].mean(1), (2.5, 97.5), axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high)]
