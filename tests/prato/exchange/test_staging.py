"""What an import puts in place while others work in the same folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from prato.data.nifti import Volume
from prato.exchange import staging
from prato.exchange.staging import move_into_place, staging_folder
from prato.labelling.versions import LabelVersions
from tests.prato.exchange.folders import heart

LABEL = "labels/final/a.nii.gz"


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("imported")


def texts(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def before_each(monkeypatch, name: str, do) -> None:
    """Let ``do(place)`` come before each call of the function ``name`` of ``os`` with a source and a place."""
    real = getattr(os, name)

    def call(source: Path, place: Path) -> None:
        do(Path(place))
        real(source, place)

    monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize("links", [True, False])
def test_files_and_folders_are_moved_and_what_is_there_is_not_replaced(tmp_path: Path, monkeypatch, links: bool) -> None:
    if not links:

        def link(source: Path, place: Path) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
    with staging_folder(tmp_path) as staged:
        fill(staged, "a", "b/c")
        move_into_place(staged, tmp_path, ["a", "b"])
    there = texts(tmp_path)
    assert there == {"a": "imported", "b/c": "imported"}
    with staging_folder(tmp_path) as staged, pytest.raises(FileExistsError, match="has appeared meanwhile"):
        fill(staged, "d", "a")
        move_into_place(staged, tmp_path, ["d", "a"])
    assert texts(tmp_path) == there


def test_a_file_that_appears_at_the_last_moment_is_not_overwritten(tmp_path: Path, monkeypatch) -> None:
    def appears(place: Path) -> None:
        if place.name == "b":
            place.write_text("submitted")

    for name in ("rename", "link"):
        before_each(monkeypatch, name, appears)
    with staging_folder(tmp_path) as staged, pytest.raises(FileExistsError):
        fill(staged, "a", "b")
        move_into_place(staged, tmp_path, ["a", "b"])
    assert texts(tmp_path) == {"b": "submitted"}


def test_what_has_been_removed_meanwhile_keeps_nothing_else_from_being_taken_back(tmp_path: Path, monkeypatch) -> None:
    real = staging.make_folder

    def make_folder(path: Path) -> None:
        if path.name == "x":  # the last one's
            (tmp_path / "b").unlink()
            raise OSError(28, "No space left on device")
        real(path)

    monkeypatch.setattr(staging, "make_folder", make_folder)
    with staging_folder(tmp_path) as staged, pytest.raises(OSError, match="No space left"):
        fill(staged, "a", "b", "x/c")
        move_into_place(staged, tmp_path, ["a", "b", "x/c"])
    assert texts(tmp_path) == {}


@pytest.mark.parametrize("corrected", [True, False])
def test_a_label_that_was_corrected_as_soon_as_it_was_there_is_not_taken_back(tmp_path: Path, monkeypatch, corrected: bool) -> None:
    """A labeller was told that the correction is stored."""
    real = staging.make_folder

    def make_folder(path: Path) -> None:
        if path.name == "x":
            if corrected:
                LabelVersions(tmp_path, "a").save(Volume(heart(), np.eye(4)), {"annotator": "Ada"})
            raise OSError(28, "No space left on device")
        real(path)

    monkeypatch.setattr(staging, "make_folder", make_folder)
    with staging_folder(tmp_path) as staged, pytest.raises(OSError, match="No space left"):
        LabelVersions(staged, "a").save(Volume(heart(shift=1), np.eye(4)), {"annotator": "import"})
        fill(staged, "x/c")
        move_into_place(staged, tmp_path, ["label_history/final/a", LABEL, "x/c"])
    versions = LabelVersions(tmp_path, "a")
    assert [version.annotator for version in versions.all()] == (["import", "Ada"] if corrected else [])
    current = versions.current()
    assert (current and current.annotator) == ("Ada" if corrected else None)
    assert (tmp_path / LABEL).exists() == corrected
