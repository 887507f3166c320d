"""The rate that a round chooses beside the full one, at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from prato.data.studies.splits import Split, save_split
from prato.training.fine_tuning import LEARNING_RATE
from scripts.common.results import read_rows
from scripts.simulate import fine_tuning_rates
from tests.phantoms import make_thin_phantoms


@pytest.mark.slow
def test_both_rates_are_measured_where_they_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_thin_phantoms(tmp_path / "studies", 2, slices=2)
    for path in (tmp_path / "studies").rglob("*_ES.nii.gz"):
        path.unlink()
    save_split(tmp_path / "split.json", Split(seed=0, train=["other"], validation=["phantom001", "phantom002"]))
    monkeypatch.setattr(fine_tuning_rates, "ACDC_SPLIT", tmp_path / "split.json")
    monkeypatch.setattr(fine_tuning_rates, "_PATIENTS", 1)
    fine_tuning_rates.main(tmp_path / "studies", tmp_path / "rates.csv", ["as they are", "inverted"], steps=1, seed=1)
    rows = read_rows(tmp_path / "rates.csv")
    assert [row["rate of"] for row in rows if row["hearts"] == "inverted"] == ["no training", "the round"]  # which is the full one
    assert all(row["rate"] == LEARNING_RATE for row in rows if row["hearts"] == "inverted" and row["rate of"] == "the round")
    assert all(0 <= row["dice"][side] <= 1 for row in rows for side in ("new", "old"))
    assert not list(tmp_path.glob("**/candidate.safetensors"))


def test_another_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit, check=lambda stopped: stopped.exit_code == 2):
        fine_tuning_rates.main(tmp_path, tmp_path / "rates.csv", ["tilted"])
    assert "--kind must be one of as they are, uneven, inverted, generated, not 'tilted'." in capsys.readouterr().err
