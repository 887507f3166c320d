"""Parts of the pages on the method measured on trained networks: the study of tokens, the benchmark, the patients, the claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prato.data.wording import span
from prato.evaluation.evaluate import summary
from scripts.common.markdown import grid
from scripts.common.results import Row, read_rows
from scripts.research.tables.claims import paper_claims
from scripts.research.tables.paired import Paired, compare_patients, holm
from scripts.research.tables.paper_summary import count_verdicts
from scripts.research.tables.rows import BOXES, NETWORKS, Table
from scripts.research.tables.token_tables import read_token_study
from scripts.research.tables.verdicts import NOT_RUN

#: Network and seed of the study of tokens that the page is about.
_STUDY = ("swin_unetr", 0)
Study = Mapping[tuple[str, int, str], Mapping[str, Any]]


def study(results: Path) -> dict[tuple[str, int, str], dict[str, Any]]:
    """What the Swin UNETR's study of tokens, seed 0, measured by way, % kept and box, each with its ``cases``: DSC by study."""
    rows = (row for row in read_token_study(results) if (row["network"], row["seed"]) == _STUDY)
    return {(row["way"], row["keep"], row["box"]): row for row in rows}


def masking(found: Study) -> str:
    """What masking costs, in operations and in DSC, beside dropping with the same weights."""
    shares = sorted({keep for way, keep, _ in found if way == "relevance, masked"}, reverse=True)
    head = ["% kept after stage 1", "dropped: DSC", "masked: DSC", "dropped: GFLOP", "masked: GFLOP"]
    pairs = [[found[f"relevance, {how}", keep, "tight"] for how in ("dropped", "masked")] for keep in shares]
    lines = [
        [str(keep), *(f"{row['dice']:.3f}" for row in pair), *(f"{row['gflops']:.1f}" for row in pair)] for keep, pair in zip(shares, pairs)
    ]
    dense = found["dense", 100, "tight"]
    return (
        grid(head, lines)
        + f"\nSwin UNETR, tight boxes; the dense network: DSC {dense['dice']:.3f}, {dense['gflops']:.1f} GFLOP per volume.\n"
    )


def worth(found: Study) -> str:
    """Relevance against random tokens, and the engine against the other ways to use a box, under every box."""
    shares = sorted({keep for way, keep, _ in found if way == "relevance, dropped"}, reverse=True)
    most, least = shares[0], shares[-1]
    groups = {
        "relevance minus random tokens": [(f"{keep} % kept", ("relevance, dropped", keep), ("random tokens", keep)) for keep in shares],
        "engine minus the cut to the box": [(f"{keep} % kept", ("engine", keep), ("cut to the box", 100)) for keep in (most, least)],
        "engine minus dense in a window at the box": [
            (f"{keep} % kept", ("engine", keep), ("dense, window at the box", 100)) for keep in (most, least)
        ],
        "engine minus dense on the whole slice": [(f"{keep} % kept", ("engine", keep), ("dense", 100)) for keep in (most, least)],
    }
    comparisons = [(group, *pair) for group, pairs in groups.items() for pair in pairs]
    differences = [_difference(found[(*one, box)], found[(*two, box)]) for _, _, one, two in comparisons for box in BOXES]
    corrected = holm(differences)
    lines = [
        [f"{group}, {share}", *map(_cell, corrected[n * len(BOXES) : (n + 1) * len(BOXES)])]
        for n, (group, share, *_) in enumerate(comparisons)
    ]
    text = grid(["difference in mean DSC", *BOXES], lines)
    text += f"\n{differences[0].patients} patients; with \\* p is below 0.05 after Holm's correction for the whole table "
    text += "(Wilcoxon signed-rank test).\n\n"
    boxes = [box for _ in comparisons for box in BOXES]
    names = [group for group, *_ in comparisons for _ in BOXES]
    return text + "".join(_count_shown(g, [(box, c) for name, box, c in zip(names, boxes, corrected) if name == g]) for g in groups)


def _count_shown(group: str, found: Sequence[tuple[str, Paired]]) -> str:
    """An item of a list: in how many comparisons, and under which boxes, a difference is shown."""
    parts = []
    for words, chosen in (
        ("higher", [box for box, change in found if change.better]),
        ("lower", [box for box, change in found if change.worse]),
    ):
        where = f" ({', '.join(dict.fromkeys(chosen))})" if chosen else ""
        parts.append(f"shown to be {words} in {len(chosen)}{where}")
    means = [change.difference for _, change in found]
    return f"- *{group}*: {', '.join(parts)} of {len(found)} comparisons; from {min(means):+.3f} to {max(means):+.3f}.\n"


