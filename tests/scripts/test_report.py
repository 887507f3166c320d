"""The pages made from results say first what was learned, are short, and are those that the results give."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.results import read_rows

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
#: Tables of cases whose command stands in the row of their run, in the file named.
_CASES = {"cases.csv": "runs.csv", "token_cases.csv": "tokens.csv"}


@pytest.mark.parametrize(("page", "words"), [("docs/speed.md", 1500), ("docs/results/paper.md", 3000)])
def test_the_pages_are_short_and_say_first_what_was_learned(page: str, words: int) -> None:
    text = (ROOT / page).read_text()
    assert len(text.split()) <= words
    assert text.index("## What was learned") < text.index("\n| ")


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("*.csv")), ids=lambda path: path.name)
def test_every_table_says_how_it_was_made(path: Path) -> None:
    needed = {"device", "commit"} | (set() if path.name in _CASES else {"command"})
    for row in read_rows(path):
        assert needed <= set(row), path.name
    if path.name in _CASES:
        assert "command" in read_rows(path.with_name(_CASES[path.name]))[0]


@pytest.mark.slow
def test_the_pages_are_what_the_results_give(tmp_path: Path) -> None:
    """In a copy of the repository, emptied of what ``make report`` writes, it writes every word again."""
    app = Path("apps", "prato_label")
    for name in ("docs", "scripts", app / "model", app / "refiner"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", tmp_path)
    pages = {path: path.read_text() for path in sorted(tmp_path.rglob("*.md"))}
    for path, text in pages.items():
        if path.parent.name in ("results", "model", "refiner"):
            path.unlink()
        else:
            path.write_text(re.sub(r"(<!-- [\w ]+: begin -->\n).*?(<!-- [\w ]+: end -->)", r"\1\2", text, flags=re.DOTALL))
    paths = os.pathsep.join([str(tmp_path), str(ROOT / app)])
    subprocess.run([sys.executable, "scripts/report.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, check=True)
    assert {*tmp_path.rglob("*.md")} == {*pages}
    assert [str(path.relative_to(tmp_path)) for path, text in pages.items() if path.read_text() != text] == []
