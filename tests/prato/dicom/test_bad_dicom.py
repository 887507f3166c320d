"""What cannot be imported gets one sentence that says why, and nothing is written; what can be imported beside it is."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset

from prato.data.phantom import make_phantoms
from prato.dicom import importer
from prato.dicom.find import ArchiveLimits, DicomError
from scripts import import_dicom
from tests.prato.dicom.scans import AXIAL, SAGITTAL, SHORT_AXIS, Scan, record_of, save, to_bytes, uid
from tests.scripts.cli import run_script

SCAN = Scan()
TURNED = tuple(
    np.round(np.reshape(SHORT_AXIS, (2, 3)) @ np.array([[0.9961947, -0.0871557, 0], [0.0871557, 0.9961947, 0], [0, 0, 1]]), 7).ravel()
)


def without(images: list[FileDataset], n: int) -> list[FileDataset]:
    return images[:n] + images[n + 1 :]


def changed(images: list[FileDataset], which: Callable[[int], bool], change: Callable[[FileDataset], None]) -> list[FileDataset]:
    """``images`` with ``change`` made to those numbered ``which``."""
    for n, ds in enumerate(images):
        if which(n):
            change(ds)
    return images


def set_tags(**values: object) -> Callable[[FileDataset], None]:
    def change(ds: FileDataset) -> None:
        for name, value in values.items():
            setattr(ds, name, value)

    return change


def crop(ds: FileDataset) -> None:
    ds.Rows, ds.PixelData = 8, ds.PixelData[: 8 * SCAN.columns * 2]


def copies(change: Callable[[FileDataset], None]) -> list[FileDataset]:
    """All images, and the first one again under another UID."""
    again = SCAN.image(0, 0)
    again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = uid("again")
    change(again)
    return [*SCAN.images(), again]


def blacken(ds: FileDataset) -> None:
    ds.PixelData = bytes(len(ds.PixelData))


def radial() -> list[FileDataset]:
    """Six planes round one axis."""
    found = []
    for n in range(6):
        turn = np.radians(30 * n)
        orientation = (float(np.cos(turn)), float(np.sin(turn)), 0.0, 0.0, 0.0, -1.0)
        found += [set_uid(ds, n) for ds in replace(SCAN, slices=1, orientation=orientation).images()]
    return found


def set_uid(ds: FileDataset, n: int) -> FileDataset:
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid(n, ds.InstanceNumber)
    return ds


#: What is wrong -> the images, and what the sentence says.
CASES: dict[str, tuple[Callable[[], list[FileDataset]], str]] = {
    "no cine": (lambda: replace(SCAN, phases=1).images(), "no short-axis cine"),
    "a phase is missing in one slice": (
        lambda: without(SCAN.images(), 19),
        "slice 3 of 5 has 7 phases and the others 8: a phase is missing",
    ),
    "a slice is missing": (lambda: [*SCAN.images()[:16], *SCAN.images()[24:]], "not evenly apart (8.0, 16.0, 8.0 mm)"),
    "one slice is turned": (
        lambda: changed(SCAN.images(), lambda n: n >= 32, set_tags(ImageOrientationPatient=list(TURNED))),
        "not parallel (1 of them turned by",
    ),
    "no two planes are parallel": (radial, "not parallel (up to 90° apart)"),
    "one slice has another matrix": (lambda: changed(SCAN.images(), lambda n: n < 8, crop), "differ in size or direction"),
    "one slice has other pixels": (
        lambda: changed(SCAN.images(), lambda n: n >= 32, set_tags(PixelSpacing=[2.0, 2.0])),
        "differ in size or direction",
    ),
    "slices lie aside": (
        lambda: changed(
            SCAN.images(),
            lambda n: 8 <= n < 16,
            set_tags(ImagePositionPatient=(np.array(SCAN.position(1)) + 3 * np.array(SHORT_AXIS[:3])).tolist()),
        ),
        "one above another",
    ),
    "one phase": (lambda: replace(SCAN, phases=1).images(), "one phase"),
    "one slice": (lambda: replace(SCAN, slices=1).images(), "a cine of 1 slice, no stack"),
    "two slices": (lambda: replace(SCAN, slices=2).images(), "a cine of 2 slices, no stack"),
    "two images in one place": (lambda: copies(blacken), "two different images are phase"),
    "nothing tells phases apart": (
        lambda: changed(SCAN.images(), lambda n: True, set_tags(TriggerTime=0, InstanceNumber=1)),
        "two different images are phase 1 of slice 1",
    ),
    "two images at each time": (
        lambda: [
            *SCAN.images(),
            *changed(
                [set_uid(ds, 1) for ds in SCAN.images()], lambda n: True, lambda ds: setattr(ds, "InstanceNumber", ds.InstanceNumber + 100)
            ),
        ],
        "2 images for each time",
    ),
    "echoes": (lambda: changed(SCAN.images(), lambda n: True, lambda ds: setattr(ds, "EchoTime", ds.InstanceNumber)), "several echo times"),
    "inversions": (
        lambda: changed(SCAN.images(), lambda n: True, lambda ds: setattr(ds, "InversionTime", ds.InstanceNumber)),
        "several inversion times",
    ),
    "velocity": (lambda: changed(SCAN.images(), lambda n: True, set_tags(ImageType=["DERIVED", "PRIMARY", "VELOCITY"])), "velocity maps"),
    "no place in space": (
        lambda: changed(SCAN.images(), lambda n: True, lambda ds: delattr(ds, "ImagePositionPatient")),
        "does not say where it lies",
    ),
    "rows and columns at no right angle": (
        lambda: changed(
            SCAN.images(),
            lambda n: True,
            set_tags(ImageOrientationPatient=[*SHORT_AXIS[:3], *np.round(np.reshape(SHORT_AXIS, (2, 3)).T @ [0.1, 0.99499], 7)]),
        ),
        "not at right angles (84.3°)",
    ),
    "rescaled to nothing": (
        lambda: changed(SCAN.images(), lambda n: n == 7, set_tags(RescaleSlope=0, RescaleIntercept=5)),
        "RescaleSlope is 0",
    ),
    "rescaled beyond all numbers": (
        lambda: changed(SCAN.images(), lambda n: n == 7, set_tags(RescaleSlope="1e200", RescaleIntercept=0)),
        "give values that are no numbers",
    ),
    "a description that would command a terminal": (
        lambda: without(changed(SCAN.images(), lambda n: True, set_tags(SeriesDescription="\x1b[2Jgone\nnew")), 3),
        "series 1 (?[2Jgone?new): slice 1 of 5",
    ),
    "an image of somebody else": (
        lambda: changed(SCAN.images(), lambda n: n == 11, set_tags(PatientID="another")),
        "its images name several patients",
    ),
    "another modality": (
        lambda: changed(SCAN.images(), lambda n: True, set_tags(Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")),
        "CT Image Storage",
    ),
}


def run(source: Path, target: Path) -> tuple[int, str]:
    done = run_script(import_dicom.main, source, target)
    return done.exit_code, done.output


@pytest.mark.parametrize("case", CASES)
def test_one_sentence_and_nothing_written(case: str, tmp_path: Path) -> None:
    make, sentence = CASES[case]
    code, said = run(save(tmp_path / "in", make()), tmp_path / "out")
    assert code == 2, said
    assert sentence in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["a phase is missing in one slice", "one slice is turned", "two images in one place"])
def test_a_good_patient_beside_a_bad_one_is_imported(case: str, tmp_path: Path) -> None:
    good = Scan(30, study="good", patient="G")
    save(tmp_path / "in", [*CASES[case][0](), *good.images()])
    code, said = run(tmp_path / "in", tmp_path / "out")
    assert code == 1 and CASES[case][1] in said
    assert len(list((tmp_path / "out").glob("*_4d.nii.gz"))) == 1


def test_copies_are_taken_once(tmp_path: Path) -> None:
    code, said = run(save(tmp_path / "in", [*copies(lambda ds: None), *SCAN.images()[:5]]), tmp_path / "out")
    assert code == 0
    assert "1 images were there twice" in said and "5 images are there twice, with the same SOP instance UID" in said


@pytest.mark.slow
@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL])
def test_a_cine_that_lies_oddly_is_taken_with_a_warning_where_there_is_no_other(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    odd = replace(SCAN, orientation=orientation)
    code, said = run(save(tmp_path / "in", odd.images()), tmp_path / "out")
    assert code == 0 and "from the usual short axis" in said
    code, said = run(save(tmp_path / "in", Scan(2, slices=8).images()), tmp_path / "both")
    assert code == 0 and "from the usual short axis" not in said and "no short axis (turned by" in said


# Files and archives


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
    assert "no readable DICOMDIR" in run(source / "DICOMDIR", tmp_path / "out")[1]


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
    assert "1 images are there twice" in said


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
    make_phantoms(tmp_path / "phantoms", 1, 0)
    code, said = run(source, tmp_path / "phantoms")
    assert code == 2 and "holds phantom studies" in said
    assert not list((tmp_path / "phantoms").glob("*4d*"))
