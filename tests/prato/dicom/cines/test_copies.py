"""The same images twice, different ones under one UID, several cines of one examination, and slices in several frames of reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import FileDataset

from prato.dicom.importer import import_dicom
from tests.prato.dicom.scans import Scan, check, only, save, uid

SCAN = Scan(3, description="cine")


def renamed(images: list[FileDataset], name: str, number: int | None = None) -> list[FileDataset]:
    """``images`` under other SOP instance UIDs, in a series of their own where it has a ``number``."""
    for n, ds in enumerate(images):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid(name, n)
        if number is not None:
            ds.SeriesInstanceUID, ds.SeriesNumber = uid(name, number), number
    return images


def compressed(images: list[FileDataset]) -> list[FileDataset]:
    import pydicom

    for ds in images:
        ds.compress(pydicom.uid.RLELossless)
    return images


def counted_on(images: list[FileDataset], by: int = 1000) -> list[FileDataset]:
    for ds in images:
        ds.InstanceNumber += by
    return images


def untimed(images: list[FileDataset]) -> list[FileDataset]:
    for ds in images:
        ds.TriggerTime = 0
    return images


@pytest.mark.parametrize("counted", [True, False], ids=["counted on", "counted by turns"])
@pytest.mark.parametrize("make", [SCAN.images, lambda: untimed(SCAN.images())], ids=["timed", "untimed"])
@pytest.mark.parametrize("times", [2, 3])
def test_a_series_that_has_all_images_again_under_other_numbers_is_one_cine(
    tmp_path: Path, make: Callable[[], list[FileDataset]], counted: bool, times: int
) -> None:
    images = [*make(), *(ds for n in range(1, times) for ds in counted_on(renamed(make(), f"copy {n}"), 1000 * n))]
    if not counted:
        for n, ds in enumerate(sorted(images, key=lambda ds: (ds.InstanceNumber % 1000, ds.InstanceNumber))):
            ds.InstanceNumber = n + 1
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert f"{40 * (times - 1)} images occur twice and are used once." in report.imported[0].notes


def test_single_images_that_are_there_again_under_other_numbers_are_left_out(tmp_path: Path) -> None:
    again = counted_on(renamed(SCAN.images()[::3], "again"))
    report = import_dicom(save(tmp_path / "in", [*SCAN.images(), *again]), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert "14 images occur twice and are used once." in report.imported[0].notes


def test_phases_that_look_alike_and_have_no_times_are_all_kept(tmp_path: Path) -> None:
    images = untimed(replace(SCAN, phases=16).images())
    for ds, after in pairwise(images):
        if ds.InstanceNumber % 16 == 7:
            after.PixelData = ds.PixelData
    [cine] = import_dicom(save(tmp_path / "in", images), tmp_path / "out").imported
    assert cine.phases == 16


@pytest.mark.parametrize(
    "copies",
    [
        SCAN.images,
        lambda: renamed(SCAN.images(), "again"),
        lambda: renamed(SCAN.images(), "copy", 12),
        lambda: renamed(SCAN.images(), "copy", SCAN.number),
        lambda: compressed(renamed(SCAN.images(), "copy", 12)),
    ],
    ids=["the same", "other instances", "another series", "another series of that number", "compressed"],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_series_that_is_there_twice_is_one_study_and_is_named(tmp_path: Path, copies: Callable[[], list[FileDataset]], seed: int) -> None:
    alone = import_dicom(save(tmp_path / "alone", SCAN.images()), tmp_path / "once")
    report = import_dicom(save(tmp_path / "in", [*SCAN.images(), *copies()], seed=seed), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert report.imported[0].study == alone.imported[0].study and report.refused == []
    said = [line for line in (*report.left_out, *report.warnings, *report.imported[0].notes) if "twice" in line or "a copy of" in line]
    assert len(said) == 1, said


def test_two_cines_of_one_place_are_two_studies_whatever_numbers_their_series_have(tmp_path: Path) -> None:
    cines = [SCAN, replace(SCAN, number=4)]
    images = [*SCAN.images(), *renamed(cines[1].images(), "second", SCAN.number)]
    for seed in (1, 2):
        report = import_dicom(save(tmp_path / f"in{seed}", images, seed=seed), tmp_path / f"out{seed}")
        assert len({cine.study for cine in report.imported}) == 2 and report.refused == []
    stored = {path.name: np.asarray(nib.load(path).dataobj) for path in (tmp_path / "out1").glob("*.nii.gz")}
    assert all(np.array_equal(stored[path.name], nib.load(path).dataobj) for path in (tmp_path / "out2").glob("*.nii.gz"))
    assert all(any(np.array_equal(array, scan.array()) for array in stored.values()) for scan in cines)


def test_two_stacks_of_one_series_are_two_studies(tmp_path: Path) -> None:
    other = replace(SCAN, number=4, rows=16, origin=(30.0, -60.0, 100.0))
    images = other.images()
    for ds in images:
        ds.SeriesInstanceUID, ds.SeriesNumber = uid(SCAN.study, SCAN.number), SCAN.number
    report = import_dicom(save(tmp_path / "in", [*SCAN.images(), *images]), tmp_path / "out")
    assert len({cine.study for cine in report.imported}) == 2 and report.refused == []


def test_different_images_under_one_uid_are_all_taken_and_not_referred_to(tmp_path: Path) -> None:
    images = SCAN.images()
    for ds in images:
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid("the only one")
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert report.warnings == ["40 different images share 1 SOP instance UID: labels on them cannot be exported."]
    origin = only(report, tmp_path / "out")[1]["dicom"]
    assert origin["frame_numbers"] is None and not any(uid for row in origin["sop_instance_uids"] for uid in row)


def moved(images: list[FileDataset], first: int) -> list[FileDataset]:
    """``images``, in another frame of reference from the ``first`` on."""
    for ds in images[first:]:
        ds.FrameOfReferenceUID = uid("after the patient was moved")
    return images


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (lambda: moved(SCAN.images(), 16), "series 3 (cine): its slices lie in 2 frames of reference, whose relative"),
        (lambda: moved(replace(SCAN, slices=4).one_series_a_slice(), 16), "a cine of 2 slices, in another frame of reference than"),
    ],
    ids=["one series", "one series a slice"],
)
def test_slices_in_several_frames_of_reference_are_no_stack(tmp_path: Path, images: Callable[[], list[FileDataset]], sentence: str) -> None:
    report = import_dicom(save(tmp_path / "in", images()), tmp_path / "out")
    assert report.imported == [] and any(sentence in line for line in (*report.refused, *report.left_out)), report
    assert not (tmp_path / "out").exists()


def test_a_slice_of_a_stack_that_was_begun_anew_costs_itself_alone(tmp_path: Path) -> None:
    begun = renamed(moved(replace(SCAN, slices=1, first_slice=9).images(), 0), "begun", 2)
    report = import_dicom(save(tmp_path / "in", [*SCAN.images(), *begun]), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    sentence = "series 2 (cine), 8 files: a cine of 1 slice, in another frame of reference than series 3 (cine)"
    assert sentence in report.left_out


@pytest.mark.parametrize("images", [SCAN.images, SCAN.one_series_a_slice], ids=["one series", "one series a slice"])
@pytest.mark.parametrize("images_moved", [1, 40])
def test_frames_of_reference_that_differ_within_a_slice_mean_nothing(
    tmp_path: Path, images: Callable[[], list[FileDataset]], images_moved: int
) -> None:
    """As in the images of Sunnybrook, which name one each."""
    odd = images()
    for n, ds in enumerate(odd[:images_moved]):
        ds.FrameOfReferenceUID = uid("anonymous", n)
    report = import_dicom(save(tmp_path / "in", odd), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert any("frames of reference, several for one slice: they are taken to lie in one" in note for note in report.imported[0].notes)
