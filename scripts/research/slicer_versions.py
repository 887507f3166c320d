"""Run the tests of the 3D Slicer module on the Python of several versions of 3D Slicer; writes docs/slicer_tested.md.

A version is a folder with a checkout of https://github.com/Slicer/Slicer, named as its tag, of which ``Base/Python`` is enough:

    python scripts/research/slicer_versions.py ../slicer/v5.6.2 ../slicer/v5.10.0

Each replaces its own rows of docs/results/slicer_versions.csv.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import typer

from scripts.common.markdown import fill_page, grid
from scripts.common.paths import DOCS, RESULTS, ROOT
from scripts.common.provenance import commit
from scripts.common.results import Row, read_rows, replace_rows

TABLE = RESULTS / "slicer_versions.csv"
#: The tests that run on Slicer's own Python: the panel, cines in it, and the module's own test cases.
TESTS = "tests/slicer_module/test_panel*.py tests/slicer_module/test_cine.py tests/slicer_module/test_self_test.py"


def main(
    sources: Annotated[list[Path], typer.Argument(exists=True, file_okay=False, help="Source trees, in folders named by tag.")],
    tests: Annotated[str, typer.Option(help="Which tests, separated by spaces.")] = TESTS,
) -> None:
    """Run the tests on each source tree."""
    checked_out = commit()  # once: the table that is written below belongs to the checkout, too
    for source in sources:
        row = {**run_tests(source, tests), "commit": checked_out}
        replace_rows(TABLE, [row], ["slicer"])
        print(f"{row['slicer']}: {row['passed']} passed, {row['failed']} failed, {row['skipped']} skipped", flush=True)
    write_page()


def run_tests(source: Path, tests: str) -> Row:
    """Run ``tests`` on the Python of the tree ``source``."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        paths = [str(path) for pattern in tests.split() for path in sorted(ROOT.glob(pattern))]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *paths]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "SLICER_SOURCE": str(source.resolve())}, check=False)
        suite = ElementTree.parse(report).getroot()[0] if report.exists() else None  # none: the process has crashed
    counts = {name: int(suite.get(name, 0)) if suite is not None else 0 for name in ("tests", "failures", "errors", "skipped")}
    failed = counts["failures"] + counts["errors"] + (suite is None) * max(done.returncode, 1)
    return {
        "slicer": source.resolve().name,
        "passed": counts["tests"] - failed - counts["skipped"] if suite is not None else 0,
        "failed": failed,
        "skipped": counts["skipped"],
        "device": "cpu",
        "command": f"SLICER_SOURCE={source.resolve().name} pytest {tests}",
    }


def write_page() -> None:
    """Fill the table of docs/slicer_tested.md."""
    rows = sorted(read_rows(TABLE) if TABLE.exists() else [], key=lambda row: (row["slicer"] == "main", len(row["slicer"]), row["slicer"]))
    shown = ("passed", "failed", "skipped", "commit", "command")
    cells = [[row["slicer"], *(str(row[name]) for name in shown)] for row in rows]
    fill_page(DOCS / "slicer_tested.md", {"versions": grid(["3D Slicer", *shown], cells)})


if __name__ == "__main__":
    typer.run(main)
