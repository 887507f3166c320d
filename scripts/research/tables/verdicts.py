"""How a claim fares: its verdict by a rule that is the same for all, and the sentences that say why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from scripts.common.markdown import grid
from scripts.research.datasets.base import dataset_class
from scripts.research.tables.outcomes import Outcome
from scripts.research.tables.paired import Paired, compare_patients, holm
from scripts.research.tables.rows import DATA, Row

HOLDS, FAILS, NOT_SHOWN, NOT_RUN = "holds", "does not hold", "not shown either way", "not run"
#: With more comparisons than these, a claim's sentences leave out their intervals, which the ranking has.
_FEW = 3
#: A loss in DSC smaller than this is none.
MARGIN = 0.01
RULE = (
    "The claim that one row is better than others *holds* if its mean DSC over the same patients is shown to be higher than\n"
    "that of each of them (Wilcoxon signed-rank test, p below 0.05 after Holm's correction for the comparisons of the claim).\n"
    "It *does not hold* if one of them is shown to be better. Otherwise it is *not shown either way*. The claim that nothing\n"
    f"is lost *holds* if the whole 95 % bootstrap interval of the difference lies above -{MARGIN}; it *does not hold* if the\n"
    "interval lies below 0, or if nothing is saved. A patient's DSC is averaged over the seeds with which both rows were\n"
    "trained; the mean of a single row is over all of its seeds. Only rows trained for as long are compared; where some of the\n"
    "claim's rows were not, brackets say how many were.\n"
)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper on one data set.

    Attributes:
        says: the claim. data: the data set's name in the plans.
        verdict: one of the four above.
        because: sentences made from the results.
        compared: of the rows that the claim is about, how many it was decided by, and how many there are; None where it is about one.
    """

    says: str
    data: str
    verdict: str
    because: tuple[str, ...]
    compared: tuple[int, int] | None = None

    @property
    def is_about_more(self) -> bool:
        """Whether rows that it is about are still to be trained for as long, which may change the verdict."""
        return self.verdict in (HOLDS, NOT_SHOWN) and self.compared is not None and self.compared[0] < self.compared[1]

    def told(self) -> str:
        """The verdict and, where not all rows could tell, how many did."""
        return f"{self.verdict} ({self.compared[0]} of {self.compared[1]})" if self.compared and self.is_about_more else self.verdict

    def text(self) -> str:
        """Markdown, an item of a list."""
        return f"- **{self.says}**, {DATA.get(self.data, self.data)}: *{self.told()}*. {' '.join(self.because)}".rstrip() + "\n"


def overview(claims: Sequence[Claim]) -> str:
    """Markdown: every claim's verdict, a column for each data set that a claim is about."""
    verdicts: dict[str, dict[str, str]] = {}
    for claim in claims:
        verdicts.setdefault(claim.says, {})[claim.data] = claim.told()
    sets = [data for data in DATA if any(data in found for found in verdicts.values())]
    return grid(
        ["claim", *(DATA[data] for data in sets)], [[says, *(found.get(data, "") for data in sets)] for says, found in verdicts.items()]
    )


def compare(one: Row, others: Sequence[Row]) -> list[tuple[Row, Paired]]:
    """``one`` minus each of ``others`` in DSC over patients, corrected together; those that share no patient are left out."""
    found = [(other, difference) for other in others if (difference := _difference(one, other)) is not None]
    return list(zip([other for other, _ in found], holm([difference for _, difference in found])))


def best_of(says: str, data: str, one: Row, others: Sequence[Row]) -> Claim:
    """The claim that ``one`` is better than all ``others``."""
    found = compare(one, others)
    if not found:
        return Claim(says, data, NOT_RUN, ())
    verdict = _verdict([difference for _, difference in found])
    return Claim(says, data, verdict, _against(data, one, found), (len(found), len(others)))


