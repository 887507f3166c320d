"""scripts/research/paper.py run: from the command line to results, here and on Ray; bad input is refused in a sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scripts.research import paper
from tests.scripts.research.small import make_blobs, small_unetr, tiny, write_plan

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    make_blobs(folder / "isic", 10)
    write_plan(folder / "plans", "table1/dense", tiny())
    write_plan(folder / "plans", "table1/taught", tiny("dynamic_vit", teacher="table1/dense"))
    rows = [{"row": name, "data": "isic", "experiment": f"table1/{name}", "printed": {}} for name in ("taught", "dense")]
    (folder / "plans" / "tables.json").write_text(json.dumps({"table1": {"title": "One", "rows": rows}}))
    return folder


def run(folder: Path, out: Path, *arguments: str) -> tuple[int, str]:
    places = ["--isic", folder / "isic", "--acdc", folder / "none", "--plans", folder / "plans", "--out", out / "r", "--models", out / "m"]
    done = CliRunner().invoke(paper.app, ["run", *arguments, *map(str, places)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def results(out: Path) -> dict[str, dict]:
    return {str(path.relative_to(out / "r")): json.loads(path.read_bytes()) for path in out.glob("r/*/*.json")}


def test_a_table_is_run_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_unetr(monkeypatch)
    code, said = run(folder, tmp_path, "table1", "--budget", "steps=1", "--seed", "2")
    assert code == 0, said
    found = results(tmp_path)
    assert set(found) == {"table1/dense-seed2.json", "table1/taught-seed2.json"}
    assert all(one["budget"]["steps"] == 1 and one["threads"] == 1 and one["commit"] for one in found.values())
    assert (tmp_path / "r" / "split_isic.json").is_file()
    code, said = run(folder, tmp_path, "table1", "--budget", "steps=1", "--seed", "2")
    assert code == 0 and "Nothing is missing" in said


@pytest.mark.slow
def test_on_a_cluster_an_experiment_waits_for_what_it_needs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "apps" / "prato_label"))))
    code, said = run(folder, tmp_path, "table1/taught", "--budget", "steps=1", "--backend", "ray", "--workers", "2")
    assert code == 0, said
    assert set(results(tmp_path)) == {"table1/dense.json", "table1/taught.json"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["table7"], "neither a table"),
        (["table1", "--budget", "steps=0"], "--budget is"),
        (["table1", "--budget", "steps=1.5"], "--budget is"),
        (["table1", "--budget", "hours=3"], "--budget is"),
        (["table1", "--budget", "minutes=nan"], "--budget is"),
        (["table1", "--device", "abacus"], "abacus"),
        (["table1", "--workers", "2"], "--backend local"),
        (["table1", "--isic", "nowhere"], "not in"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(folder: Path, tmp_path: Path, arguments: list[str], why: str) -> None:
    given = [str(tmp_path / a) if a == "nowhere" else a for a in arguments]
    if "--isic" in given:
        places = ["--plans", str(folder / "plans"), "--out", str(tmp_path / "r"), "--models", str(tmp_path / "m")]
        done = CliRunner().invoke(paper.app, ["run", *given, *places])
        code, said = done.exit_code, done.output
    else:
        code, said = run(folder, tmp_path, *given)
    assert code == 2 and why in said and "Traceback" not in said
    assert not (tmp_path / "r").exists() and not (tmp_path / "m").exists()