def speed(results: Path) -> str:
    """Times faster than dense, over the boxes that were timed."""
    rows = [row for row in read_rows(results / "benchmark.csv") if row["benchmark"] == "cpu1"]
    places = [*dict.fromkeys((row["model"], row["batch"]) for row in rows)]
    times: dict[str, dict[tuple[str, int], list[float]]] = {}
    for row in rows:
        times.setdefault(row["way"], {}).setdefault((row["model"], row["batch"]), []).append(row["times_faster_than_dense"])
    head = [f"{NETWORKS.get(model.removeprefix('prato_'), model)}, {batch} per call" for model, batch in places]
    lines = [[way, *(span(own[place]) for place in places)] for way, own in times.items()]
    areas = [100 * row["box_area"] for row in rows]
    text = grid(["way", *head], lines) + f"\nTimes faster than dense, for boxes of {min(areas):.0f} to {max(areas):.0f} % of the image.\n\n"
    over_all = {way: span([value for values in own.values() for value in values]) for way, own in times.items()}
    chosen = {"masked": "masking", "dropped, decode all": "dropping alone", "dropped, decode kept": "dropping with the kept region decoded"}
    chosen |= {"engine": "stage 0 and the kept region decoded"}
    return (
        text + f"Ranges over all of these: {', '.join(f'{words} {over_all[way]}' for way, words in chosen.items() if way in over_all)}.\n"
    )


def validation(results: Path) -> str:
    """The window networks beside the same networks trained dense: pruned minus dense."""
    lines, differences, own = [], [], _dense_twins(results)
    for network in ("swin_unetr", "unetr"):
        for box in BOXES:
            pruned, dense = (own.get((f"{kind}_{network}", box), []) for kind in ("prato", "dense"))
            if not pruned or not dense:
                continue
            change = compare_patients(_by_patient(pruned), _by_patient(dense))
            if change is None:
                continue
            differences.append(change)
            made = [summary(cases) for cases in (pruned, dense)]
            cells = [
                NETWORKS[network],
                box,
                *(f"{each['mean_dice']:.3f}" for each in made),
                f"{100 * (made[0]['gflops'] / made[0]['gflops_dense'] - 1):+.0f} %",
            ]
            lines.append(cells)
    if not lines:
        return NOT_RUN
    told = [[*cells, change.words()] for cells, change in zip(lines, holm(differences))]
    head = ["network", "box", "pruned: DSC", "trained dense: DSC", "GFLOP", "difference over patients"]
    text = grid(head, told) + f"\n{differences[0].patients} patients, one seed; GFLOP against the same call unpruned.\n"
    return text


def _dense_twins(results: Path) -> dict[tuple[str, str], list[Row]]:
    """Cases of the validation patients by model and box: pruned networks, and dense ones that were trained alike."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in read_rows(results / "dense_twins.csv"):
        found.setdefault((row["model"], row["box"]), []).append({"kept_fraction": {}, **row})
    return found


def claims(tables: Mapping[str, Table]) -> str:
    """How many of the verdicts of docs/results/paper.md are which."""
    found = paper_claims(tables)
    if all(claim.verdict == NOT_RUN for claim in found):
        return "The paper's experiments have not been run yet."
    return f"{count_verdicts(tables, found)}."


def by_structure(results: Path) -> str:
    """The order of the structures' DSC here, to hold against the paper's columns."""
    found = summary(_dense_twins(results)["dense_unetr", "tight"])["structures"]
    return f" Here, a dense UNETR under tight boxes: {', '.join(_named(name, own['dice']) for name, own in found.items())}."


def _named(name: str, dice: float) -> str:
    return f"{name} {dice:.3f}"


def _difference(one: Mapping[str, Any], two: Mapping[str, Any]) -> Paired:
    difference = compare_patients(one["cases"], two["cases"])
    assert difference is not None  # the same studies in every row
    return difference


def _by_patient(cases: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for case in cases:
        found.setdefault(case["patient"], []).append(case["mean_dice"])
    return {patient: sum(values) / len(values) for patient, values in found.items()}


def _cell(difference: Paired) -> str:
    return f"{difference.difference:+.3f}" + (" \\*" if difference.better or difference.worse else "")
