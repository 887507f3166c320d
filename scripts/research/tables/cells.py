"""A table of the paper as a table of ours, the printed value beside each."""

from __future__ import annotations

import numpy as np

from scripts.common.markdown import grid
from scripts.research.datasets.base import dataset_class
from scripts.research.tables.outcomes import Outcome
from scripts.research.tables.rows import Row, Table

_NOT_RUN = "not run"
#: What the paper calls its three columns on ACDC.
_PRINTED_COLUMNS = ("left", "right", "myocardium")


def table_text(table: Table, data: str) -> str:
    """Markdown of ``table``'s rows on ``data``; the paper's values in brackets."""
    rows = table.rows[data]
    structures = next((row.outcome.structures for row in rows if row.outcome), [])
    by_structure = structures if len(structures) > 1 else []
    columns = [name for name in _PRINTED_COLUMNS if any(name in row.printed for row in rows)]
    unit = dataset_class(data).unit
    head = ["row", *(f"{name} DSC" for name in by_structure), "mean DSC"]
    head += [f"printed: {', '.join(columns)}"] if columns else []
    head += ["IoU", f"HD95, {unit}", "GFLOP", "tokens", "ms", "budget", "device"]
    return grid(head, [_cells(row, by_structure, columns) for row in rows])


def _cells(row: Row, structures: list[str], columns: list[str]) -> list[str]:
    told = ", ".join(f"{row.printed[name]:.3f}" for name in columns if name in row.printed)
    printed_parts = [told or "-"] if columns else []
    outcome = row.outcome
    if outcome is None or not outcome.runs:
        scored = [_beside("-", printed) for printed in (_printed_dice(row, columns), row.printed.get("iou"))]
        distance = _beside("-", row.printed.get("hd95"), 1)
        left = [*("-" for _ in structures), scored[0], *printed_parts, scored[1], distance]
        return [row.label, *left, _beside("-", row.printed.get("gflops"), 1), "-", _beside("-", row.printed.get("ms"), 1), _NOT_RUN, "-"]
    missing = outcome.undefined_distances()
    return [
        row.label,
        *(_spread(outcome, "dice", structure=name) for name in structures),
        _beside(f"**{_spread(outcome, 'dice')}**", _printed_dice(row, columns)),
        *printed_parts,
        _beside(_spread(outcome, "iou"), row.printed.get("iou")),
        _beside(_spread(outcome, "hd95", 1) + (f", {missing} empty" if missing else ""), row.printed.get("hd95"), 1),
        _beside(_spread(outcome, "gflops", 2) + _of_dense(outcome), row.printed.get("gflops"), 1),
        _percent(outcome),
        _beside("-" if outcome.ms is None else f"{outcome.ms:.1f}", row.printed.get("ms"), 1),
        _budget(outcome),
        _device(outcome),
    ]


def _printed_dice(row: Row, columns: list[str]) -> float | None:
    """The mean DSC that the paper prints, or that its columns have."""
    values = [row.printed[name] for name in columns if name in row.printed]
    return row.printed.get("dice", float(np.mean(values)) if values else None)


def _beside(ours: str, printed: float | None, digits: int = 3) -> str:
    return ours if printed is None else f"{ours} ({printed:.{digits}f})"


def _spread(outcome: Outcome, metric: str, digits: int = 3, structure: str | None = None) -> str:
    """Mean ± standard deviation over seeds, the mean alone for a single one."""
    values = outcome.by_seed(metric, structure)
    if not values:
        return "-"
    text = f"{np.mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {np.std(values, ddof=1):.{digits}f}"


def _of_dense(outcome: Outcome) -> str:
    dense = outcome.runs[0].get("gflops_dense")
    ours = outcome.mean("gflops")
    return "" if not dense or ours is None or abs(ours - dense) < 0.005 else f" of {dense:.2f}"


def _percent(outcome: Outcome) -> str:
    kept = outcome.mean("tokens")
    return "-" if kept is None else f"{100 * kept:.0f} %"


def _budget(outcome: Outcome) -> str:
    """What was spent on a training; what differs between seeds as a range."""
    if outcome.design.get("model_of"):
        return f"weights of {outcome.design['model_of']}"
    spent = [run["spent"] for run in outcome.runs]
    said = [f"{_range([s[key] for s in spent if key in s], digits)} {unit}" for key, unit, digits in _UNITS if any(key in s for s in spent)]
    return (
        ", ".join(said) + (f", {len(spent)} seeds" if len(spent) > 1 else "") + (", *still learning*" if outcome.is_still_learning else "")
    )


_UNITS = (("slices", "slices", 0), ("steps", "steps", 0), ("minutes", "min", 1))


def _range(values: list[float], digits: int) -> str:
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _device(outcome: Outcome) -> str:
    return " / ".join(
        dict.fromkeys(
            f"{run['device']}, {run['threads']} thr." if run["device"] == "cpu" and "threads" in run else run["device"]
            for run in outcome.runs
        )
    )
