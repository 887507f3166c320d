"""Table IV's methods by their DSC, and each compared with PrATo patient by patient."""

from __future__ import annotations

from scripts.common.markdown import grid
from scripts.research.datasets.base import dataset_class
from scripts.research.tables.paired import p_text
from scripts.research.tables.rows import Table
from scripts.research.tables.verdicts import compare


def ranking_text(table: Table, data: str) -> str:
    """Markdown: the methods on ``data`` that saw the most slices in training, the best first, with each PrATo row minus them; empty when
    nothing was run."""
    rows = sorted(table.longest(data), key=lambda row: -(row.dice() or 0.0))
    ours = [row for row in rows if row.is_prato]
    if not rows:
        return ""
    against = [{other.experiment: c for other, c in compare(one, [row for row in rows if row is not one])} for one in ours]
    head = ["rank", "method", "box", "mean DSC", "GFLOP", *(f"{row.label} minus it, 95 % interval, p" for row in ours)]
    lines = []
    for place, row in enumerate(rows, start=1):
        assert row.outcome
        cells = []
        for one, differences in zip(ours, against):
            found = differences.get(row.experiment)
            if row is one or found is None:
                cells.append("-")
                continue
            interval = f" [{found.interval[0]:+.3f}, {found.interval[1]:+.3f}]" if found.interval else ""
            cells.append(f"{found.difference:+.3f}{interval}, {p_text(found.p)}")
        cost = row.outcome.mean("gflops")
        lines.append(
            [str(place), row.label, row.design("sees_box", "-"), f"{row.dice():.3f}", "-" if cost is None else f"{cost:.2f}", *cells]
        )
    patients = len(rows[0].outcome.dice_by_patient()) if rows[0].outcome else 0
    subjects = dataset_class(data).subjects
    return grid(head, lines) + f"\n{patients} {subjects}; p of the Wilcoxon signed-rank test, with Holm's correction within each column.\n"
