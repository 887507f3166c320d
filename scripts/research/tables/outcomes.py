"""What the experiments left behind: one outcome a name, with all its seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from prato.data.structures import STRUCTURES
from scripts.common.results import Row, read_rows
from scripts.research.experiments.schema import slices_seen

#: What a row has to have.
_RUN, _CASE = ("experiment", "spent", "device", "seed", "commit"), ("experiment", "seed", "patient", "dice", "hd95")
#: A row whose last doubling of slices gains so much DSC on the validation side is still learning.
GAIN = 0.01
#: What is measured once a case; scores are by structure.
BY_CASE = ("gflops", "tokens")

Case = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """All runs of one experiment, which differ in their seed.

    Attributes:
        name: for example "table4/prato_acdc".
        runs: the rows of runs.csv, by seed, each with its ``cases`` and its learning ``curve``: validation DSC by slices seen.
        ms: what its network takes for a slice on a CPU thread, whatever its seed; None where that was not measured.
    """

    name: str
    runs: tuple[dict[str, Any], ...]
    ms: float | None = None

    @property
    def design(self) -> Row:
        """What was to be done, as the matrix says."""
        return self.runs[0]

    @property
    def structures(self) -> list[str]:
        """Names of what was segmented, in the order of ``prato.data.structures``."""
        order = list(STRUCTURES)
        found = {name for run in self.runs for case in run["cases"] for name in case["dice"]}
        return sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name))

    def by_seed(self, metric: str, structure: str | None = None) -> list[float]:
        """Of each run that has any, the mean over cases and structures."""
        found = [[value for case in run["cases"] for value in _values(case, metric, structure) if value is not None] for run in self.runs]
        return [float(np.mean(values)) for values in found if values]

    def mean(self, metric: str, structure: str | None = None) -> float | None:
        """The mean over seeds, None where nothing was measured."""
        return _mean(self.by_seed(metric, structure))

    @property
    def is_still_learning(self) -> bool:
        """Whether a run gained ``GAIN`` or more in the last doubling of its slices, or has no curve that says it did not."""
        return any(_last_gain(run["curve"]) >= GAIN for run in self.runs)

    @property
    def slices(self) -> int:
        """That its models saw in training."""
        return slices_seen(self.runs[0])

    def of_seeds(self, seeds: Iterable[int]) -> Outcome:
        """Its runs with ``seeds`` alone."""
        wanted = set(seeds)
        return replace(self, runs=tuple(run for run in self.runs if int(run["seed"]) in wanted))

    def dice_by_patient(self) -> dict[str, float]:
        """Each patient's mean over cases and seeds: an ED and an ES, or two trainings, are no two witnesses."""
        found: dict[str, list[float | None]] = {}
        for run in self.runs:
            for case in run["cases"]:
                found.setdefault(case["patient"], []).append(_mean(_values(case, "dice", None)))
        means = {patient: _mean(values) for patient, values in found.items()}
        return {patient: mean for patient, mean in means.items() if mean is not None}

    def undefined_distances(self) -> int:
        """How many surfaces are missing: pairs of case and structure, over all seeds, in which a mask is empty."""
        return sum(value is None for run in self.runs for case in run["cases"] for value in case["hd95"].values())


def read_outcomes(folder: Path) -> dict[str, Outcome]:
    """All outcomes in the runs.csv, cases.csv and times.csv of ``folder``, by name; none where the first of these is missing.

    Raises:
        ValueError: a file is no table of results, or lacks what a result has.
    """
    if not (folder / "runs.csv").exists():
        return {}
    cases: dict[tuple[str, int], list[Case]] = {}
    for case in _rows(folder / "cases.csv", _CASE):
        cases.setdefault((case["experiment"], case["seed"]), []).append(case)
    curves: dict[tuple[str, int], dict[int, float]] = {}
    if (folder / "curves.csv").exists():
        for point in _rows(folder / "curves.csv", ("experiment", "seed", "slices", "dice")):
            curves.setdefault((point["experiment"], point["seed"]), {})[point["slices"]] = point["dice"]
    found: dict[str, list[Row]] = {}
    for run in _rows(folder / "runs.csv", _RUN):
        key = run["experiment"], run["seed"]
        # a curve is of a training by slices: one of some hundred steps has none, whatever was trained since
        curve = curves.get((str(run.get("model_of", key[0])), key[1]), {}) if run["spent"].get("slices") else {}
        found.setdefault(key[0], []).append({**run, "cases": cases.get(key, []), "curve": curve})
    times = _rows(folder / "times.csv", ("experiment", "ms", "device")) if (folder / "times.csv").exists() else []
    ms = {row["experiment"]: row["ms"]["median"] for row in times if row["device"] == "cpu"}
    in_order = {name: tuple(sorted(runs, key=lambda run: int(run["seed"]))) for name, runs in sorted(found.items())}
    return {name: Outcome(name, runs, ms.get(name)) for name, runs in in_order.items()}


def _last_gain(curve: Mapping[int, float]) -> float:
    """By how much DSC rose while the slices seen doubled for the last time; infinite where the curve does not tell."""
    if not curve:
        return float("inf")
    last = max(curve)
    half = min(curve, key=lambda slices: abs(2 * slices - last))
    return curve[last] - curve[half] if abs(2 * half - last) <= last / 20 else float("inf")


def _rows(path: Path, needed: Iterable[str]) -> list[Row]:
    rows = read_rows(path)
    for row in rows:
        if missing := [key for key in needed if key not in row]:
            raise ValueError(f"{path} holds a row that is not a result of an experiment: it lacks {', '.join(missing)}.")
    return rows


def _values(case: Case, metric: str, structure: str | None) -> list[float | None]:
    """Those of all structures, or of one."""
    if metric in BY_CASE:
        return [case.get(metric)]
    values: dict[str, float | None] = case[metric]
    return [values.get(structure)] if structure else [*values.values()]


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of those that are there."""
    there = [float(value) for value in values if value is not None]
    return float(np.mean(there)) if there else None
