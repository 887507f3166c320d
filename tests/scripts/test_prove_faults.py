"""A short version of what ``scripts/prove_faults.py`` does at length, and what it says of a server that is not well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import prove_faults
from faults.asking import Bench

DAMAGED = "a model's replacement under way damaged"


def run(out: Path, *names: str, status: int) -> str:
    app = typer.Typer()
    app.command()(prove_faults.main)
    only = [word for name in names for word in ("--only", name)]
    done = CliRunner().invoke(app, ["--out", str(out), "--seed", "1", *only])
    assert done.exit_code == status, done.output
    return done.output


def test_a_damaged_file_is_survived_and_a_lost_label_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(bench: Bench) -> str:
        """Removed behind the server's back, which no server can make good."""
        bench.start()
        (bench.studies / "label_history" / "final" / "phantom001_ED" / "0001.nii.gz").unlink()
        return "a version removed"

    monkeypatch.setitem(prove_faults.FAULTS, "a label lost", lost)
    output = run(tmp_path / "out", DAMAGED, "a label lost", status=1)
    assert "FAILED: a label lost" in output
    result = json.loads((tmp_path / "out" / "result.json").read_bytes())
    survived, noticed = result["faults"]
    assert survived["verdict"] == "passed", survived["wrong"]
    assert survived["acknowledged_labels"] > 3 and survived["statuses"]["PUT /datastore/label 200"] >= 4
    assert noticed["verdict"] == "failed"
    assert "version 1 of the label of phantom001_ED was acknowledged and is lost" in noticed["wrong"]
    assert {"commit", "command", "seed", "device"} <= result.keys()


def test_refusals(tmp_path: Path) -> None:
    assert "There is no fault 'flood'" in run(tmp_path / "out", "flood", status=2)
    assert not (tmp_path / "out").exists()
    assert "is there already" in run(tmp_path, status=2)
