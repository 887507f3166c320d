"""The evidence before training, on networks small enough for a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.common.results import read_rows
from scripts.research import method_evidence
from tests.phantoms import make_thin_phantoms
from tests.scripts.cli import run_script


def run(out: Path) -> tuple[int, str]:
    done = run_script(method_evidence.main, "--out", out, "--slices", 2)
    return done.exit_code, done.output


@pytest.mark.slow
def test_operations_fall_with_dropping_and_not_with_masking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"hidden_size": 96, "mlp_dim": 384, "num_heads": 6, "feature_size": 4, "img_size": 128}
    monkeypatch.setattr(method_evidence, "_FULL", {**method_evidence._FULL, **small})
    monkeypatch.setattr(method_evidence, "make_phantoms", lambda folder, patients, seed: make_thin_phantoms(folder, patients, seed=seed))
    out = tmp_path / "evidence.csv"
    assert run(out)[0] == 0
    found = read_rows(out)
    operations = [row for row in found if row["part"] == method_evidence.OPERATIONS]
    for stages in method_evidence._STAGES:
        rows = [row for row in operations if tuple(row["after"]) == stages]
        dense = rows[0]["value"]
        dropped = [row["value"] for row in rows if row["of"] == "drop"]
        assert dense > dropped[0] > dropped[1] > dropped[2]
        assert all(row["value"] >= dense for row in rows if row["of"] == "mask")
    off = {row["of"]: row["value"] for row in found if row["part"] == method_evidence.DECODING}
    assert off["batch"] < 1e-4 and off["instance"] > 0.05
    assert sum(row["part"] == method_evidence.RANKS for row in found) == 4
    assert all({"commit", "command", "seed", "device"} <= row.keys() for row in found)


@pytest.mark.slow
def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, output = run(tmp_path / "file" / "evidence.csv")
    assert status == 2 and "cannot be written" in output
