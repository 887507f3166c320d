"""scripts/research/recipe_study.py: every way is trained once and measured on the validation side alone; a name that is none is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.common.results import read_rows
from scripts.research import recipe_study
from tests.scripts.cli import run_script
from tests.scripts.research.small import PLAN, make_blobs, small_unetr, write_matrix


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    small_unetr(monkeypatch)
    best = {"method": "prato", "sees_box": "in a window", "plan": PLAN}
    given = {"out": "recipe.csv", "splits": "r", "models": "m", "matrix": "matrix.yaml"}
    dense = {"method": "dense", "sees_box": "not at all"}
    write_matrix(tmp_path / "matrix.yaml", {"table4/best": best, "table4/dense": dense})
    return ["--data", f"isic={make_blobs(tmp_path / 'isic', 10)}", *(f"--{key}={tmp_path / name}" for key, name in given.items())]


def run(*arguments: str) -> tuple[int, str]:
    done = run_script(recipe_study.main, *arguments)
    return done.exit_code, done.output


@pytest.mark.slow
def test_all_ways_on_the_validation_side(places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: set[str] = set()
    measure = recipe_study.measure

    def watched(network, plan, cases, *rest):
        names.update(case.patient for case in cases)
        return measure(network, plan, cases, *rest)

    monkeypatch.setattr(recipe_study, "measure", watched)
    code, said = run("table4/best_isic", *places)
    assert code == 0, said
    rows = read_rows(tmp_path / "recipe.csv")
    assert [(row["way"], row["boxed"]) for row in rows] == [(way, boxed) for way in recipe_study.WAYS for boxed in (False, True)]
    split = json.loads((tmp_path / "r" / "split_isic.json").read_text())
    assert names == set(split["validation"]) and {row["patients"] for row in rows} == {len(names)}
    assert all(row["side"] == "validation" and row["commit"] and row["command"] for row in rows)
    models = {path: path.stat().st_mtime_ns for path in (tmp_path / "m").rglob("*.safetensors")}
    assert len(models) == len(recipe_study.WAYS) and run("table4/best_isic", *places)[0] == 0
    assert models == {path: path.stat().st_mtime_ns for path in models}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none", "table4/none is not an experiment such as table4/best_isic."),
        ("dense_isic", "table4/dense_isic has no pruning plan to change"),
    ],
)
def test_what_cannot_be_trained_in_several_ways_is_refused(name: str, words: str, places: list[str]) -> None:
    code, said = run(f"table4/{name}", *places)
    assert code == 2 and words in said
