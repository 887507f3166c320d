"""The claims of the paper, each looked up in the rows that can tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from scripts.research.datasets.base import dataset_class
from scripts.research.tables.rows import BOXES, DATA, NETWORKS, Row, Table
from scripts.research.tables.verdicts import FAILS, HOLDS, NOT_RUN, Claim, beside, best_of, check_order, name_with_dice, no_loss

#: How a row's box reaches its network, as the plans say it.
_SAME_BOX = ("as a channel", "as prompt", "as prompt and channel", "by cropping", "in a window")
#: Methods that are not among the paper's baselines, or spend nothing less.
_NO_BASELINES = ("prato", "dense", "tome", "algm", "cts", "struct_sam")
#: How near the DSC of the literature's best automatic methods is near.
_NEAR = 0.02


def paper_claims(tables: Mapping[str, Table]) -> list[Claim]:
    """All of them on both data sets; without those that no row of ``tables`` is about."""
    claims: list[Claim] = []
    for data in DATA:
        for name, look in (
            ("table1", _variants),
            ("table2", _thresholds),
            ("table3", _bins),
            ("table4", _baselines),
            ("table5", _hosts),
            ("table6", _boxes),
        ):
            if name in tables and tables[name].rows.get(data):
                claims += look(tables[name], data)
    return claims


def own_goals(tables: Mapping[str, Table]) -> list[Claim]:
    """What the paper does not claim and a user would want: the same box for everybody, fewer operations, and the literature's level."""
    claims: list[Claim] = []
    for data in DATA:
        table = tables.get("table4")
        for row in table.where(data, lambda row: row.is_prato) if table else []:
            assert table
            others = table.where(data, lambda other: not other.is_prato and other.design("sees_box") in _SAME_BOX)
            baselines = [other for other in others if other.design("method") != "dense"]
            claims.append(_first(data, row, baselines))
            claims.append(best_of(f"{row.label} is better than every baseline that sees the same box", data, row, baselines))
            claims.append(
                best_of(
                    f"{row.label} is better than every method that sees the same box, including dense networks and cropping",
                    data,
                    row,
                    others,
                )
            )
            claims.append(
                _cheaper(f"{row.label} takes fewer operations than every equally good baseline with the same box", data, row, baselines)
            )
            everyone = table.where(data, lambda other: not other.is_prato)
            claims.append(_cheaper(f"{row.label} takes fewer operations than every equally good method", data, row, everyone))
            if dataset_class(data).reference_dice:
                claims.append(_near_literature(data, row))
        claims += _with_bad_boxes(tables["table6"], data) if "table6" in tables else []
    return claims


def _variants(table: Table, data: str) -> list[Claim]:
    whole = table.where(data, lambda row: row.is_prato and not _without_entropy(row))
    literal = [row for row in whole if row.is_literal]
    plain, cut = table.where(data, _without_entropy), table.where(data, lambda row: row.design("sees_box") == "by cropping")
    weighting, cropping = "Weighting queries by their entropy helps", "Pruning beats cropping the image to the box"
    helps = best_of(weighting, data, literal[0], plain) if literal else Claim(weighting, data, NOT_RUN, ())
    beats = [best_of(_of(cropping, row, whole), data, row, cut) for row in whole]
    return [helps, *(beats or [Claim(cropping, data, NOT_RUN, ())])]


def _without_entropy(row: Row) -> bool:
    return bool(row.design("weights") == "equal")


def _thresholds(table: Table, data: str) -> list[Claim]:
    fixed = table.where(data, lambda row: row.is_literal and row.design("threshold") is not None)
    shares = table.where(data, lambda row: row.is_literal and row.design("percentile") is not None)
    says = "A percentile as threshold is better than a fixed one"
    claims = [best_of(f"{says} ({row.label})", data, row, fixed) for row in shares] if fixed else []
    return claims or [Claim(says, data, NOT_RUN, ())]


def _bins(table: Table, data: str) -> list[Claim]:
    five = table.where(data, lambda row: row.is_literal and row.design("k") == 5)
    says = "k = 5 is the best size of the prompted region"
    if not five:
        return [Claim(says, data, NOT_RUN, ())]
    return [best_of(says, data, five[0], table.where(data, lambda row: row.design("k") not in (None, 5)))]


def _baselines(table: Table, data: str) -> list[Claim]:
    rows = table.where(data, lambda row: row.is_prato)
    baselines = table.where(data, lambda row: row.design("method") not in _NO_BASELINES and row.design("sees_box") == "not at all")
    says = "PrATo beats each baseline as it was published"
    return [best_of(_of(says, row, rows), data, row, baselines) for row in rows] or [Claim(says, data, NOT_RUN, ())]


