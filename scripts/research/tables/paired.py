"""Two methods on the same patients: by how much one is better, and how certain that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.stats import bootstrap, wilcoxon

#: Below it a difference counts as shown.
LEVEL = 0.05
_RESAMPLED = 2000
#: Below this many patients a bootstrap interval says nothing.
_ENOUGH = 3


@dataclass(frozen=True)
class Paired:
    """Ours minus theirs, patient by patient.

    Attributes:
        patients: whom both have seen.
        difference: mean.
        interval: 95 % bootstrap interval of the mean; None for fewer than three patients.
        p: two-sided Wilcoxon signed-rank test; once corrected, for all comparisons that were made together.
    """

    patients: int
    difference: float
    interval: tuple[float, float] | None
    p: float

    @property
    def better(self) -> bool:
        """It is shown that ours is higher."""
        return self.difference > 0 and self.p < LEVEL

    @property
    def worse(self) -> bool:
        """It is shown that ours is lower."""
        return self.difference < 0 and self.p < LEVEL

    def words(self, interval: bool = True) -> str:
        """The difference with its interval, where there is and should be one, and p."""
        text = f"{self.difference:+.3f}"
        if interval and self.interval:
            text += f", 95 % interval {self.interval[0]:+.3f} to {self.interval[1]:+.3f}"
        return text + f", p {p_text(self.p)}"


def compare_patients(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Paired | None:
    """Compare by-patient values; None when no patient is in both."""
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        return None
    differences = np.array([ours[patient] - theirs[patient] for patient in both])
    return _paired(tuple(differences.tolist()))


@cache  # a page tells some comparisons several times, and each takes a while
def _paired(values: tuple[float, ...]) -> Paired:
    differences = np.array(values)
    interval = _interval(differences) if len(values) >= _ENOUGH else None
    p = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    return Paired(len(values), float(differences.mean()), interval, p)


def _interval(differences: np.ndarray) -> tuple[float, float]:
    drawn = np.random.default_rng(0)
    low, high = bootstrap((differences,), np.mean, n_resamples=_RESAMPLED, method="percentile", random_state=drawn).confidence_interval
    return float(low), float(high)


def holm(together: Sequence[Paired]) -> list[Paired]:
    """The same comparisons with p as Holm (1979) corrects it for having made all of them."""
    order = sorted(range(len(together)), key=lambda n: together[n].p)
    corrected, highest = list(together), 0.0
    for rank, n in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * together[n].p))
        corrected[n] = replace(together[n], p=highest)
    return corrected


def p_text(p: float) -> str:
    """A p value as it is read."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"
