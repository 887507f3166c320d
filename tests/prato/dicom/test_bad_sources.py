"""Files and archives that are damaged, hostile, too large, or no DICOM: one sentence, and nothing is written."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from prato.dicom import importer
from prato.dicom.reading.files import ArchiveLimits, DicomError
from tests.phantoms import make_thin_phantoms
from tests.prato.dicom.scans import Scan, record_of, save, to_bytes
from tests.prato.dicom.test_bad_cines import SCAN, run


def test_files_that_are_cut_short(tmp_path: Path) -> None:
    images = SCAN.images()
    source = save(tmp_path / "in", images[1:])
    raw = to_bytes(images[0])
    (source / "cut.dcm").write_bytes(raw[: len(raw) - 50])  # within the pixels
    code, said = run(source, tmp_path / "out")
    assert code == 2 and "the pixels of cut.dcm cannot be read (cut short, damaged" in said
    (source / "cut.dcm").write_bytes(raw[:400])  # within the header
    code, said = run(source, tmp_path / "out")
    assert code == 2 and "cut.dcm: " in said and "a phase is missing" in said
    assert not (tmp_path / "out").exists()
    for name in ("before.dcm", "else.dcm"):  # a whole copy beside it is used, whichever is read first
        (source / "cut.dcm").write_bytes(raw[: len(raw) - 50])
        (source / name).write_bytes(raw)
        assert run(source, tmp_path / name)[0] == 0
        (source / name).unlink()


def test_slices_of_several_numbers_of_phases(tmp_path: Path) -> None:
    kept = [ds for n, ds in enumerate(SCAN.images()) if n not in (0, 1, 9)]
    code, said = run(save(tmp_path / "in", kept), tmp_path / "out")
    assert code == 2 and "its 5 slices have different numbers of phases (6, 7, 8, 8, 8): images are missing, or there twice" in said


@pytest.mark.parametrize("name", ["export.zip", "Export.TAR.GZ", "IM0001.dcm.gz"])
def test_an_archive_inside_is_named(tmp_path: Path, name: str) -> None:
    source = tmp_path / "in"
    source.mkdir()
    with zipfile.ZipFile(source / name, "w") as archive:
        archive.writestr("image", to_bytes(SCAN.image(0, 0)))
    for given in (source, zipped(source)):
        code, said = run(given, tmp_path / "out")
        assert code == 2 and f"{name}: an archive or a compressed file, which is not opened: unpack it first" in said


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    return path


@pytest.mark.parametrize("name", ["../../escaped.dcm", "/etc/escaped.dcm", "..\\escaped.dcm", "C:/escaped.dcm"])
def test_an_archive_that_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for n, ds in enumerate(SCAN.images()):
            archive.writestr(f"{n}.dcm", to_bytes(ds))
        archive.writestr(name, b"x")
    code, said = run(tmp_path / "in.zip", tmp_path / "out")
    assert code == 2 and "names a file outside of its folder" in said
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["in.zip"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_that_holds_many_files_of_one_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for ds in SCAN.images():
            archive.writestr("image.dcm", to_bytes(ds))
    [cine] = importer.import_dicom(tmp_path / "in.zip", tmp_path / "out").imported
    assert np.array_equal(nib.load(tmp_path / "out" / f"{cine.study}.nii.gz").dataobj, SCAN.array())


def test_an_archive_that_unpacks_to_too_much(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(3):
            archive.writestr(f"{n}.dcm", b"\0" * 1_000_000)
    for limits in (ArchiveLimits(total=2_500_000), ArchiveLimits(file=900_000), ArchiveLimits(files=2)):
        with pytest.raises(DicomError, match="would unpack to 3 files"):
            importer.import_dicom(tmp_path / "bomb.zip", tmp_path / "out", limits=limits)
    assert run(tmp_path / "bomb.zip", tmp_path / "out")[0] == 2  # no DICOM in it


def test_an_archive_that_lists_too_much_is_not_even_listed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for n in range(200):
            archive.writestr(f"{n:0100d}", b"")
    with pytest.raises(DicomError, match="lists more than the 20 files"):
        importer.import_dicom(tmp_path / "many.zip", tmp_path / "out", limits=ArchiveLimits(files=20))
    assert run(tmp_path / "many.zip", tmp_path / "out")[0] == 2


@pytest.mark.slow
def test_files_that_would_fill_the_memory(tmp_path: Path) -> None:
    deflated = pydicom.uid.DeflatedExplicitVRLittleEndian
    good, bad = Scan(2, study="good", patient="G").images(), SCAN.images()
    for ds in good:
        ds.file_meta.TransferSyntaxUID = deflated
    for ds in bad:
        ds.Rows = ds.Columns = 60000
    source = save(tmp_path / "in", [*good, *bad])
    raw = to_bytes(good[0])
    start = 144 + int.from_bytes(raw[140:144], "little")
    packer = zlib.compressobj(9, wbits=-15)
    with (source / "bomb.dcm").open("wb") as file:
        file.write(raw[:start])
        for _ in range(300):
            file.write(packer.compress(bytes(2**20)))
        file.write(packer.flush())
    code, said = run(source, tmp_path / "out")
    assert code == 1 and "the cine holds more voxels" in said and "bomb.dcm: unpacks to more than 256 MiB" in said, said


def test_archives_that_are_damaged_or_encrypted(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for n, ds in enumerate(SCAN.images()):
            archive.writestr(f"{n}.dcm", to_bytes(ds))
    raw = bytearray((tmp_path / "in.zip").read_bytes())
    raw[raw.index(b"\0" * 100) + 3000] ^= 0xFF  # a bit of one image: its checksum tells
    (tmp_path / "flipped.zip").write_bytes(raw)
    code, said = run(tmp_path / "flipped.zip", tmp_path / "out")
    assert code == 2 and re.search(r"\d\.dcm: cut short or damaged", said)
    raw = bytearray((tmp_path / "in.zip").read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(raw)
    assert "is encrypted" in run(tmp_path / "locked.zip", tmp_path / "out")[1]
    assert not (tmp_path / "out").exists()


def test_a_dicomdir_that_lists_files_elsewhere_or_that_are_gone(tmp_path: Path) -> None:
    source = save(tmp_path / "in", SCAN.images())
    directory = SCAN.image(0, 0)
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.DirectoryRecordSequence = [record_of(["..", "..", "etc", "passwd"])]
    directory.save_as(source / "DICOMDIR", write_like_original=False)
    code, said = run(source / "DICOMDIR", tmp_path / "out")
    assert code == 2 and "lists a file outside of its folder" in said
    directory.DirectoryRecordSequence = [record_of("GONE1"), record_of("GONE2")]
    directory.save_as(source / "DICOMDIR", write_like_original=False)
    assert "GONE1 and 1 more files: not there" in run(source / "DICOMDIR", tmp_path / "out")[1]
    (source / "DICOMDIR").write_bytes(b"no")
    assert "not a readable DICOMDIR" in run(source / "DICOMDIR", tmp_path / "out")[1]


@pytest.fixture
def odd_folder(tmp_path: Path) -> Iterator[Path]:
    """A pipe, a link that leads nowhere, a link round in a circle, an empty file, a name that is no Unicode, and a cine."""
    source = save(tmp_path / "in", SCAN.images())
    os.mkfifo(source / "pipe")
    (source / "nowhere").symlink_to(source / "missing")
    (source / "circle").symlink_to(source)
    (source / "empty.dcm").touch()
    Path(os.fsdecode(os.fsencode(source) + b"/\xff\xfe.dcm")).write_bytes(to_bytes(SCAN.image(0, 0)))
    yield source


def test_odd_files_cost_nothing(odd_folder: Path, tmp_path: Path) -> None:
    code, said = run(odd_folder, tmp_path / "out")
    assert code == 0, said
    assert "1 image occurs twice" in said


@pytest.mark.parametrize("given", ["missing", "empty folder", "text"])
def test_sources_without_dicom(tmp_path: Path, given: str) -> None:
    source = tmp_path / "in"
    if given == "empty folder":
        source.mkdir()
    elif given == "text":
        source.write_text("no DICOM")
    code, said = run(source, tmp_path / "out")
    assert code == 2 and ("does not exist" if given == "missing" else "holds no DICOM files") in said
    assert len(said.strip().splitlines()[-1]) > 20 and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_targets_that_cannot_be_used(tmp_path: Path) -> None:
    source = save(tmp_path / "in", SCAN.images())
    (tmp_path / "file").write_text("mine")
    assert "is a file" in run(source, tmp_path / "file")[1]
    make_thin_phantoms(tmp_path / "phantoms", 1)
    code, said = run(source, tmp_path / "phantoms")
    assert code == 2 and "holds phantom studies" in said
    assert not list((tmp_path / "phantoms").glob("*4d*"))
