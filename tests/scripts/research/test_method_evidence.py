"""The evidence before training, on networks small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from scripts.research import method_evidence


def run(out: Path) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(method_evidence.main)
    done = CliRunner().invoke(app, ["--out", str(out), "--slices", "2"])
    return done.exit_code, done.output


@pytest.mark.slow
def test_operations_fall_with_dropping_and_not_with_masking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"hidden_size": 192, "mlp_dim": 768, "num_heads": 6, "feature_size": 4, "img_size": 128}
    monkeypatch.setattr(method_evidence, "_FULL", {**method_evidence._FULL, **small})
    out = tmp_path / "evidence.json"
    assert run(out)[0] == 0
    found = json.loads(out.read_text())
    for stages in method_evidence._STAGES:
        rows = [row for row in found["operations"] if tuple(row["after"]) == stages]
        dense = rows[0]["gflops"]
        dropped = [row["gflops"] for row in rows if row["mode"] == "drop"]
        assert dense > dropped[0] > dropped[1] > dropped[2]
        assert all(row["gflops"] >= dense for row in rows if row["mode"] == "mask")
    assert found["decoding"]["batch"]["difference"] < 1e-4
    assert found["decoding"]["instance"]["difference"] > 0.05
    assert len(found["scores"]["box_over_outside"]) == 4
    assert {"commit", "command", "seed", "device"} <= found.keys()


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, output = run(tmp_path / "file" / "evidence.json")
    assert status == 2 and "cannot be written" in output
