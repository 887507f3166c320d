"""What was learned from running the paper again, in a few sentences made from its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from scripts.research.datasets.base import dataset_class
from scripts.research.tables.rows import DATA, Row, Table
from scripts.research.tables.verdicts import FAILS, HOLDS, NOT_RUN, NOT_SHOWN, Claim, compare, name_with_dice

#: Rows of Table IV that are named as the best ones.
_BEST = 2


def summary_text(tables: Mapping[str, Table], claims: Sequence[Claim]) -> str:
    """Markdown, a list; empty where nothing was run."""
    run = [claim for claim in claims if claim.verdict != NOT_RUN]
    table = tables.get("table4")
    if not run or table is None:
        return ""
    sentences = [f"**{count_verdicts(tables, claims)}.**"]
    all_learn = _all_learn(tables)
    for data in DATA:
        rows = sorted(table.longest(data), key=lambda row: -(row.dice() or 0.0))
        if rows:
            sentences += [_ranked(data, rows), *_same_box(data, rows, all_learn), *_box_alone(data, rows)]
    return "".join(f"- {sentence}\n" for sentence in sentences)


def count_verdicts(tables: Mapping[str, Table], claims: Sequence[Claim]) -> str:
    """How many of the claims hold, without a full stop."""
    counts = Counter(NOT_SHOWN if claim.verdict == HOLDS and claim.is_about_more else claim.verdict for claim in claims)
    return (
        f"Of the paper's claims, counted by row and data set, {counts[HOLDS]} hold, "
        f"{counts[FAILS]} do not, and {counts[NOT_SHOWN]} are not shown either way"
        + ("; all rows are *still learning*" if _all_learn(tables) else "")
    )


def _all_learn(tables: Mapping[str, Table]) -> bool:
    return all(row.is_still_learning for table in tables.values() for data in DATA for row in table.measured(data))


def _ranked(data: str, rows: Sequence[Row]) -> str:
    best = "; ".join(_with_cost(row) for row in rows[:_BEST])
    literal = [(place, row) for place, row in enumerate(rows, start=1) if row.is_literal]
    own = "".join(
        f" {row.label} ranks {place} of {len(rows)} ({_with_cost(row).removeprefix(row.label).strip()})." for place, row in literal
    )
    assert rows[0].outcome
    seen = f"best of {len(rows)} rows of Table IV, by mean DSC, at {rows[0].outcome.slices:,} {dataset_class(data).sample.split()[-1]}s"
    return f"**{DATA[data]}**, {seen}: {best}.{own}"


def _same_box(data: str, rows: Sequence[Row], all_learn: bool) -> list[str]:
    """How PrATo, as the paper has it and at its best here, fares against what prunes with the same box; where ``all_learn``, the first
    sentence has said that the rows are still learning."""
    rivals = [row for row in rows if not row.is_prato and row.design("method") != "dense" and row.design("sees_box") == "as a channel"]
    ours = [row for row in rows if row.is_prato]
    said, learn = [], []
    as_proposed = [row for row in ours if row.is_literal or row.has_box_channel]
    for one in {row.experiment: row for row in [*as_proposed, *ours[:1]]}.values():
        found = compare(one, rivals)
        if not found:
            continue
        parts = []
        shown = [pair for pair in found if pair[1].better], [pair for pair in found if pair[1].worse]
        for words, chosen in zip(("better than", "worse than"), shown):
            if chosen:
                low, high = (f"{limit(difference.difference for _, difference in chosen):+.3f}" for limit in (min, max))
                names = _named([row.label.replace(" + box", "") for row, _ in chosen], len(found))
                parts.append(f"{words} {names} ({low if low == high else f'{low} to {high}'})")
        if others := len(found) - sum(map(len, shown)):
            parts.append(f"not shown to differ from {'any' if others == len(found) else others} of {len(found)}")
        learning = sum(row.is_still_learning for row in [one, *(row for row, _ in found)])
        learn.append({0: "", len(found) + 1: "all"}.get(learning, f"{learning}"))
        said.append(f"{one.label} is {', '.join(parts)}")
    alike = len(set(learn)) == 1  # said once, then
    still = ["" if all_learn or not count else f" ({count} *still learning*)" for count in learn]
    said = said if alike else [sentence + count for sentence, count in zip(said, still)]
    said += _channel(rows)
    return [f"{DATA[data]}, pruning with the same box{still[0] if alike else ''}: {'; '.join(said)}."] if said else []


def _named(labels: Sequence[str], of: int) -> str:
    return f"all {of}" if len(labels) == of > 1 else ", ".join(labels)


def _channel(rows: Sequence[Row]) -> list[str]:
    """What it adds that PrATo, as the paper has it, is told of the box as the baselines are."""
    found = [
        pair for told in rows if told.is_prato and told.has_box_channel for pair in compare(told, [row for row in rows if row.is_literal])
    ]
    return [
        f"the box as a channel adds {difference.difference:+.3f} to {row.label}"
        + ("" if difference.better or difference.worse else " (not shown)")
        for row, difference in found
    ]


def _box_alone(data: str, rows: Sequence[Row]) -> list[str]:
    """What the box is worth without any pruning, by how the network gets it."""
    dense = [row for row in rows if row.design("method") == "dense"]
    if len(dense) < 2:
        return []
    told = "; ".join(name_with_dice(row) for row in reversed(dense))
    return [f"{DATA[data]}, mean DSC without pruning: {told}."]


def _with_cost(row: Row) -> str:
    cost = row.outcome.mean("gflops") if row.outcome else None
    return name_with_dice(row) + ("" if cost is None else f" for {cost:.2f} GFLOP")