def check_order(says: str, data: str, rows: Sequence[Row]) -> Claim:
    """The claim that each of ``rows`` is better than the next."""
    steps = [(a, b, difference) for a, b in pairwise(rows) if (difference := _difference(a, b)) is not None]
    if not steps:
        return Claim(says, data, NOT_RUN, ())
    corrected = holm([difference for _, _, difference in steps])
    because = [f"Mean DSC: {', '.join(name_with_dice(row) for row in rows)}."]
    because += [f"{a.label} minus {b.label}: {c.words()}." for (a, b, _), c in zip(steps, corrected)]
    falling = sorted(rows, key=lambda row: -(row.dice() or 0.0))
    if [row.label for row in falling] != [row.label for row in rows]:
        because.append(f"By mean DSC, the order is {', '.join(row.label for row in falling)}.")
    return Claim(says, data, _verdict(corrected), tuple(because))


def no_loss(says: str, data: str, dense: Row, pruned: Row) -> Claim:
    """The claim that ``pruned`` costs less than ``dense`` at no loss of DSC."""
    difference = _difference(pruned, dense)
    assert dense.outcome and pruned.outcome
    before, after = dense.outcome.mean("gflops"), pruned.outcome.mean("gflops")
    if difference is None or not before or after is None:
        return Claim(says, data, NOT_RUN, ())
    low, high = difference.interval or (float("-inf"), float("inf"))
    verdict = FAILS if after >= before or high < 0 else HOLDS if low > -MARGIN else NOT_SHOWN
    cut = f"{before:.2f} to {after:.2f} GFLOP per slice ({100 * (after / before - 1):+.0f} %)"
    kept = pruned.outcome.mean("tokens")
    tokens = f", {100 * kept:.0f} % of the tokens kept" if kept is not None else ""
    means = f"DSC {dense.dice():.3f} to {pruned.dice():.3f}, {difference.words()}, {_subjects(data, difference)}."
    return Claim(says, data, verdict, (f"{cut}{tokens}; {means}",))


def name_with_dice(row: Row) -> str:
    """A row with its mean DSC."""
    return f"{row.label} {row.dice():.3f}"


def beside(one: Row, others: Sequence[Row]) -> list[tuple[Row, float, float]]:
    """Each of ``others``, with the mean DSC of ``one`` and its own over the seeds that both were trained with for as long.

    Rows without such a seed are left out: what was trained for less says nothing of a method.
    """
    found = []
    for other in others:
        ours, theirs = (outcome.mean("dice") for outcome in _alike(one, other))
        if ours is not None and theirs is not None:
            found.append((other, ours, theirs))
    return found


def _alike(one: Row, other: Row) -> tuple[Outcome, Outcome]:
    """Both with the seeds that both have, trained for as long: a seed that one of them lacks says nothing of their difference."""
    assert one.outcome and other.outcome
    ours, theirs = ({int(run["seed"]): run.get("budget") for run in row.outcome.runs} for row in (one, other) if row.outcome)
    both = {seed for seed, budget in ours.items() if seed in theirs and theirs[seed] == budget}
    return one.outcome.of_seeds(both), other.outcome.of_seeds(both)


def _difference(one: Row, other: Row) -> Paired | None:
    ours, theirs = _alike(one, other)
    return compare_patients(ours.dice_by_patient(), theirs.dice_by_patient())


def _verdict(found: Sequence[Paired]) -> str:
    if any(difference.worse for difference in found):
        return FAILS
    return HOLDS if all(difference.better for difference in found) else NOT_SHOWN


def _subjects(data: str, difference: Paired) -> str:
    """Of how many patients, or images, a difference is."""
    return f"{difference.patients} {dataset_class(data).subjects}"


def _against(data: str, one: Row, found: Sequence[tuple[Row, Paired]]) -> tuple[str, ...]:
    said = [f"{name_with_dice(one)} on {_subjects(data, found[0][1])}."]
    for words, chosen in (
        ("Better than", [pair for pair in found if pair[1].better]),
        ("Worse than", [pair for pair in found if pair[1].worse]),
        ("Not shown to differ from", [pair for pair in found if not pair[1].better and not pair[1].worse]),
    ):
        if chosen:
            told = (f"{name_with_dice(row)} ({difference.words(interval=len(found) <= _FEW)})" for row, difference in chosen)
            said.append(f"{words} {', '.join(told)}.")
    return tuple(said)
