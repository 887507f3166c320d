"""Layouts of one heart a folder: a patient who was examined twice has two of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from prato.data.studies.folder import load_manifest, save_manifest
from scripts import convert
from tests.prato.exchange.folders import make_studies
from tests.scripts.cli import run_script as run


@pytest.mark.parametrize("layout", ["mnms", "mnms2", "ukbb"])
def test_two_examinations_of_a_patient_are_two_subjects(tmp_path: Path, layout: str) -> None:
    make_studies(tmp_path / "studies", 2)
    manifest = load_manifest(tmp_path / "studies")
    assert manifest is not None
    for study in manifest.studies.values():
        study.patient = "twice"
    save_manifest(tmp_path / "studies", manifest)
    done = run(convert.app, "export", tmp_path / "studies", tmp_path / "out", "--layout", layout, "--convention", "mnms")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == ["case 0", "case 1"]
    for name in ("case 0_frame02", "case 1_frame01"):  # what is left is the ED of one and the ES of the other
        (tmp_path / "studies" / "labels" / "final" / f"{name}.nii.gz").unlink()
    done = run(convert.app, "export", tmp_path / "studies", tmp_path / "rest", "--layout", layout, "--convention", "mnms")
    both = [folder for folder in (tmp_path / "rest").glob("*") if list(folder.glob("*ED*")) and list(folder.glob("*ES*"))]
    assert not both and not list((tmp_path / "rest").glob("twice*")), done.output


def test_what_is_wrong_with_a_subject_is_said_once(tmp_path: Path) -> None:
    make_studies(tmp_path / "studies", 1)
    manifest = load_manifest(tmp_path / "studies")
    assert manifest is not None
    for study in manifest.studies.values():
        study.phase = None
    save_manifest(tmp_path / "studies", manifest)
    done = run(convert.app, "export", tmp_path / "studies", tmp_path / "out", "--layout", "mnms", "--convention", "mnms")
    assert done.exit_code == 2 and done.output.count("M&Ms needs one of each") == 1, done.output
