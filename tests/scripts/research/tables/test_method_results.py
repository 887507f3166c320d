"""What of the page on the method is measured: which differences are marked as shown."""

from __future__ import annotations

from pathlib import Path

from scripts.common.results import write_rows
from scripts.research.tables.method_results import worth
from scripts.research.tables.rows import BOXES
from scripts.research.tables.token_tables import read_token_study

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


def test_means_are_those_of_the_cases_and_are_rounded_once(tmp_path: Path) -> None:
    way = {"network": "unetr", "seed": 0, "way": "dense", "keep": 100}
    cases = {"patient001_ED": 0.88352, "patient002_ED": 0.88350}
    write_rows(
        tmp_path / "token_cases.csv", [{**way, "study": study, "dice": {"tight": d}, "hd95": {"tight": 2.0}} for study, d in cases.items()]
    )
    write_rows(tmp_path / "tokens.csv", [{**way, "box": "tight", "dice": 0.8835, "hd95": 2.0, "gflops": 1.0}])
    [row] = read_token_study(tmp_path)
    assert f"{row['dice']:.3f}" == "0.884"  # 0.8835 would be 0.883
    assert (row["cases"], row["hd95"], row["gflops"]) == (cases, 2.0, 1.0)
