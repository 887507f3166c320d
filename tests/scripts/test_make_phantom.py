"""scripts/make_phantom.py as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_phantom.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


def test_patients_are_made_and_a_second_run_leaves_them_alone(tmp_path: Path) -> None:
    done = run(tmp_path / "s", "--patients", 1, "--seed", 4)
    assert done.returncode == 0 and "2 studies of 1 patients" in done.stdout
    before = {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file()}
    assert len(before) == 5
    again = run(tmp_path / "s", "--patients", 3, "--seed", 5)
    assert again.returncode == 2 and "not an empty folder" in again.stderr and "Traceback" not in again.stderr
    assert {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("arguments", [("--patients", 0), ("--patients", "x"), ("--seed", -1)])
def test_unusable_arguments(tmp_path: Path, arguments: tuple[object, ...]) -> None:
    done = run(tmp_path / "s", *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr and not (tmp_path / "s").exists()
