"""scripts/research/recipe_study.py: every way is trained once and measured on the validation side alone; a name that is none is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from scripts.research import recipe_study
from tests.scripts.research.small import make_blobs, small_unetr, tiny, write_plan


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    small_unetr(monkeypatch)
    write_plan(tmp_path / "plans", "table4/best", tiny("prato", "in a window", image=128))
    monkeypatch.setattr(recipe_study, "PLANS", tmp_path / "plans")
    given = {"out": "recipe.json", "splits": "r", "models": "m", "acdc": "none"}
    return ["--isic", str(make_blobs(tmp_path / "isic", 10)), *(f"--{key}={tmp_path / name}" for key, name in given.items())]


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(recipe_study.main)
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output


@pytest.mark.slow
def test_all_ways_on_the_validation_side(places: list[str], tmp_path: Path) -> None:
    code, said = run("table4/best", *places)
    assert code == 0, said
    found = json.loads((tmp_path / "recipe.json").read_text())
    assert [(row["way"], row["boxed"]) for row in found["rows"]] == [(way, boxed) for way in recipe_study.WAYS for boxed in (False, True)]
    split = json.loads((tmp_path / "r" / "split_isic.json").read_text())
    assert {case["patient"] for row in found["rows"] for case in row["cases"]} == set(split["validation"])
    assert found["side"] == "validation" and found["commit"] and found["command"]
    models = {path: path.stat().st_mtime_ns for path in (tmp_path / "m").rglob("*.safetensors")}
    assert len(models) == len(recipe_study.WAYS) and run("table4/best", *places)[0] == 0
    assert models == {path: path.stat().st_mtime_ns for path in models}


def test_a_name_that_is_no_experiment_is_refused(places: list[str]) -> None:
    code, said = run("table4/none", *places)
    assert code == 2 and "table4/none is no experiment such as table4/best." in said
