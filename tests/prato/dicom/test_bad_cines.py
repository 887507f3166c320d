"""What cannot be imported gets one sentence that says why, and nothing is written; what can be imported beside it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from scripts import import_dicom
from tests.prato.dicom.scans import AXIAL, SAGITTAL, SHORT_AXIS, Scan, save, uid
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
    "a slice is missing": (lambda: [*SCAN.images()[:16], *SCAN.images()[24:]], "not evenly spaced (8.0, 16.0, 8.0 mm)"),
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
                [set_uid(ds, 1) for ds in replace(SCAN, number=2).images()],
                lambda n: True,
                lambda ds: set_tags(InstanceNumber=ds.InstanceNumber + 100, SeriesInstanceUID=uid("study", 1), SeriesNumber=1)(ds),
            ),
        ],
        "2 different images for each time",
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
    "no size of pixels": (
        lambda: changed(SCAN.images(), lambda n: True, lambda ds: delattr(ds, "PixelSpacing")),
        "does not say how large its pixels are (PixelSpacing)",
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
    "rescaled by no number": (
        lambda: changed(SCAN.images(), lambda n: n == 7, set_tags(RescaleSlope="NaN", RescaleIntercept=0)),
        "RescaleSlope or RescaleIntercept is no number",
    ),
    "rescaled beyond all numbers": (
        lambda: changed(SCAN.images(), lambda n: n == 7, set_tags(RescaleSlope="1e200", RescaleIntercept=0)),
        "give values that are not finite numbers",
    ),
    "a description that would command a terminal": (
        lambda: without(changed(SCAN.images(), lambda n: True, set_tags(SeriesDescription="\x1b[2Jgone\nnew")), 3),
        "series 1 (?[2Jgone?new): slice 1 of 5",
    ),
    "an image of somebody else": (
        lambda: changed(SCAN.images(), lambda n: n == 11, set_tags(PatientID="another")),
        "its images disagree about the patient",
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
    assert "1 image occurs twice and is used once" in said and "5 images occur twice, with the same SOP instance UID" in said


@pytest.mark.slow
@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL])
def test_a_cine_that_lies_oddly_is_taken_with_a_warning_where_there_is_no_other(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    odd = replace(SCAN, orientation=orientation)
    code, said = run(save(tmp_path / "in", odd.images()), tmp_path / "out")
    assert code == 0 and "from the usual short axis" in said
    code, said = run(save(tmp_path / "in", Scan(2, slices=8).images()), tmp_path / "both")
    assert code == 0 and "from the usual short axis" not in said and "no short axis (turned by" in said
