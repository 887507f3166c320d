"""The study measures every way on the same volumes and boxes, goes on where it was, and its pages are made from its file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from prato.models.checkpoint import save_model
from scripts.common.results import read_rows
from scripts.research import token_study
from tests.phantoms import make_thin_phantoms
from tests.prato.conftest import small_spec
from tests.scripts.cli import run_script

pytestmark = pytest.mark.slow

BOXES = {"tight", "oversized", "partial", "misleading"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    make_thin_phantoms(folder / "studies", 1, slices=2)
    patient = json.loads((folder / "studies" / "manifest.json").read_text())["studies"]
    name = next(iter(patient.values()))["patient"]
    (folder / "split.json").write_text(json.dumps({"seed": 0, "train": ["other"], "validation": [name]}))
    coarse = small_spec("swin_unetr").model_copy(update={"window": 128, "pixel": 3.0})
    whole = coarse.model_copy(update={"centre": "image"})
    for model, spec in (("relevance", whole), ("dense", whole.with_plan(None)), ("at_box", coarse.with_plan(None))):
        save_model(folder / f"{model}.safetensors", spec.build(), spec)
    return folder


def run(folder: Path, out: Path, **changed: Path) -> tuple[int, str]:
    models = {"relevance": "relevance", "random": "relevance", "engine": "relevance", "dense": "dense", "at-box": "at_box"}
    given = {name: changed.get(name, folder / f"{file}.safetensors") for name, file in models.items()}
    options = [text for name, path in given.items() for text in (f"--{name}", path)]
    files = ("--studies", folder / "studies", "--split", folder / "split.json", "--out", out)
    done = run_script(token_study.main, *files, "--network", "swin", *options)
    return done.exit_code, done.output


def test_every_way_meets_every_box_and_nothing_is_measured_twice(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["token_study.py"])
    monkeypatch.setattr(token_study, "_KEEP", (25,))
    out = tmp_path / "tokens.csv"
    assert run(folder, out)[0] == 0
    rows = read_rows(out)
    assert {(row["way"], row["box"]) for row in rows} == {(way.name, box) for way in _ways(folder) for box in BOXES}
    kept = {row["way"]: row["tokens"] for row in rows if row["box"] == "tight"}
    assert kept["dense"] == 1 and kept["random tokens"] == pytest.approx(kept["relevance, dropped"], abs=0.05)
    gflops = {row["way"]: row["gflops"] for row in rows if row["box"] == "tight"}
    assert gflops["engine"] < gflops["relevance, dropped"] < gflops["relevance, masked"]
    cut = next(row for row in rows if row["way"] == "cut to the box" and row["box"] == "misleading")
    assert cut["dice"] < 0.01  # nothing of the heart can be found beside it
    cases = [row for row in read_rows(tmp_path / "token_cases.csv") if row["way"] == "dense"]
    assert len(cases) == cases[0]["seed"] + rows[0]["studies"] and set(cases[0]["dice"]) == BOXES
    monkeypatch.setattr(token_study, "_cases", lambda *_: pytest.fail("measured again"))
    assert run(folder, out)[0] == 0


def _ways(folder: Path) -> list[token_study.Way]:
    files = (folder / f"{name}.safetensors" for name in ("relevance", "relevance", "dense", "relevance", "at_box"))
    return list(token_study._ways(*files))


def test_a_model_without_a_plan_is_refused(folder: Path, tmp_path: Path) -> None:
    code, said = run(folder, tmp_path / "no.csv", relevance=folder / "dense.safetensors")
    assert code == 2 and "trained without pruning" in said and not (tmp_path / "no.csv").exists()
