"""scripts/research/paper.py run: from the command line to results, here and on Ray; bad input is refused in a sentence."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from scripts.common.results import read_rows, write_rows
from scripts.research import paper, paper_times
from scripts.research.experiments.matrix import load_experiments
from tests.scripts.cli import run_script
from tests.scripts.research.small import make_blobs, small_unetr, write_matrix

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    make_blobs(folder / "isic", 10)
    write_matrix(folder / "matrix.yaml", {"table1/dense": {}, "table1/taught": {"method": "dynamic_vit", "teacher": "table1/dense"}})
    rows = [{"table": "table1", "title": "One", "row": n, "data": "isic", "experiment": f"table1/{n}_isic"} for n in ("taught", "dense")]
    write_rows(folder / "tables.csv", rows)
    return folder


def matrix_of(folder: Path) -> list[object]:
    return ["--matrix", folder / "matrix.yaml", "--tables", folder / "tables.csv"]


def run(folder: Path, out: Path, *arguments: str) -> tuple[int, str]:
    places = ["--data", f"isic={folder / 'isic'}", "--out", out / "r", "--models", out / "m"]
    done = run_script(paper.app, "run", *matrix_of(folder), *places, *arguments)
    return done.exit_code, done.output


def results(out: Path) -> dict[str, dict]:
    return {f"{row['experiment']}-seed{row['seed']}": row for row in read_rows(out / "r" / "runs.csv")}


@pytest.mark.slow
def test_a_table_is_run_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_unetr(monkeypatch)
    code, said = run(folder, tmp_path, "table1", "--budget", "steps=1", "--seed", "2")
    assert code == 0, said
    found = results(tmp_path)
    assert set(found) == {"table1/dense_isic-seed2", "table1/taught_isic-seed2"}
    assert all(one["spent"]["steps"] == 1 and one["threads"] == 1 and one["commit"] for one in found.values())
    assert (tmp_path / "r" / "split_isic.json").is_file()
    code, said = run(folder, tmp_path, "table1", "--budget", "steps=1", "--seed", "2")
    assert code == 0 and "Nothing is missing" in said


@pytest.mark.slow
def test_rows_are_timed_in_turn_unless_their_weights_decide_what_they_keep(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_unetr(monkeypatch)
    assert run(folder, tmp_path, "table1", "--budget", "steps=1", "--seed", "2")[0] == 0
    monkeypatch.setattr(sys, "argv", ["paper_times.py"])
    monkeypatch.setattr(paper_times, "load_experiments", lambda: load_experiments(folder / "matrix.yaml"))
    given = ("--results", tmp_path / "r", "--data", f"isic={folder / 'isic'}", "--cases", 1, "--rounds", 2)
    assert run_script(paper_times.main, *map(str, given)).exit_code == 0
    times = {row["experiment"]: row for row in read_rows(tmp_path / "r" / "times.csv")}
    assert times.keys() == {"table1/dense_isic", "table1/taught_isic"}
    assert all(0 < row["ms"]["lowest"] <= row["ms"]["median"] <= row["ms"]["highest"] for row in times.values())
    cases = [{**row, "tokens": 0.1} for row in read_rows(tmp_path / "r" / "cases.csv")]
    write_rows(tmp_path / "r" / "cases.csv", cases)  # as if the trained network had kept others
    assert run_script(paper_times.main, *map(str, given)).exit_code == 0
    assert all(row["ms"]["median"] is None for row in read_rows(tmp_path / "r" / "times.csv"))


@pytest.mark.slow
def test_on_a_cluster_an_experiment_waits_for_what_it_needs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # as other tests are that run beside them
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "apps" / "prato_label"))))
    code, said = run(folder, tmp_path, "table1/taught_isic", "--budget", "steps=1", "--backend", "ray", "--workers", "2")
    assert code == 0, said
    assert set(results(tmp_path)) == {"table1/dense_isic-seed0", "table1/taught_isic-seed0"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["table7"], "neither a table"),
        (["table1", "--budget", "steps=0"], "--budget is"),
        (["table1", "--budget", "steps=1.5"], "--budget is"),
        (["table1", "--budget", "hours=3"], "--budget is"),
        (["table1", "--budget", "minutes=nan"], "--budget is"),
        (["table1", "--device", "abacus"], "abacus"),
        (["table1", "--device", "cuda:99"], "There is no device 'cuda:99' here"),
        (["table1", "--matrix", "nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["table1", "--tables", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["table1", "--models", __file__], "cannot be written"),
        (["table1", "--workers", "2"], "--backend local"),
        (["table1", "--data", "isic=nowhere"], "not in"),
        (["table1", "--data", "isic"], "NAME=FOLDER"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(folder: Path, tmp_path: Path, arguments: list[str], why: str) -> None:
    code, said = run(folder, tmp_path, *arguments)
    assert code == 2 and why in said and "Traceback" not in said
    assert not (tmp_path / "r").exists() and not (tmp_path / "m").exists()


def test_a_report_of_nothing_leaves_the_pages_as_they_are(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "results" / "paper.md"
    page.parent.mkdir(parents=True)
    page.write_text("as it was")
    done = run_script(paper.app, "report", "--results", tmp_path / "nowhere", "--out", tmp_path / "docs")
    assert done.exit_code == 2 and "nowhere holds no runs.csv" in done.output
    assert page.read_text() == "as it was" and len([*page.parent.iterdir()]) == 1
