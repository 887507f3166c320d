"""The order and the times of phases, in the ways in which scanners and converters give them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset

from prato.dicom.importer import import_dicom
from prato.dicom.reading.times import DAY_S, read_moment
from tests.prato.dicom.scans import Scan, check, only, save, uid

SCAN = Scan()


def with_delays(name: str) -> list[FileDataset]:
    """Classic images whose trigger time is 0, and whose delay stands elsewhere."""
    images = SCAN.images()
    for n, ds in enumerate(images):
        setattr(ds, name, float(ds.TriggerTime))
        ds.TriggerTime, ds.InstanceNumber = 0, 1000 - n
    return images


def with_time_of_the_object() -> list[FileDataset]:
    ds = SCAN.enhanced()
    ds.TriggerTime = 20
    for group in ds.PerFrameFunctionalGroupsSequence:
        del group.FrameContentSequence[0].TemporalPositionIndex, group.FrameContentSequence[0].DimensionIndexValues
    return [ds]


def with_shares() -> list[FileDataset]:
    [ds] = with_time_of_the_object()
    del ds.TriggerTime
    for group in ds.PerFrameFunctionalGroupsSequence:
        timing = group.CardiacSynchronizationSequence[0]
        timing.NominalPercentageOfCardiacPhase = timing.NominalCardiacTriggerDelayTime / 8
        del timing.NominalCardiacTriggerDelayTime
    return [ds]


@pytest.mark.parametrize(
    "images",
    [
        lambda: with_delays("NominalCardiacTriggerDelayTime"),
        lambda: with_delays("ActualCardiacTriggerDelayTime"),
        with_time_of_the_object,
        with_shares,
    ],
    ids=["nominal", "actual", "of the object", "shares of the interval"],
)
def test_a_time_that_tells_nothing_hides_none_that_does(tmp_path: Path, images: Callable[[], list[FileDataset]]) -> None:
    report = import_dicom(save(tmp_path / "in", images()), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    sidecar = only(report, tmp_path / "out")[1]
    assert (sidecar["phases_sorted_by"], sidecar["phase_times_ms"][:3]) == ("TriggerTime", [0, 100, 200])


def enhanced_with(change: Callable[[Dataset, float], None]) -> list[FileDataset]:
    """Frames in no order, of which ``change`` is given the timing and the time after the R wave, 0 for the first phase."""
    ds = SCAN.enhanced()
    for group in ds.PerFrameFunctionalGroupsSequence:
        timing = group.CardiacSynchronizationSequence[0]
        change(timing, float(timing.NominalCardiacTriggerDelayTime))
    return [ds]


def with_measured_delays() -> list[FileDataset]:
    return enhanced_with(lambda timing, ms: setattr(timing, "ActualCardiacTriggerDelayTime", ms + 120))


def with_shares_of_the_cycle() -> list[FileDataset]:
    return enhanced_with(lambda timing, ms: setattr(timing, "NominalPercentageOfCardiacPhase", (ms + 150) / 8))


def with_times_since_the_first_phase() -> list[FileDataset]:
    images = SCAN.images()
    for ds in images:
        ds.TriggerTime = (ds.InstanceNumber - 1) % SCAN.phases * 100.0
        ds.NominalCardiacTriggerDelayTime = ds.TriggerTime + 150
    return images


@pytest.mark.parametrize("images", [with_measured_delays, with_shares_of_the_cycle, with_times_since_the_first_phase])
def test_a_first_phase_at_0_keeps_its_place_whatever_else_is_said_of_it(tmp_path: Path, images: Callable[[], list[FileDataset]]) -> None:
    """Its time was taken from where the others' was not, and it came after the second one."""
    report = import_dicom(save(tmp_path / "in", images()), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert only(report, tmp_path / "out")[1]["phase_times_ms"][:3] == [0, 100, 200]


def test_an_object_that_gives_all_frames_one_place_among_its_dimensions(tmp_path: Path) -> None:
    ds = SCAN.enhanced()
    for group in ds.PerFrameFunctionalGroupsSequence:
        group.FrameContentSequence[0].DimensionIndexValues = [1, 1, 1]
        del group.CardiacSynchronizationSequence
    report = import_dicom(save(tmp_path / "in", [ds]), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert only(report, tmp_path / "out")[1]["phases_sorted_by"] == "TemporalPositionIdentifier"


def test_frames_in_no_order_whose_object_counts_them_by_phase_alone(tmp_path: Path) -> None:
    ds = SCAN.enhanced()
    ds.DimensionIndexSequence[2].DimensionIndexPointer = 0x00209153
    for group in ds.PerFrameFunctionalGroupsSequence:
        group.FrameContentSequence[0].TemporalPositionIndex = 1
        del group.CardiacSynchronizationSequence
    report = import_dicom(save(tmp_path / "in", [ds]), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert only(report, tmp_path / "out")[1]["phases_sorted_by"] == "TemporalPositionIdentifier"


@pytest.mark.parametrize("is_concatenation", [True, False])
def test_objects_of_one_series_that_follow_each_other(tmp_path: Path, is_concatenation: bool) -> None:
    """Each holds half of the phases of all slices, in order, without a time."""
    whole = SCAN.enhanced(shuffled=False)
    half = SCAN.slices * SCAN.phases // 2
    parts = []
    for n in range(2):
        ds = SCAN.enhanced(shuffled=False)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid("part", n)
        ds.PerFrameFunctionalGroupsSequence = whole.PerFrameFunctionalGroupsSequence[n * half : (n + 1) * half]
        ds.NumberOfFrames, ds.PixelData = half, whole.PixelData[n * half * 240 : (n + 1) * half * 240]
        if is_concatenation:
            ds.ConcatenationFrameOffsetNumber = n * half
        else:
            ds.InstanceNumber = n + 1
        for group in ds.PerFrameFunctionalGroupsSequence:
            del group.FrameContentSequence, group.CardiacSynchronizationSequence
        parts.append(ds)
    report = import_dicom(save(tmp_path / "in", parts), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert (report.refused, report.left_out) == ([], [])
    assert only(report, tmp_path / "out")[1]["phases_sorted_by"] == "InstanceNumber"


def test_series_of_one_uid_are_told_apart_by_their_numbers(tmp_path: Path) -> None:
    other = replace(SCAN, number=2, description="tagging", extra={"SeriesInstanceUID": uid("study", 1)})
    images = other.images()
    for ds in images:
        ds.TriggerTime += 3
    report = import_dicom(save(tmp_path / "in", [*SCAN.images(), *images]), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert np.isclose(report.imported[0].step_ms or 0, 100)


@pytest.mark.parametrize("is_timed", [True, False])
def test_series_of_one_uid_and_one_number_are_told_apart_by_their_descriptions(tmp_path: Path, is_timed: bool) -> None:
    """Without times they were a cine of both, and with times they were left out."""
    images = [*SCAN.images(), *replace(SCAN, number=2, description="tagging").images()]
    for n, ds in enumerate(images):
        ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = uid("study", 1), 1, n + 1
        if not is_timed:
            del ds.TriggerTime
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert report.left_out == ["series 1 (tagging), 40 files: named as no plain cine, beside one that is"]


def test_cines_of_one_uid_and_one_number_keep_their_names_whatever_the_order_of_their_files(tmp_path: Path) -> None:
    images = [*replace(SCAN, description="rest").images(), *replace(SCAN, number=2, description="stress").images()]
    for ds in images:
        ds.SeriesInstanceUID, ds.SeriesNumber = uid("study", 1), 1
    found = []
    for name, own in (("one", images), ("other", images[::-1])):
        for n, ds in enumerate(own):
            save(tmp_path / name, [ds], name=lambda _, n=n: f"{n:03}")  # type: ignore[misc]
        found.append({cine.study: cine.label for cine in import_dicom(tmp_path / name, tmp_path / f"to {name}").imported})
    assert found[0] == found[1] and len(found[0]) == 2


@pytest.mark.parametrize("description", [lambda n: f"{n % 8}", lambda n: f"{n // 8}", lambda n: "" if n == 11 else "cine"])
def test_descriptions_that_differ_within_one_series_do_not_tear_it_apart(tmp_path: Path, description: Callable[[int], str]) -> None:
    images = SCAN.images()
    for n, ds in enumerate(images):
        ds.SeriesDescription = description(n)
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert (report.refused, report.left_out) == ([], [])


def test_two_acquisitions_of_one_series_without_times_are_no_cine_of_both(tmp_path: Path) -> None:
    images = [*SCAN.images(), *replace(SCAN, number=2).images()]
    for n, ds in enumerate(images):
        ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = uid("study", 1), 1, n + 1, 1 + n // 40
        del ds.TriggerTime
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    assert report.imported == [] and "80 files: images of 2 acquisitions without times" in report.left_out[0]


@pytest.mark.parametrize("tag", ["TemporalPositionIdentifier", "AcquisitionTime"])
def test_one_slice_of_two_acquisitions_whose_images_are_told_apart_is_a_cine(tmp_path: Path, tag: str) -> None:
    scan = replace(SCAN, phases=16)
    images = scan.images()
    for n, ds in enumerate(images):
        del ds.TriggerTime
        ds.AcquisitionNumber = 1 + n % 16 // 8
        setattr(ds, tag, n % 16 + 1 if tag.startswith("T") else f"10{n // 16:02}00.{n % 16 * 40:03}")
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(scan, report, tmp_path / "out")
    assert (report.refused, report.left_out) == ([], [])


@pytest.mark.parametrize(
    "number",
    [lambda n: n % SCAN.phases, lambda n: n, lambda n: n // SCAN.phases, lambda n: None if n % 3 else 1],
    ids=["of the phase", "of the image", "of the slice", "of some images"],
)
def test_numbers_that_differ_within_one_series_do_not_tear_it_apart(tmp_path: Path, number: Callable[[int], int | None]) -> None:
    images = SCAN.images()
    for n, ds in enumerate(images):
        ds.SeriesNumber = number(n)
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert (report.refused, report.left_out) == ([], [])


@pytest.mark.parametrize(
    ("date", "time", "seconds"),
    [
        ("00010101", "101112.5", DAY_S + 36672.5),
        ("0001.01.01", "10:11:12.5", DAY_S + 36672.5),
        ("00010102", "1011", 2 * DAY_S + 36660),
        ("20120000", "10", 36000),  # in Sunnybrook's dates neither month nor day is known
        ("        ", "235960.25+0100", DAY_S + 0.25),
        ("", "101112.1234567", 36672.1234567),
        ("20260131", "", None),
        ("20260131", "about 10", None),
    ],
)
def test_a_moment(date: str, time: str, seconds: float | None) -> None:
    found = read_moment(date, time)
    assert found is seconds is None or found == pytest.approx(seconds)


def test_slices_whose_times_are_in_several_units_give_only_the_order(tmp_path: Path) -> None:
    images = SCAN.images()
    for ds in images[:16]:
        ds.TriggerTime /= 1000
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    sidecar = only(report, tmp_path / "out")[1]
    assert (sidecar["phase_times_ms"][1], sidecar["trigger_times_ms"]) == (100, None)
    assert "those of slice 1 span 0.7 ms and those of slice 3 700 ms" in sidecar["notes"][0]
