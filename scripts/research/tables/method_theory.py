"""Parts of the pages on the method that need no training: the paper's numbers against each other, and docs/results/method_evidence.csv."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scripts.common.markdown import grid
from scripts.research.method_evidence import DECODING, FIXED, OPERATIONS, RANKS, SPAN
from scripts.research.tables.rows import Row, Table

_COLUMNS = ("left", "right", "myocardium")
#: A row of method_evidence.csv.
Measured = Mapping[str, Any]


def _part(evidence: Sequence[Measured], part: str) -> dict[str, float]:
    return {str(row["of"]): row["value"] for row in evidence if row["part"] == part}


def scores(evidence: Sequence[Measured]) -> str:
    """What untrained relevance knows of the box."""
    ranked = _part(evidence, RANKS)
    scored = next(row["scored"] for row in evidence if row["part"] == RANKS)
    head = ["tokens, projections", "% of pairs in which a token in the box outranks one outside"]
    text = grid(head, [[name, f"{100 * share:.0f}"] for name, share in ranked.items()])
    best, worst = max(ranked, key=lambda name: ranked[name]), min(ranked, key=lambda name: ranked[name])
    text += f"\n{scored} networks with random weights, one slice of a phantom heart each, after block 4; chance is 50 %.\n"
    return text + f"*{best}* carries most information about the box, *{worst}* least.\n"


def thresholds(evidence: Sequence[Measured]) -> str:
    """What fixed thresholds keep before training."""
    low, high = _part(evidence, SPAN).values()
    kept = ", ".join(f"{100 * share:.0f} % at τ = {tau}" for tau, share in _part(evidence, FIXED).items())
    return f"In the same networks the sigmoid of r lies between {low:.2f} and {high:.2f}. A fixed threshold keeps {kept}."


def operations(evidence: Sequence[Measured], tables: Mapping[str, Table]) -> str:
    """Table II's operations, printed and counted, as they stand and with two rows exchanged."""
    printed = dict(_printed_operations(tables))
    if len(printed) < 3:
        return "The file of tables has no printed operations."
    counted = {(tuple(r["after"]), r.get("percentile"), r["of"]): r["value"] for r in evidence if r["part"] == OPERATIONS}
    stages = sorted({after for after, *_ in counted})
    swapped = {25.0: printed[50.0], 50.0: printed[25.0], 75.0: printed[75.0]}
    head = [
        "percentile",
        "printed",
        "25 and 50 exchanged",
        *(f"counted, drop after {', '.join(map(str, s))}" for s in stages),
        "counted, mask",
    ]
    rows = [
        [f"{p:.0f}", f"{printed[p]:.1f}", f"{swapped[p]:.1f}"]
        + [f"{counted[s, p, 'drop']:.1f}" for s in stages]
        + [f"{counted[stages[0], p, 'mask']:.1f}"]
        for p in sorted(printed)
    ]
    dense = counted[stages[0], None, "dense"]
    near = min(stages, key=lambda s: max(abs(counted[s, p, "drop"] - swapped[p]) for p in swapped))
    gap = {name: max(abs(counted[near, p, "drop"] / values[p] - 1) for p in values) for name, values in (("as", printed), ("no", swapped))}
    text = grid(head, rows) + f"\nGFLOP; the dense network takes {dense:.1f}. Dropping after blocks {', '.join(map(str, near))} "
    return (
        text
        + f"is within {100 * gap['no']:.0f} % of the exchanged rows, and up to {100 * gap['as']:.0f} % off the rows as they are printed.\n"
    )


def decoding(evidence: Sequence[Measured]) -> str:
    """How exact decoding a part is."""
    off = _part(evidence, DECODING)
    share = 100 * next(row["region"] for row in evidence if row["part"] == DECODING)
    said = (
        f"Decoding {share:.0f} % of the image alone, the largest difference from decoding all of it, there, is {off['batch']:.0e} of the "
    )
    return said + f"logits' spread with batch normalisation, and {100 * off['instance']:.0f} % of it with instance normalisation."


def columns(tables: Mapping[str, Table]) -> str:
    """What speaks for the paper's columns on ACDC being labels 1, 2 and 3, and that two of its rows are not the same network."""
    rows = {tuple(row.printed[name] for name in _COLUMNS): row for row in _rows(tables) if all(name in row.printed for name in _COLUMNS)}
    if not rows:
        return "The file of tables has no printed columns."
    rising = sum(left < right < myocardium for left, right, myocardium in rows)
    text = f"In {rising} of the {len(rows)} rows that print all three, *left* is below *right* and *right* below *myocardium*."
    four = [row for row in _rows(tables, "table4") if row.label == "PrATo" and "left" in row.printed]
    five = [row for row in _rows(tables, "table5") if "left" in row.printed]
    if four and five:
        same = [row.label for row in five if all(row.printed[n] == four[0].printed[n] for n in _COLUMNS)]
        own = ", ".join(f"{four[0].printed[n]:.4f}" for n in _COLUMNS)
        text += f" Table IV's row of PrATo ({own}) " + (
            f"is Table V's {same[0]}." if same else f"is none of the {len(five)} rows of Table V."
        )
    return text


def _rows(tables: Mapping[str, Table], *names: str) -> Iterator[Row]:
    """Rows on ACDC."""
    for name, table in tables.items():
        if not names or name in names:
            yield from table.rows.get("acdc", ())


def _printed_operations(tables: Mapping[str, Table]) -> Iterator[tuple[float, float]]:
    for row in _rows(tables, "table2"):
        if "percentile" in row.label and "gflops" in row.printed:
            yield float(row.label.split("th")[0]), row.printed["gflops"]
