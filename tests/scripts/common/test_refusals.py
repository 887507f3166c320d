"""What a script cannot use it refuses on one line, with exit code 2, before it has made anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from prato.data.studies.splits import Split, save_split
from scripts.bench import benchmark_clicks, crop_floor, pruning_time, training_speed
from scripts.common.paths import ROOT
from scripts.common.refusals import refuses_in_one_sentence
from scripts.research import corruptions, ed_es, error_sources, pack_stacks, propagation, relevance_study, smooth_in_time, train_clicks
from scripts.simulate import click_requests, deepedit_clicks, guidance_study, simulate_clicks, wrong_parts
from tests.scripts.cli import run_script


@pytest.mark.parametrize("error", [ValueError("no such\nthing"), RuntimeError("no such"), FileNotFoundError(2, "no such", "file.csv")])
def test_the_reason_stands_on_one_line(error: Exception) -> None:
    @refuses_in_one_sentence
    def main(count: int = 1) -> None:
        raise error

    done = run_script(main, "--count", 2)
    assert (done.exit_code, done.output.count("\n")) == (2, 1) and "no such" in done.output
    assert not isinstance(error, OSError) or done.output == "file.csv: no such\n"


@pytest.mark.parametrize("code", [0, 1])
def test_a_script_that_ends_itself_ends_as_it_says(code: int) -> None:
    @refuses_in_one_sentence
    def main() -> None:
        raise typer.Exit(code)

    assert run_script(main).exit_code == code


@pytest.mark.parametrize(
    ("script", "made"),
    [
        (train_clicks, ["--out"]),
        (guidance_study, ["--bank", "--work", "--out"]),
        (simulate_clicks, ["--out"]),
        (click_requests, ["--out"]),
        (wrong_parts, ["--out"]),
        (deepedit_clicks, ["--bank", "--weights", "--out"]),
        (pack_stacks, ["--out"]),
        (relevance_study, ["--out"]),
        (benchmark_clicks, ["--out"]),
        (pruning_time, ["--out"]),
    ],
    ids=lambda value: value.__name__.rpartition(".")[2] if hasattr(value, "main") else "",
)
def test_a_folder_without_labelled_studies_is_refused(script, made: list[str], tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    written = [word for name in made for word in (name, tmp_path / "made" / name.strip("-"))]
    done = run_script(script.main, "--studies", tmp_path / "studies", *written)
    assert done.exit_code == 2, done.output
    assert "labelled stud" in done.output.splitlines()[-1] and "Traceback" not in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["studies"] and not [*(tmp_path / "studies").iterdir()]


@pytest.mark.parametrize("script", [propagation, smooth_in_time], ids=["propagation", "smooth_in_time"])
def test_a_folder_without_acdc_is_refused(script, tmp_path: Path) -> None:
    done = run_script(script.main, "--acdc", tmp_path, "--out", tmp_path / "made.csv")
    assert done.exit_code == 2 and "Info.cfg is missing" in done.output
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        *((ed_es, ["--seed", seed], "--seed") for seed in ("-1", "1.5", str(2**64))),
        (corruptions, ["--studies", "none"], "none"),
        (corruptions, ["--studies", ".", "--model", "nosuch"], "no labelled studies"),
        (corruptions, ["--studies", ".", "--device", "tpu"], "no device 'tpu'"),
        (corruptions, ["--studies", ".", "--corruption", "fog"], "There is no corruption 'fog': name some of clean, "),
        (error_sources, ["--studies", ".", "--places", "places.csv", "--model", "prato_unetr"], "has no overview"),
        (error_sources, ["--studies", "none", "--places", "places.csv"], "none"),
        (smooth_in_time, ["--sunnybrook", "."], "holds no Sunnybrook scan"),
        (smooth_in_time, ["--sunnybrook", "scans"], "SCD1 must hold contours of two phases"),
        (propagation, ["--studies", "none", "--split", "split.json"], "none"),
        (propagation, ["--beats", "0"], "--beats"),
    ],
)
def test_what_cannot_be_measured_is_refused(script, arguments: list[str], words: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans" / "SCD1").mkdir(parents=True)
    save_split(tmp_path / "split.json", Split(seed=0, train=["a"], validation=["b"]))
    before = sorted(tmp_path.rglob("*"))
    done = run_script(script.main, *arguments, "--out", "rows.csv")
    assert done.exit_code == 2 and words in done.output and "Traceback" not in done.output
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("script", "bad", "others"),
    [(train_clicks, "--out", []), (pack_stacks, "--out", []), (deepedit_clicks, "--weights", ["--bank", "--out"])],
    ids=["train_clicks", "pack_stacks", "deepedit_clicks"],
)
def test_what_cannot_be_written_is_refused_before_hours_go_into_it(script, bad: str, others: list[str], tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    written = [word for name in others for word in (name, tmp_path / name.strip("-"))]
    done = run_script(script.main, "--studies", tmp_path, *written, bad, tmp_path / "note" / "made")
    assert done.exit_code == 2 and f"{tmp_path / 'note' / 'made'} cannot be written" in done.output.splitlines()[-1]


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_is_no_table_is_refused_before_anything_is_measured(is_folder: bool, tmp_path: Path, monkeypatch, capsys) -> None:
    out = tmp_path / "out"
    out.mkdir() if is_folder else out.write_text("a note of mine")
    done = run_script(crop_floor.main, "--out", out)
    assert done.exit_code == 2 and done.output.startswith(f"{out} ") and done.output.count("\n") == 1
    monkeypatch.setattr("sys.argv", ["script.py", "--packed", "cases.zip", "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        training_speed.main()
    assert ended.value.code == 2 and f"argument --out: {out} " in capsys.readouterr().err
    assert out.is_dir() or out.read_text() == "a note of mine"


def test_every_table_that_a_script_writes_is_looked_at_first() -> None:
    unseen = re.compile(
        r'out: Annotated\[\s*Path,\s*typer\.Option\(\s*help="(?:The )?CSV file|"--(?:out|places)", type=Path, [^)]*help="CSV file'
    )
    assert not [path.name for path in (ROOT / "scripts").rglob("*.py") if unseen.search(path.read_text(encoding="utf-8"))]
