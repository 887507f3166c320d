"""Series that hold a part of the phases each of the same slices are one cine where their trigger times say so, and else stay apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset

from prato.dicom.importer import import_dicom
from tests.prato.dicom.scans import Scan, check, only, save, uid

SCAN = Scan(3, slices=3, phases=12, description="cine 1")


def part(phases: Iterable[int], number: int, scan: Scan = SCAN) -> list[FileDataset]:
    """Those ``phases`` of ``scan``, as a series of their own that counts its images from 1."""
    images = [scan.image(k, t) for k in range(scan.slices) for t in phases]
    for n, ds in enumerate(images):
        ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = uid("part", number), number, n + 1
    return images


def described(images: list[FileDataset], text: str) -> list[FileDataset]:
    for ds in images:
        ds.SeriesDescription = text
    return images


@pytest.mark.parametrize(
    "parts",
    [(range(6), range(6, 12)), (range(6, 12), range(6)), (range(4), range(4, 8), range(8, 12)), (range(9), range(9, 12))],
    ids=["halves", "the later one first", "thirds", "the rest"],
)
def test_series_that_follow_each_other_in_the_heartbeat_are_one_cine(tmp_path: Path, parts: tuple[range, ...]) -> None:
    images = [ds for n, phases in enumerate(parts) for ds in described(part(phases, 11 + n), f"cine {n}")]
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert f"The phases of a slice are of several series, {len(parts)} in all" in report.imported[0].notes[0]
    origin = only(report, tmp_path / "out")[1]["dicom"]
    named = [[origin["series_instance_uids"][n] for n in own] for own in origin["series_of_image"]]
    assert named == [[next(uid("part", 11 + n) for n, own in enumerate(parts) if t in own) for t in range(12)]] * 3


@pytest.mark.parametrize(
    "images",
    [
        lambda: part(range(0, 12, 2), 11) + part(range(1, 12, 2), 12),
        lambda: part(range(12), 11) + part(range(12), 12, replace(SCAN, number=4, rr_ms=700.0)),
        lambda: part(range(6), 11) + part(range(9, 15), 12, replace(SCAN, phases=15)),
        lambda: part(range(6), 11) + described(part(range(6, 12), 12), "flow"),
        lambda: part(range(12), 11) + part(range(12, 24), 12, replace(SCAN, phases=24, rr_ms=1600.0, extra={"NominalInterval": 800})),
    ],
    ids=["between each other", "repeated", "with a gap", "of two kinds", "over two heartbeats"],
)
def test_other_series_of_the_same_slices_are_not_joined(tmp_path: Path, images: Callable[[], list[FileDataset]]) -> None:
    report = import_dicom(save(tmp_path / "in", images()), tmp_path / "out")
    assert {cine.phases for cine in report.imported} <= {6, 12} and report.imported and not any(cine.notes for cine in report.imported)
