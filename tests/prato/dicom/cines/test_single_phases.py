"""Series that hold one phase each, put together where they are a cine, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import FileDataset

from prato.dicom.importer import import_dicom
from prato.dicom.origin.references import CineReference
from tests.prato.dicom.scans import Scan, check, only, save, uid

SCAN = Scan(description="cine sax")


def taken_apart(scan: Scan = SCAN, name: str = "cine sax ph {}", base: int = 10) -> list[FileDataset]:
    """The images of ``scan``, each phase as a series of its own."""
    images = scan.images()
    for n, ds in enumerate(images):
        t = n % scan.phases
        ds.SeriesInstanceUID, ds.SeriesNumber = uid(scan.number, "phase", t), base + t
        ds.SeriesDescription, ds.InstanceNumber = name.format(t + 1), 1 + n // scan.phases
    return images


def changed(images: list[FileDataset], change: Callable[[FileDataset, int, int], None]) -> list[FileDataset]:
    """``images`` with ``change``, which is given slice and phase, made to each."""
    for n, ds in enumerate(images):
        change(ds, n // SCAN.phases, n % SCAN.phases)
    return images


def one_series_an_image() -> list[FileDataset]:
    return changed(SCAN.images(), lambda ds, k, t: setattr(ds, "SeriesInstanceUID", uid("image", k, t)))


def with_delays_beside_a_trigger_time_of_0() -> list[FileDataset]:
    def change(ds: FileDataset, k: int, t: int) -> None:
        ds.NominalCardiacTriggerDelayTime, ds.TriggerTime = float(ds.TriggerTime), 0

    return changed(taken_apart(), change)


def counted(time: Callable[[int, int], float]) -> list[FileDataset]:
    """Images without trigger times, whose series say which phase they are, and when they were acquired."""

    def change(ds: FileDataset, k: int, t: int) -> None:
        ds.TriggerTime, ds.TemporalPositionIdentifier, ds.AcquisitionTime = 0, t + 1, f"1011{time(k, t):09.6f}"

    return changed(taken_apart(), change)


@pytest.mark.parametrize(
    "images",
    [
        taken_apart,
        lambda: counted(lambda k, t: 12 * k),
        one_series_an_image,
        with_delays_beside_a_trigger_time_of_0,
        lambda: changed(taken_apart(), lambda ds, k, t: setattr(ds, "FrameOfReferenceUID", uid("of the image", k, t))),
        lambda: [*taken_apart(), *Scan(40, phases=1, description="LGE", extra={"InversionTime": 300}).images()],
        lambda: changed(taken_apart(), lambda ds, k, t: setattr(ds, "AcquisitionTime", f"1011{k * 12:02d}")),
    ],
    ids=[
        "numbered",
        "counted",
        "one for each image",
        "delays",
        "made-up frames of reference",
        "beside late enhancement",
        "one breath hold a slice",
    ],
)
def test_phases_that_are_series_of_their_own_are_one_cine(tmp_path: Path, images: Callable[[], list[FileDataset]]) -> None:
    report = import_dicom(save(tmp_path / "in", images()), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert report.refused == [] and "of several series" in " ".join(report.imported[0].notes)


def test_a_label_of_it_refers_to_the_series_of_each_image(tmp_path: Path) -> None:
    report = import_dicom(save(tmp_path / "in", taken_apart()), tmp_path / "out")
    cine = CineReference.load(tmp_path / "out" / f"{report.imported[0].study}.json")
    assert [cine.images_of_phase(t)[k][:2] for t in (0, 5) for k in (0, 4)] == [
        (uid(1, "phase", t), uid("study", 1, k, t)) for t in (0, 5) for k in (0, 4)
    ]


def test_nothing_more_is_said_of_a_cine_in_one_series(tmp_path: Path) -> None:
    """So that an import that is run again finds the sidecar that it has written before."""
    sidecar = only(import_dicom(save(tmp_path / "in", SCAN.images()), tmp_path / "out"), tmp_path / "out")[1]
    assert "series_of_image" not in json.dumps(sidecar)


def test_a_phase_that_is_missing_in_a_slice_is_named(tmp_path: Path) -> None:
    report = import_dicom(save(tmp_path / "in", [ds for n, ds in enumerate(taken_apart()) if n != 19]), tmp_path / "out")
    assert report.imported == [] and "slice 3 of 5 has 7 phases and the others 8: a phase is missing" in report.refused[0]


def perfusion(ds: FileDataset, k: int, t: int) -> None:
    ds.TriggerTime = 60 + 150 * k + float(np.random.default_rng([k, t]).uniform(0, 40))


def inversions(ds: FileDataset, k: int, t: int) -> None:
    ds.TriggerTime = (100, 180, 260, 900, 980, 1060, 1700, 1780)[t]


def shuffled(ds: FileDataset, k: int, t: int) -> None:
    ds.TriggerTime = 20 + 100 * ((t * 3 + k) % 8)


@pytest.mark.parametrize(
    ("images", "why"),
    [
        (lambda: counted(lambda k, t: 0.9 * t + 0.15 * k), "images over 6.3 s, more than one heartbeat"),
        (lambda: counted(lambda k, t: 12), "not each with a trigger time of its own"),
        (lambda: changed(taken_apart(), perfusion), "ms of the heartbeat"),
        (lambda: changed(taken_apart(), inversions), "up to 640 ms apart and usually 80 ms"),
        (lambda: changed(taken_apart(), shuffled), "not in the same order in all slices"),
        (lambda: changed(taken_apart(), lambda ds, k, t: delattr(ds, "TriggerTime")), "not each with a trigger time of its own"),
        (lambda: changed(taken_apart(), lambda ds, k, t: setattr(ds, "EchoTime", t)), "one phase"),
        (lambda: changed(taken_apart(), lambda ds, k, t: setattr(ds, "InversionTime", 100 + t)), "one phase"),
        (lambda: taken_apart(name="tagging {}"), "named as no plain cine"),
        (lambda: changed(taken_apart(), lambda ds, k, t: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "P"])), "phase or velocity maps"),
        (lambda: [*taken_apart(), *taken_apart(Scan(2), base=40)], "not each with a trigger time of its own"),
        (lambda: changed(taken_apart(), lambda ds, k, t: setattr(ds, "FrameOfReferenceUID", uid("frame", t))), "one phase"),
    ],
    ids=[
        "many beats",
        "times filled in",
        "perfusion",
        "MOLLI",
        "times of no cine",
        "no times",
        "echoes",
        "inversions",
        "tags",
        "flow",
        "two of them",
        "frames of reference",
    ],
)
def test_other_images_of_the_same_slices_are_not_put_together(tmp_path: Path, images: Callable[[], list[FileDataset]], why: str) -> None:
    report = import_dicom(save(tmp_path / "in", images()), tmp_path / "out")
    assert report.imported == [] and any(why in line for line in report.left_out), report


def test_rest_and_stress_are_two_cines(tmp_path: Path) -> None:
    images = [*taken_apart(), *taken_apart(Scan(2), base=40)]
    for n, ds in enumerate(images):
        ds.AcquisitionTime = f"10{n // 40 * 10:02d}{n % 40 // 8 * 12:02d}"
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    found = [np.asarray(nib.load(tmp_path / "out" / f"{cine.study}.nii.gz").dataobj) for cine in report.imported]
    assert len(found) == 2 and all(map(np.array_equal, found, (SCAN.array(), Scan(2).array())))


def test_tags_beside_the_cine_are_left_out(tmp_path: Path) -> None:
    images = [*taken_apart(), *taken_apart(replace(SCAN, number=2), "sax tagging {}", base=40)]
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert "named as no plain cine" in report.left_out[0]
