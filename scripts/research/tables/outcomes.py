"""What the experiments left behind: one outcome a name, with all its seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prato.data.structures import STRUCTURES

#: Keys that a result file has to have.
_WANTED = ("experiment", "budget", "device", "seed", "commit", "cases")
_SEED = re.compile(r"-seed\d+$")
#: What is measured once a case; scores are by structure.
BY_CASE = ("gflops", "tokens", "network_ms")

Case = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """All runs of one experiment, which differ in their seed.

    Attributes:
        name: for example "table4/prato_acdc".
        runs: the result files as they are, by seed.
    """

    name: str
    runs: tuple[dict[str, Any], ...]

    @property
    def plan(self) -> dict[str, Any]:
        """What was to be done, as its plan file says."""
        plan: dict[str, Any] = self.runs[0]["experiment"]
        return plan

    @property
    def structures(self) -> list[str]:
        """Names of what was segmented, in the order of ``prato.data.structures``."""
        order = list(STRUCTURES)
        found = {name for run in self.runs for case in run["cases"] for name in case["dice"]}
        return sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name))

    def by_seed(self, metric: str, structure: str | None = None) -> list[float]:
        """Of each run that has any, the mean over cases and structures; of times the median, which a busy moment spares."""
        middle = np.median if metric == "network_ms" else np.mean
        found = [[value for case in run["cases"] for value in _values(case, metric, structure) if value is not None] for run in self.runs]
        return [float(middle(values)) for values in found if values]

    def mean(self, metric: str, structure: str | None = None) -> float | None:
        """The mean over seeds, None where nothing was measured."""
        return _mean(self.by_seed(metric, structure))

    @property
    def seeds(self) -> list[int]:
        """Of its runs."""
        return [int(run["seed"]) for run in self.runs]

    def of_seeds(self, seeds: Iterable[int]) -> Outcome:
        """Its runs with ``seeds`` alone."""
        wanted = set(seeds)
        return Outcome(self.name, tuple(run for run in self.runs if int(run["seed"]) in wanted))

    def by_patient(self, metric: str) -> dict[str, float]:
        """Each patient's mean over cases and seeds: an ED and an ES, or two trainings, are no two witnesses."""
        found: dict[str, list[float | None]] = {}
        for run in self.runs:
            for case in run["cases"]:
                found.setdefault(case["patient"], []).append(_mean(_values(case, metric, None)))
        means = {patient: _mean(values) for patient, values in found.items()}
        return {patient: mean for patient, mean in means.items() if mean is not None}

    def undefined_distances(self) -> int:
        """How many surfaces are missing: pairs of case and structure, over all seeds, in which a mask is empty."""
        return sum(value is None for run in self.runs for case in run["cases"] for value in case["hd95"].values())


def read_outcomes(folder: Path) -> dict[str, Outcome]:
    """All outcomes below ``folder`` by name; files outside of a table's folder (the splits) are none.

    Raises:
        ValueError: a file is not JSON, or lacks what a result has.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*/*.json")):
        try:
            run = json.loads(path.read_bytes())
        except ValueError:
            raise ValueError(f"{path} is not JSON.") from None
        missing = [key for key in _WANTED if key not in run] if isinstance(run, dict) else list(_WANTED)
        if missing:
            raise ValueError(f"{path} is no result of an experiment: it lacks {', '.join(missing)}.")
        found.setdefault(f"{path.parent.name}/{_SEED.sub('', path.stem)}", []).append(run)
    return {name: Outcome(name, tuple(sorted(runs, key=lambda run: int(run["seed"])))) for name, runs in found.items()}


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
