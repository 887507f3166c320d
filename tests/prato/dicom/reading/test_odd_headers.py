"""Headers that say what cannot be right, or the same of several people: the images lie, last and belong where they should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileDataset

from prato.dicom.importer import import_dicom
from tests.prato.dicom.scans import MR, Scan, check, only, save, uid

SCAN = Scan()


def changed(images: list[FileDataset], change: Callable[[int, FileDataset], None]) -> list[FileDataset]:
    for n, ds in enumerate(images):
        change(n, ds)
    return images


def set_tags(**values: object) -> Callable[[int, FileDataset], None]:
    def change(n: int, ds: FileDataset) -> None:
        for name, value in values.items():
            setattr(ds, name, value)

    return change


def test_a_private_copy_of_another_header_in_an_enhanced_object_is_not_read(tmp_path: Path) -> None:
    """As Philips writes it: the header of a single image, in a private group of each frame."""
    ds = SCAN.enhanced()
    for n, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        other = Dataset()
        other.SOPClassUID, other.SOPInstanceUID, other.SeriesInstanceUID = MR, uid("other", n), uid("another series")
        other.TriggerTime, other.InstanceNumber, other.ImagePositionPatient = 0, 1, [0, 0, 0]
        group.private_block(0x2005, "Philips MR Imaging DD 005", create=True).add_new(0x0F, "SQ", [other])
    report = import_dicom(save(tmp_path / "in", [ds]), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    _, sidecar = only(report, tmp_path / "out")
    assert sidecar["phases_sorted_by"] == "TriggerTime"
    assert {one for row in sidecar["dicom"]["sop_instance_uids"] for one in row} == {ds.SOPInstanceUID}


@pytest.mark.parametrize(
    "values",
    [{"NominalInterval": 60}, {"NominalInterval": 400}, {"NominalInterval": 800_000}, {"NominalInterval": None, "HeartRate": 7000}],
)
def test_an_interval_that_no_heart_has_is_estimated(tmp_path: Path, values: dict[str, object]) -> None:
    report = import_dicom(save(tmp_path / "in", changed(SCAN.images(), set_tags(**values))), tmp_path / "out", phases="ed,es")
    _, sidecar = only(report, tmp_path / "out")
    assert (sidecar["rr_interval_ms"], sidecar["rr_interval_from"]) == (800, "estimated")
    assert "cannot be right" in report.imported[0].notes[0]


@pytest.mark.parametrize("interval", [450, 300])
def test_an_interval_that_is_too_short_for_a_slow_heart_is_estimated(tmp_path: Path, interval: int) -> None:
    scan = Scan(rr_ms=2000.0, extra={"NominalInterval": interval})
    report = import_dicom(save(tmp_path / "in", scan.images()), tmp_path / "out")
    check(scan, report, tmp_path / "out")
    assert only(report, tmp_path / "out")[1]["rr_interval_from"] == "estimated"
    assert f"{interval} ms, cannot be right, or the phases are of several heartbeats" in report.imported[0].notes[0]


def test_an_interval_of_one_image_alone_refuses_no_cine(tmp_path: Path) -> None:
    scan = Scan(rr_ms=2400.0)
    images = changed(scan.images(), lambda n, ds: setattr(ds, "NominalInterval", 2400 if n % 8 else 300))
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(scan, report, tmp_path / "out")
    assert only(report, tmp_path / "out")[1]["rr_interval_ms"] == 2400


@pytest.mark.parametrize(("unit", "words"), [(0.001, "as all of them lie within 0.7 ms"), (1000, "as they span 700 s")])
def test_trigger_times_in_other_units_give_the_order_alone(tmp_path: Path, unit: float, words: str) -> None:
    images = changed(SCAN.images(), lambda n, ds: setattr(ds, "TriggerTime", round(float(ds.TriggerTime) * unit, 6)))
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert report.imported[0].step_ms == 100 and words in report.imported[0].notes[0]


def test_where_one_image_has_no_trigger_time_the_others_are_not_said_to_have_none(tmp_path: Path) -> None:
    images = changed(SCAN.images(), lambda n, ds: setattr(ds, "TriggerTime", None if n == 3 else ds.TriggerTime))
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert report.imported[0].notes[0].startswith("The files do not give every phase a time of its own: the phases are in the order")
    assert not any(words in note for note in report.imported[0].notes for words in ("give no times", "no trigger times:"))


def test_slices_that_each_lack_another_phase_are_named(tmp_path: Path) -> None:
    images = [ds for n, ds in enumerate(SCAN.images()) if n % SCAN.phases != 1 + n // SCAN.phases]
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    assert "Phases of slice 1 and 4 more are up to 200 ms apart and usually 100 ms: some may be missing" in report.imported[0].notes[0]
    assert not import_dicom(save(tmp_path / "whole", SCAN.images()), tmp_path / "other").imported[0].notes


def test_a_slice_that_begins_elsewhere_in_the_heartbeat_is_named(tmp_path: Path) -> None:
    images = changed(SCAN.images(), lambda n, ds: setattr(ds, "TriggerTime", float(ds.TriggerTime) + 300 * (n // SCAN.phases == 2)))
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert any("Slice 3 begins 300 ms later in the heartbeat than most" in note for note in report.imported[0].notes)


def test_a_cine_of_two_people_without_numbers_is_nobodys(tmp_path: Path) -> None:
    images = changed(SCAN.images(), lambda n, ds: set_tags(PatientID="", PatientName="One^A" if n < 8 else "Two^B")(n, ds))
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    assert not report.imported and "its images disagree about the patient" in report.refused[0]


def test_a_series_of_two_people_under_the_same_uids_says_so(tmp_path: Path) -> None:
    other = changed(replace(SCAN, number=2, patient="another").images(), set_tags(SeriesInstanceUID=uid("study", 1), SeriesNumber=1))
    report = import_dicom(save(tmp_path / "in", [*SCAN.images(), *other]), tmp_path / "out")
    assert not report.imported and "its images disagree about the patient" in report.refused[0]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("number", "name", "is_told"),
    [("ANON", "", True), ("0000", "ANON", True), ("", "Anonymous", True), ("", "", False), ("P-007", "ANON", False)],
)
def test_examinations_without_a_number_that_count_as_those_of_one_patient_are_told(
    tmp_path: Path, number: str, name: str, is_told: bool, at_once: bool
) -> None:
    tags = set_tags(PatientID=number, PatientName=name, PatientBirthDate="")
    studies = [changed(Scan(n, study=f"study {n}", phases=6, slices=3).images(), tags) for n in (1, 2)]
    imports = [[*studies[0], *studies[1]]] if at_once else studies
    reports = [import_dicom(save(tmp_path / f"in{n}", images), tmp_path / "out") for n, images in enumerate(imports)]
    assert sum(len(report.imported) for report in reports) == 2 and not (reports[0].warnings and not at_once)
    assert ["has 2 examinations and, instead of a patient number" in line for line in reports[-1].warnings] == [True] * is_told


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"PatientBirthDate": "19991231"}, "has 2 birth dates"),
        ({"PatientBirthDate": "", "PatientName": "Somebody^Else"}, ""),  # they may have married
        ({"PatientName": "MØLLER^ÅNNA^"}, ""),
    ],
)
def test_a_number_that_several_people_have_is_named(tmp_path: Path, other: dict[str, str], words: str) -> None:
    images = [*SCAN.images(), *changed(Scan(2, study="second").images(), set_tags(**other))]
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    assert len(report.imported) == 2
    said = " ".join(report.warnings)
    assert (words in said and "count as one patient" in said) if words else not said


def test_names_alone_tell_people_of_one_number_apart(tmp_path: Path) -> None:
    images = changed(SCAN.images(), set_tags(PatientBirthDate="")) + changed(
        Scan(2, study="second").images(), set_tags(PatientBirthDate="", PatientName="Somebody^Else")
    )
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    assert "has 2 names" in report.warnings[0] and "Else" not in report.warnings[0]


def test_the_many_examinations_of_one_number_have_names_of_their_own(tmp_path: Path) -> None:
    """All patients may be "ANON"; the pseudonyms of these two begin with the same four letters, as some of any few hundred do."""
    scans = [replace(SCAN, number=n, study=study, patient="ANON") for n, study in enumerate(("examination 12", "examination 119"), 1)]
    report = import_dicom(save(tmp_path / "in", [ds for scan in scans for ds in scan.images()]), tmp_path / "out")
    assert len({cine.study for cine in report.imported}) == 2 and not report.refused


@pytest.mark.parametrize("uid", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_images_without_the_uid_of_their_series_are_taken_and_cannot_be_exported(tmp_path: Path, uid: str) -> None:
    scan = Scan(extra={uid: ""})
    report = import_dicom(save(tmp_path / "in", scan.images()), tmp_path / "out")
    check(scan, report, tmp_path / "out")
    assert report.warnings == ["40 images lack the UID of study, series or instance: labels on them cannot be exported."]


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ({"SeriesDescription": "perfusion rest"}, "perfusion rest"),
        ({"SeriesDescription": "First pass"}, "First pass"),
        ({"ProtocolName": "perf_sr_tfl"}, "perf_sr_tfl"),
        ({"SequenceName": "*fl2d_tag"}, "*fl2d_tag"),
        ({"ImageType": ["DERIVED", "PRIMARY", "T1 MAP"]}, "T1 MAP"),
    ],
)
def test_a_cine_that_is_named_as_something_else_comes_with_a_warning(tmp_path: Path, tags: dict[str, object], name: str) -> None:
    """As perfusion, or tags, that say nothing of times cannot be told from one."""
    images = Scan(description="sax", extra=tags).images()
    for ds in images:
        del ds.TriggerTime
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    [warning] = report.warnings
    assert len(report.imported) == 1 and f' may be no plain cine, as its header names "{name}"' in warning
