"""What of the page on the method is measured: which differences are marked as shown."""

from __future__ import annotations

from scripts.research.tables.method_results import worth
from scripts.research.tables.rows import BOXES

#: By way and % kept: by how much its DSC is above that of random tokens.
GAINS = {
    **{("relevance, dropped", 50): 0.05, ("relevance, dropped", 25): 0.0, ("random tokens", 50): 0.0, ("random tokens", 25): 0.0},
    **{
        ("engine", 50): 0.0,
        ("engine", 25): -0.02,
        ("cut to the box", 100): 0.0,
        ("dense, window at the box", 100): 0.0,
        ("dense", 100): 0.0,
    },
}


def test_a_star_marks_what_is_shown_to_be_higher_or_lower() -> None:
    cases = {f"patient{n:03d}_ED": 0.7 + 0.01 * (n % 5) for n in range(1, 15)}
    found = {
        (way, keep, box): {"cases": {study: dice + gain + 1e-5 * n for n, (study, dice) in enumerate(cases.items())}}
        for (way, keep), gain in GAINS.items()
        for box in BOXES
    }
    text = worth(found)
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:] for line in text.splitlines() if line.startswith("| ")}
    assert all(cell.strip(" |") == "+0.050 \\*" for cell in rows["relevance minus random tokens, 50 % kept"])
    assert all(cell.strip(" |") == "+0.000" for cell in rows["relevance minus random tokens, 25 % kept"])
    assert all(cell.strip(" |") == "-0.020 \\*" for cell in rows["engine minus dense on the whole slice, 25 % kept"])
    assert f"- *relevance minus random tokens*: shown to be higher in {len(BOXES)} (" in text
    assert f"shown to be lower in {len(BOXES)} (" in text
