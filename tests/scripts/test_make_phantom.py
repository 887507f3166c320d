"""scripts/make_phantom.py as a user runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import make_phantom
from tests.scripts.cli import run_script


@pytest.mark.slow
def test_patients_are_made_and_a_second_run_leaves_them_alone(tmp_path: Path) -> None:
    done = run_script(make_phantom.main, tmp_path / "s", "--patients", 1, "--seed", 4)
    assert done.exit_code == 0 and "2 studies of 1 patients" in done.stdout
    before = {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file()}
    assert len(before) == 5
    again = run_script(make_phantom.main, tmp_path / "s", "--patients", 3, "--seed", 5)
    assert again.exit_code == 2 and "not an empty folder" in again.stderr
    assert {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("arguments", [("--patients", 0), ("--patients", "x"), ("--seed", -1)])
def test_unusable_arguments(tmp_path: Path, arguments: tuple[object, ...]) -> None:
    done = run_script(make_phantom.main, tmp_path / "s", *arguments)
    assert done.exit_code == 2 and not (tmp_path / "s").exists()
