"""Bad command lines of scripts that need no typer: one sentence, exit code 2, and nothing written."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from scripts.bench import training_speed
from scripts.research import front, saving_split, train_queue

PACKED = ["--packed", "cases.zip", "--split", "split.json"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where scripts run: with a split, a queue, and what only looks like packed slices."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "split.json").write_text(json.dumps({"seed": 0, "train": ["a"], "validation": ["b"]}))
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "text.zip").write_text("no zip file")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme", "no slice")
    return tmp_path


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        (train_queue, PACKED, "cases.zip"),
        (train_queue, ["--packed", "text.zip", "--split", "split.json"], "text.zip is not a file of packed slices"),
        (train_queue, ["--packed", "other.zip", "--split", "split.json"], "other.zip is not a file of packed slices"),
        (train_queue, ["--packed", "text.zip", "--split", "list.json"], "list.json is not a split file with train and validation"),
        (train_queue, ["--packed", "text.zip", "--split", "none.json"], "none.json"),
        (train_queue, [*PACKED, "--queue", "none.yaml"], "none.yaml"),
        (train_queue, [*PACKED, "--queue", "list.json"], "list.json is not a queue of trainings"),
        (train_queue, [*PACKED, "--only", "nosuch"], "no training called nosuch"),
        (train_queue, [*PACKED, "--data", "foo"], "no training on foo"),
        *(
            (train_queue, [*PACKED, name, value], "of at least 1")
            for name in ("--steps", "--stacks", "--parallel")
            for value in ("0", "-2", "x")
        ),
        (train_queue, [*PACKED, "--minutes", "-5"], "above 0"),
        (front, [*PACKED, "--out", "front.csv"], "cases.zip"),
        (front, [*PACKED, "--out", "front.csv", "--volumes", "-1"], "of at least 1"),
        (saving_split, ["--packed", "text.zip", "--split", "split.json", "--out", "saving.csv"], "text.zip is not a file of packed slices"),
        (training_speed, ["--packed", "text.zip", "--out", "speed.csv"], "text.zip is not a file of packed slices"),
        (training_speed, ["--packed", "text.zip", "--out", "speed.csv", "--networks", "unet", "nosuch"], "no network called nosuch"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    script: Any, arguments: list[str], words: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(sys, "argv", [f"{script.__name__.rpartition('.')[2]}.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        script.main()
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2 and words in said
    assert sorted(folder.rglob("*")) == before
