"""A short version of what ``scripts/chaos/prove_faults.py`` does at length, and what it says of a server that is not well."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.chaos import prove_faults
from scripts.chaos.faults import base
from scripts.chaos.faults.base import lay_out
from scripts.chaos.faults.bench import Bench
from scripts.chaos.faults.damage import damage
from scripts.common.results import read_rows
from tests.phantoms import make_thin_phantoms
from tests.scripts.cli import run_script
from tests.scripts.forked_demo import fork_demo_servers


def run(out: Path, *names: str, status: int) -> str:
    only = [word for name in names for word in ("--only", name)]
    done = run_script(prove_faults.main, "--out", out, "--seed", 1, *only)
    assert done.exit_code == status, done.output
    return done.output


@pytest.mark.slow
def test_a_damaged_file_is_survived_and_a_lost_label_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(bench: Bench) -> str:
        """A version removed behind the server's back, which no server can make good, after a fault that it has to survive."""
        done = damage("app/model/versions/prato_unetr/replacing.json", bench)
        assert bench.wrong == []
        study, number = next(iter(bench.acknowledged))
        assert (study, number) == ("phantom001_ED", 2)
        (bench.studies / "label_history" / "final" / study / "0002.nii.gz").unlink()
        return done

    fork_demo_servers(monkeypatch)
    monkeypatch.setattr(base, "make_phantoms", lambda folder, patients, seed: make_thin_phantoms(folder, patients, 6, seed))
    monkeypatch.setattr(prove_faults, "make_base", lay_out)  # the past that a server would give it takes longer than the fault
    monkeypatch.setitem(prove_faults.FAULTS, "a label lost", lost)
    output = run(tmp_path / "out", "a label lost", status=1)
    assert "FAILED: a label lost" in output
    (row,) = read_rows(tmp_path / "out" / "result.csv")
    answers = dict(answer.rsplit(": ", 1) for answer in row["answers"].split("; "))
    assert int(answers["PUT /datastore/label 200"]) >= 6
    assert "version 2 of the label of phantom001_ED was acknowledged and is lost" in row["wrong"]
    assert [line for line in row["wrong"] if "version 2" not in line] == []  # which cannot be compared any more either
    assert {"commit", "command", "seed", "device"} <= row.keys()


def test_refusals(tmp_path: Path) -> None:
    assert "There is no fault 'flood'" in run(tmp_path / "out", "flood", status=2)
    assert not (tmp_path / "out").exists()
    assert "already exists" in run(tmp_path, status=2)
