"""The part of docs/measured/method.md on whether relevance chooses better tokens than chance, from scripts/research/relevance_study.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scripts.common.markdown import grid
from scripts.common.results import read_rows
from scripts.research.tables.paired import Paired, compare_patients, holm
from scripts.research.tables.rows import NETWORKS

#: What is compared with what, the first's DSC minus the second's: relevance with what it has to beat, and the ways to make relevance.
_RIVALS = (
    ("relevance", "random tokens"),
    ("relevance", "nearest to the box"),
    ("relevance outside the box", "random outside the box"),
    ("relevance outside the box", "nearest outside the box"),
)
_VARIANTS = (
    ("relevance", "relevance, queries weighted equally"),
    ("relevance", "relevance, k = 1"),
    ("relevance", "relevance, k = 9"),
)


def relevance_text(path: Path) -> str:
    """Markdown: paired differences in mean DSC with their intervals, a column for each network and share.

    Raises:
        ValueError: ``path`` is no result of the study.
    """
    found: dict[tuple[str, int, str], dict[str, float]] = {}
    tokens: dict[tuple[str, int, str], list[float]] = {}
    for row in read_rows(path):
        key = row["network"], row["keep"], row["way"]
        found.setdefault(key, {})[row["patient"]] = row["dice"]
        tokens.setdefault(key, []).append(row["tokens"])
    places = [*dict.fromkeys(key[:2] for key in found)]
    head = ["difference in mean DSC", *(f"{NETWORKS[network]}, {keep} %" for network, keep in places)]
    lines, patients = [], 0
    for pairs in (_RIVALS, _VARIANTS):
        corrected = holm([compare(found, place, pair) for pair in pairs for place in places])
        patients = corrected[0].patients
        for n, (one, other) in enumerate(pairs):
            cells = [_cell(change) for change in corrected[n * len(places) : (n + 1) * len(places)]]
            lines.append([f"{one} minus {other}", *cells])
    spared = [100 * sum(own) / len(own) for (_, _, way), own in tokens.items() if way == "relevance outside the box"]
    text = grid(head, lines)
    text += f"\n{patients} validation patients, tight boxes, 95 % intervals over patients; with \\* p is below 0.05 after Holm's "
    text += "correction, of the first four rows and of the others. Columns: tokens kept after the first stage; *outside the box*: all "
    return text + f"under the box stay, then the best of the others, {min(spared):.0f} to {max(spared):.0f} % in all.\n"


def compare(found: Mapping[tuple[str, int, str], Mapping[str, float]], place: tuple[str, int], pair: tuple[str, str]) -> Paired:
    """The ways of ``pair`` in one network at one share.

    Raises:
        ValueError: one of them was not measured there.
    """
    one, other = (found.get((*place, way), {}) for way in pair)
    difference = compare_patients(one, other)
    if difference is None:
        raise ValueError(f"The study of relevance lacks {' or '.join(pair)} of {place[0]} at {place[1]} %: run relevance_study.py again.")
    return difference


def _cell(change: Paired) -> str:
    low, high = change.interval or (float("nan"), float("nan"))
    return f"{change.difference:+.3f} [{low:+.3f}, {high:+.3f}]" + (" \\*" if change.better or change.worse else "")