def _hosts(table: Table, data: str) -> list[Claim]:
    claims = []
    for network, title in NETWORKS.items():
        own = table.where(data, lambda row, network=network: row.design("network") == network)  # type: ignore[misc]
        dense = [row for row in own if row.design("method") == "dense" and row.design("sees_box") == "not at all"]
        says = f"Pruning cuts the operations of {title} without loss"
        pruned = [row for row in own if row.is_prato]
        found = [no_loss(_of(says, row, pruned), data, dense[0], row) for row in pruned] if dense else []
        claims += found or [Claim(says, data, NOT_RUN, ())]
    return claims


def _boxes(table: Table, data: str) -> list[Claim]:
    says = "DSC falls from tight to partial to oversized to misleading boxes"
    families = [family for family in _families(table, data) if family["tight"].is_prato]
    claims = []
    for family in families:
        rows = [replace(family[box], label=box) for box in BOXES]
        whose = family["tight"].label.removesuffix(", tight box")
        claims.append(check_order(says if len(families) == 1 else f"{says} ({whose})", data, rows))
    return claims or [Claim(says, data, NOT_RUN, ())]


def _families(table: Table, data: str) -> list[dict[str, Row]]:
    """Rows that are one trained model under each of the four boxes, by box."""
    found: dict[str, dict[str, Row]] = {}
    for row in table.measured(data):
        found.setdefault(row.design("model_of") or row.experiment, {})[row.design("box")] = row
    return [family for family in found.values() if all(box in family for box in BOXES)]


def _with_bad_boxes(table: Table, data: str) -> list[Claim]:
    families = _families(table, data)
    others = [family for family in families if not family["tight"].is_prato]
    return [
        best_of(f"{family[box].label} is better than every other method with that box", data, family[box], [other[box] for other in others])
        for family in families
        if family["tight"].is_prato
        for box in BOXES
        if box != "tight"
    ]


def _of(says: str, row: Row, rows: list[Row]) -> str:
    """The claim, and of which row where there are several."""
    return says if len(rows) < 2 else f"{says} ({row.label})"


def _first(data: str, row: Row, baselines: list[Row]) -> Claim:
    """By means alone, over the seeds that both have; the claim after it says whether the difference is shown."""
    says = f"{row.label} has a higher mean DSC than every baseline that sees the same box"
    pairs = beside(row, baselines)
    ahead = [f"{baseline.label} {theirs:.3f} to {ours:.3f}" for baseline, ours, theirs in pairs if ours <= theirs]
    if not pairs:
        return Claim(says, data, NOT_RUN, ())
    above = f"above {len(pairs) - len(ahead)} of {len(pairs)} trained for as long"
    said = f"{name_with_dice(row)}, {above}" + (f"; not above {', '.join(ahead)}." if ahead else ".")
    return Claim(says, data, FAILS if ahead else HOLDS, (said,), (len(pairs), len(baselines)))


def _cheaper(says: str, data: str, row: Row, others: list[Row]) -> Claim:
    assert row.outcome
    ours, dice = row.outcome.mean("gflops"), row.dice()
    pairs = beside(row, others)
    if ours is None or dice is None or not pairs:
        return Claim(says, data, NOT_RUN, ())
    good = [other for other, own, theirs in pairs if theirs >= own]
    costs = {other.label: other.outcome.mean("gflops") or 0.0 for other in good if other.outcome}
    cheaper = {label: cost for label, cost in costs.items() if cost <= ours}
    said = f"{ours:.2f} GFLOP at DSC {dice:.3f}; "
    said += (
        f"as good with no more GFLOP: {', '.join(f'{a} {c:.2f}' for a, c in cheaper.items())}."
        if cheaper
        else "no other is as good with as few."
    )
    return Claim(says, data, FAILS if cheaper else HOLDS, (said,), (len(pairs), len(others)))


def _near_literature(data: str, row: Row) -> Claim:
    says = f"{row.label} is within {100 * _NEAR:.0f} points of the literature's best automatic DSC"
    assert row.outcome
    best_known = dataset_class(data).reference_dice
    ours = {name: row.outcome.mean("dice", name) for name in best_known}
    gaps = {name: (ours[name] or 0.0) - best for name, best in best_known.items()}
    said = ", ".join(f"{name} {ours[name] or 0.0:.3f} against {best:.2f}" for name, best in best_known.items())
    return Claim(says, data, HOLDS if min(gaps.values()) >= -_NEAR else FAILS, (f"{said}.",))
