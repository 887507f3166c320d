"""scripts/labels.py as a user runs it: what is printed, exit codes, nothing changed on bad input."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from prato.data.nifti import Volume, write_volume
from prato.labelling.versions import LabelVersions
from scripts import labels
from tests.scripts.cli import run_script

AFFINE = np.diag([2.0, 2.0, 10.0, 1.0])


def run(*arguments: object) -> Result:
    return run_script(labels.app, *arguments)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Study a, labelled by Ada and Bob."""
    write_volume(tmp_path / "a.nii.gz", np.ones((9, 8, 3), np.int16), AFFINE)
    for who, length in (("Ada", 4), ("Bob", 2)):
        mask = np.zeros((9, 8, 3), np.uint8)
        mask[1 : 1 + length, 2:6, 1] = 3
        LabelVersions(tmp_path, "a").save(Volume(mask, AFFINE), {"annotator": who, "model": "prato_unetr", "box": [0, 9, 0, 8, 0, 3]})
    return tmp_path


def test_list_diff_restore(studies: Path) -> None:
    listed = run("list", studies)
    assert listed.exit_code == 0
    ada, bob = (next(line for line in listed.stdout.splitlines() if who in line) for who in ("Ada", "Bob"))
    assert "prato_unetr" in ada and "[0, 9, 0, 8, 0, 3]" in ada
    assert "2 *" in bob
    diff = next(line for line in run("diff", studies, "a", 1, 2).stdout.splitlines() if "LV cavity" in line)
    assert [cell.strip() for cell in diff.split("│")[2:-1]] == ["8", "0.6667", "4.00", "0.6", "0.3", "-0.3"]
    restored = run("restore", studies, "a", 1, "--annotator", "Cy")
    assert "Version 3 of a is now its label: a copy of version 1." in restored.stdout
    assert LabelVersions(studies, "a").read(3) == LabelVersions(studies, "a").read(1)
    assert LabelVersions(studies, "a").find(3).annotator == "Cy"


def test_agreement(studies: Path) -> None:
    out = studies / "found" / "agreement.json"
    done = run("agreement", studies, "--out", out)
    assert done.exit_code == 0
    assert "Ada / Bob" in done.stdout
    written = json.loads(out.read_text())
    assert written["structures"]["LV cavity"]["dice"] == pytest.approx(0.6667, abs=1e-4)
    assert {"commit", "command"} <= set(written)
    assert run("agreement", studies, "a").stdout.count("Ada / Bob") == 3
    LabelVersions(studies, "b").save(Volume(np.ones((2, 2, 2), np.uint8), AFFINE), {})
    assert "No study here was labelled by two annotators." in run("agreement", studies, "b").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "nowhere"], "nowhere is not a folder: name a studies folder."),
        (["list", "labels"], "labels has no labels: name a studies folder"),
        (["check", "nowhere"], "nowhere is not a folder"),
        (["import", "nowhere", ".", "--convention", "acdc"], "nowhere is not a folder"),
        (["list", ".", "nobody"], "has no label of 'nobody'"),
        (["diff", ".", "../a", 1, 2], "There are no labels under the name '../a'"),
        (["diff", ".", "a", 1, 9], "The label of a has no version 9: there are 1, 2."),
        (["restore", ".", "a", 7], "The label of a has no version 7"),
        (["agreement", "nowhere"], "nowhere is not a folder"),
        (["agreement", ".", "--out", "a.nii.gz/x.json"], "a.nii.gz/x.json cannot be written: name a file in a folder that is writable."),
    ],
)
def test_bad_input(studies: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], words: str) -> None:
    monkeypatch.chdir(studies)
    before = {path: path.read_bytes() for path in studies.rglob("*") if path.is_file()}
    done = run(*arguments)
    assert done.exit_code == 2
    sentence = [line for line in done.stderr.splitlines() if "study/s" not in line and line.strip()]
    assert len(sentence) == 1 and words in sentence[0]
    assert {path: path.read_bytes() for path in studies.rglob("*") if path.is_file()} == before


def test_restore_without_an_image(studies: Path) -> None:
    (studies / "a.nii.gz").unlink()
    done = run("restore", studies, "a", 1)
    assert done.exit_code == 2
    assert "Version 1 of a cannot be restored: a.nii.gz does not exist" in done.stderr
    assert len(LabelVersions(studies, "a").all()) == 2


def test_a_full_disk_is_named_in_plain_words(studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    write_volume(masks / "a.nii.gz", np.pad(np.full((3, 4, 1), 3, np.uint8), ((1, 5), (2, 2), (1, 1))), AFFINE)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    names = tmp_path / "names.json"
    names.write_text('{"1": "RV", "2": "myo", "3": "LV"}')
    monkeypatch.setattr(os, "fsync", full)
    done = run("import", studies, masks, "--convention", names)
    assert done.exit_code == 1 and "0 labels are stored." in done.stdout
    assert "a.nii.gz is left out: " in done.stderr and done.stderr.rstrip().endswith("0003.nii.gz: No space left on device")
    assert len(LabelVersions(studies, "a").all()) == 2
