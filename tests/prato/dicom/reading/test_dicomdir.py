"""The files that a DICOMDIR lists, as discs, and whoever copied them, spell their names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from prato.dicom.importer import import_dicom
from tests.prato.dicom.scans import Scan, check, record_of, to_bytes

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")
SCAN = Scan(slices=3, phases=6)


def disc(folder: Path, listed: Callable[[str], str], stored: Callable[[str], str]) -> Path:
    """A disc with the images of ``SCAN``; ``listed`` and ``stored`` spell each part of their paths, in its DICOMDIR and in the folder."""
    names = [["DICOM", f"SE{n % 2}", f"MR{n:04d}"] for n in range(len(SCAN.images()))]
    for parts, ds in zip(names, SCAN.images()):
        path = folder.joinpath(*map(stored, parts))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_bytes(ds))
    directory = SCAN.image(0, 0)
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.DirectoryRecordSequence = [record_of([listed(part) for part in parts]) for parts in names]
    path = folder / stored("DICOMDIR")
    directory.save_as(path, write_like_original=False)
    return path


def in_small_letters(part: str) -> str:
    return part.lower()


def with_version(part: str) -> str:
    return f"{part};1" if part[:2] == "MR" or part == "DICOMDIR" else part


def with_dot_and_version(part: str) -> str:
    return f"{part.lower()}.;1" if part[:2] == "MR" else part.lower()


SPELLINGS = [str, in_small_letters, with_version, with_dot_and_version, str.title]


@pytest.mark.parametrize("stored", SPELLINGS)
@pytest.mark.parametrize("listed", SPELLINGS[:4])
def test_names_in_large_and_small_letters_and_with_versions(
    tmp_path: Path, listed: Callable[[str], str], stored: Callable[[str], str]
) -> None:
    path = disc(tmp_path / "disc", listed, stored)
    report = import_dicom(path, tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert report.left_out == report.warnings == []


def test_two_files_that_may_be_meant_are_both_read(tmp_path: Path) -> None:
    path = disc(tmp_path / "disc", str, in_small_letters)
    folder = tmp_path / "disc" / "dicom" / "se0"
    (folder / "mr0000").rename(folder / "Mr0000")
    (folder / "mR0000").write_bytes((folder / "Mr0000").read_bytes())
    report = import_dicom(path, tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert report.warnings == ["1 image occurs twice, with the same SOP instance UID: each is used once."]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)], ids=["pipe", "folder", "link"])
def test_what_is_listed_and_no_file_of_the_disc_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = disc(tmp_path / "disc", str, in_small_letters)
    odd = tmp_path / "disc" / "dicom" / "se0" / "mr0000"
    odd.unlink()
    make(odd)
    try:
        report = import_dicom(path, tmp_path / "out")
    except ValueError as error:
        assert "lists a file outside of its folder (DICOM/SE0/MR0000)" in str(error) and odd.is_symlink()
    else:
        assert report.left_out[0].startswith(("DICOM/SE0/MR0000: ", "dicom/se0/mr0000: ")) and "a phase is missing" in report.refused[0]
    assert not (tmp_path / "out").exists()


def test_names_that_lead_elsewhere_are_refused_however_they_are_written(tmp_path: Path) -> None:
    path = disc(tmp_path / "disc", str, str)
    directory = SCAN.image(0, 0)
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    for parts in (["DICOM", "..", "..", "x"], "DICOM/../../x", "/etc/passwd"):
        directory.DirectoryRecordSequence = [record_of(parts)]
        directory.save_as(path, write_like_original=False)
        with pytest.raises(ValueError, match="lists a file outside of its folder"):
            import_dicom(path, tmp_path / "out")
