"""What are the phases of one heartbeat, by the times that images are given, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from prato.dicom.importer import import_dicom
from tests.prato.dicom.scans import Scan, check, only, save

SCAN = Scan()


def test_images_of_many_heartbeats_whose_trigger_times_differ_a_little_are_no_cine(tmp_path: Path) -> None:
    images = replace(SCAN, phases=20, description="first pass").images()
    late = np.random.default_rng(2).uniform(0, 40, len(images))
    for n, ds in enumerate(images):
        ds.TriggerTime, ds.AcquisitionTime = round(100 + float(late[n]), 1), f"1011{(n % 20) * 0.9:09.6f}"
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    assert report.imported == [] and "images over 17 s, more than one heartbeat" in report.left_out[0]


@pytest.mark.parametrize(
    "beat",
    [lambda t: (t + 3) % 8, lambda t: 7 - t, lambda t: t * 3 % 8, lambda t: t * 5 % 8 * 7],
    ids=["the R wave within", "reversed", "every third", "made up"],
)
@pytest.mark.parametrize(
    ("start", "date"),
    [("20260131101100", "%Y%m%d"), ("20261231235958", "%Y%m%d"), ("20261231235958", "%Y.%m.%d")],
    ids=["by day", "over midnight", "in the dates of ACR-NEMA"],
)
def test_phases_that_were_acquired_one_after_the_other_are_a_cine(
    tmp_path: Path, beat: Callable[[int], int], start: str, date: str
) -> None:
    images = SCAN.images()
    for n, ds in enumerate(images):
        when = datetime.strptime(start, "%Y%m%d%H%M%S") + timedelta(seconds=beat(n % SCAN.phases) * 0.9)
        ds.AcquisitionDate, ds.AcquisitionTime = when.strftime(date), when.strftime("%H%M%S.%f")
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert (report.refused, report.left_out) == ([], [])
    assert only(report, tmp_path / "out")[1]["phase_times_ms"][:3] == [0, 100, 200]


@pytest.mark.parametrize("beat", [lambda t: t, lambda t: 15 - t, lambda t: t * 3 % 16], ids=["in order", "reversed", "every third"])
def test_phases_that_were_acquired_fast_over_several_heartbeats_are_a_cine(tmp_path: Path, beat: Callable[[int], int]) -> None:
    scan = replace(SCAN, phases=16)
    images = scan.images()
    for n, ds in enumerate(images):
        ds.AcquisitionTime = f"1011{beat(n % 16) * 0.2:09.6f}"
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(scan, report, tmp_path / "out")
    assert (report.refused, report.left_out) == ([], [])


def test_a_scout_without_a_day_makes_no_other_day_of_midnight(tmp_path: Path) -> None:
    images = [*SCAN.images(), *replace(SCAN, number=2, phases=1, description="scout").images()]
    for n, ds in enumerate(images):
        when = datetime(2026, 1, 31, 23, 59, 59, 700_000) + timedelta(seconds=0.1 * (n % 8))
        ds.AcquisitionTime = when.strftime("%H%M%S.%f")
        if n < 40:
            ds.AcquisitionDate = when.strftime("%Y%m%d")
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert report.refused == [] and len(report.left_out) == 1 and "scout" in report.left_out[0]


def test_images_of_which_some_do_not_say_the_day_are_phases_of_one_heartbeat(tmp_path: Path) -> None:
    """Those with a date counted as acquired many heartbeats after the others."""
    images = SCAN.images()
    for n, ds in enumerate(images):
        ds.TriggerTime, ds.AcquisitionTime = ds.TriggerTime / 3, f"1011{n // 8:02}.{n % 8:02}"  # an early part of the heartbeat
        if n % 2:
            ds.AcquisitionDate = "20260131"
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert (report.refused, report.left_out) == ([], [])


def perfusion(triggers: Callable[[int, int], float]) -> list[FileDataset]:
    """First passes of three slices, which do not say when they were acquired."""
    images = replace(SCAN, slices=3, phases=20, description="").images()
    for n, ds in enumerate(images):
        ds.TriggerTime = round(triggers(n // 20, n % 20), 1)
    return images


@pytest.mark.parametrize(
    ("triggers", "why"),
    [
        (lambda k, t: 100 + 150 * k + np.random.default_rng([k, t]).uniform(0, 40), "ms of many heartbeats"),
        (lambda k, t: 100 + 150 * k, "all images of a slice at one time after the R wave"),
    ],
    ids=["now later, now earlier", "always the same"],
)
def test_images_of_many_heartbeats_that_do_not_say_when_are_no_cine(
    tmp_path: Path, triggers: Callable[[int, int], float], why: str
) -> None:
    report = import_dicom(save(tmp_path / "in", perfusion(triggers)), tmp_path / "out")
    assert report.imported == [] and why in report.left_out[0]


def in_real_time(phases: int, rr_ms: float | None, wraps_at: float | None = None, is_timed: bool = True) -> list[FileDataset]:
    """An image every 50 ms, over several heartbeats."""
    images = replace(SCAN, phases=phases).images()
    for n, ds in enumerate(images):
        ms = n % phases * 50.0
        ds.TriggerTime, ds.NominalInterval = ms if wraps_at is None else round(ms % wraps_at, 1), rr_ms
        ds.AcquisitionTime = f"10{n // phases:02}{ms / 1000:09.6f}"
        if not is_timed:
            del ds.TriggerTime
        elif wraps_at is None:
            del ds.AcquisitionTime
    return images


@pytest.mark.parametrize(
    ("images", "seconds"),
    [
        (lambda: in_real_time(61, 800), "3.0"),
        (lambda: in_real_time(61, 800, is_timed=False), "3.0"),
        (lambda: in_real_time(101, None, is_timed=False), "5.0"),
        (lambda: in_real_time(61, 800, wraps_at=817), "3.0"),
        (lambda: in_real_time(101, None, wraps_at=800), "5.0"),
    ],
    ids=["after the first R wave", "untimed", "untimed, without an interval", "after each R wave", "after each R wave, alike"],
)
def test_images_in_real_time_over_several_heartbeats_are_no_cine(
    tmp_path: Path, images: Callable[[], list[FileDataset]], seconds: str
) -> None:
    """They were all phases of one heartbeat, 8 to 50 ms apart, in no order."""
    report = import_dicom(save(tmp_path / "in", images()), tmp_path / "out")
    assert report.imported == [] and report.refused == []
    [line] = report.left_out
    assert line.endswith(f": images over {seconds} s, more than one heartbeat")


def test_a_short_cine_whose_images_are_numbered_anew_is_one(tmp_path: Path) -> None:
    scan = replace(SCAN, rr_ms=300.0, extra={"NominalInterval": 800})
    images = scan.images()
    for number, n in enumerate(np.random.default_rng(1).permutation(len(images)), 1):
        images[int(n)].InstanceNumber = number
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(scan, report, tmp_path / "out")
    assert report.left_out == [] and report.refused == []
