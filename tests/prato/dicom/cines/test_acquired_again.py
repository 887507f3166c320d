"""Slices that were acquired more than once, in series of one slice each: only what belongs together becomes a cine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import FileDataset

from prato.dicom.importer import Report, import_dicom
from tests.prato.dicom.scans import Scan, check, save, uid

SCAN = Scan(description="cine sax")


def single_slices() -> list[FileDataset]:
    images = SCAN.one_series_a_slice()
    for ds in images:
        ds.AcquisitionTime = "100000"
    return images


def at(date: str, time: str, *images: FileDataset) -> list[FileDataset]:
    for ds in images:
        ds.AcquisitionDate, ds.AcquisitionTime = date, time
    return list(images)


def later(slices: tuple[int, ...], description: str, one_series: bool = False) -> list[FileDataset]:
    """Other images where ``slices`` lie, acquired after them."""
    other = replace(SCAN, number=2, description=description)
    images = [ds for ds in (other.images() if one_series else other.one_series_a_slice()) if slice_of(ds) in slices]
    for ds in images:
        ds.AcquisitionTime, ds.SeriesNumber = "110000", ds.SeriesNumber + 200
        if not one_series:
            ds.SeriesInstanceUID = uid("later", description, slice_of(ds))
    return images


def slice_of(ds: FileDataset) -> int:
    return round(float(np.subtract(ds.ImagePositionPatient, SCAN.origin) @ SCAN.normal) / SCAN.gap)


@pytest.mark.parametrize("one_series", [True, False])
@pytest.mark.parametrize("slices", [(1, 2, 3), (0, 2, 4), (2, 3)])
def test_tagged_images_take_no_place_of_the_cine(tmp_path: Path, slices: tuple[int, ...], one_series: bool) -> None:
    images = [*single_slices(), *later(slices, "tagging sax", one_series)]
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert report.refused == []
    assert any("tagging sax" in line for line in report.left_out)
    assert not any("acquired twice" in note for note in report.imported[0].notes)


def test_a_repetition_that_was_broken_off_costs_nothing(tmp_path: Path) -> None:
    images = [*single_slices(), *(ds for ds in later((2,), "again") if ds.InstanceNumber <= 6)]
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert any("a slice that series 102 (cine sax) has already" in line for line in report.left_out)
    assert any("acquired twice" in note for note in report.imported[0].notes)


@pytest.mark.parametrize(
    ("slices", "description"),
    [
        ((0, 1, 2, 3, 4), "under stress"),
        ((0, 1, 2, 3), "under stress"),
        *(((0, 1, 2, 3), f"cine {word}") for word in ("stress stage 2", "matrix 256", "SET1", "part2", "performed again")),
    ],
)
def test_what_was_acquired_again_as_a_whole_is_not_mixed_with_the_first(tmp_path: Path, slices: tuple[int, ...], description: str) -> None:
    """Nor taken for tags, an atrium or T1, whatever letters are in its name."""
    images = [*single_slices(), *later(slices, description)]
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    expected = [SCAN.array(), replace(SCAN, number=2).array()[:, :, : len(slices)]]
    assert voxels(report, tmp_path / "out", expected)


@pytest.mark.parametrize("word", ["sax_tag", "TAGGING", "T1w", "shMOLLI_T1", "T2*", "atrium", "sax_pc", "TI scout", "perfusion"])
def test_what_is_named_as_something_else_is_no_second_cine(tmp_path: Path, word: str) -> None:
    images = [*single_slices(), *later((0, 1, 2, 3), f"cine {word}")]
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert "named as no plain cine" in report.left_out[0]


def voxels(report: Report, folder: Path, expected: list[np.ndarray]) -> bool:
    found = [np.asarray(nib.load(folder / f"{cine.study}.nii.gz").dataobj) for cine in report.imported]
    return len(found) == len(expected) and all(np.array_equal(one, other) for one, other in zip(found, expected))


def one_series(*added: FileDataset) -> list[FileDataset]:
    """The cine as one series, which ``added`` are of, too."""
    for n, ds in enumerate(added):
        ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = uid("study", 1), 1, 1001 + n
    return [*SCAN.images(), *added]


def with_slice(k: int) -> np.ndarray:
    """The voxels of the cine with slice ``k`` as it was acquired ``later``."""
    array = SCAN.array()
    array[:, :, k] = replace(SCAN, number=2).array()[:, :, k]
    return array


def in_the_series_of_the_slice() -> list[FileDataset]:
    added = later((2,), "cine sax")
    for n, ds in enumerate(added):
        ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = uid("study", 1, "slice", 2), 102, 1001 + n
        ds.AcquisitionTime = "100000"
    return [*single_slices(), *added]


def in_another_series() -> list[FileDataset]:
    return [*SCAN.images(), *later((2,), "cine sax again")]


@pytest.mark.parametrize(
    ("images", "note"),
    [
        (lambda: one_series(*later((2,), "")), " in series 1: its images 1001 to 1008 are used, as the later ones, and not 17 to 24."),
        (in_the_series_of_the_slice, " in series 102: its images 1001 to 1008 are used, as the later ones, and not 1 to 8."),
        (in_another_series, ": the images of series 302 are used, as the later ones, and not those of series 1."),
        (
            lambda: [*at("20260131", "235800", *single_slices()), *at("20260201", "000200", *later((2,), "again"))],
            ": the images of series 302 are used, as the later ones, and not those of series 102.",
        ),
        (
            lambda: [*at("20260131", "101000", *single_slices()), *later((2,), "again")],
            ": the images of series 302 are used, as the later ones, and not those of series 102.",
        ),
        (
            lambda: [*single_slices(), *at("", "", *later((2,), "again"))],
            ": the images of series 302 are used, as the later ones, and not those of series 102.",
        ),
        (
            lambda: [*single_slices(), *later((2,), "again")],
            ": the images of series 302 are used, as the later ones, and not those of series 102.",
        ),
    ],
    ids=[
        "in the same series",
        "in the series of the slice",
        "in another series",
        "after midnight",
        "undated",
        "untimed",
        "in series of one slice",
    ],
)
def test_of_a_slice_that_was_acquired_again_the_last_is_used(tmp_path: Path, images: Callable[[], list[FileDataset]], note: str) -> None:
    report = import_dicom(save(tmp_path / "in", images()), tmp_path / "out")
    assert voxels(report, tmp_path / "out", [with_slice(2)])
    assert report.imported[0].notes == (f"A slice was acquired twice{note}",)
    assert len(report.left_out) == 1 and "8 files: acquired again in series" in report.left_out[0]


def displaced(mm: float, *images: FileDataset) -> list[FileDataset]:
    for ds in images:
        ds.ImagePositionPatient = [float(v) for v in np.array(ds.ImagePositionPatient) + mm * SCAN.normal]
    return list(images)


@pytest.mark.parametrize("mm", [0.4, 1.0, -3.0])
@pytest.mark.parametrize("way", ["same series", "another series", "series of one slice"])
def test_a_slice_that_was_acquired_again_out_of_line_replaces_none(tmp_path: Path, way: str, mm: float) -> None:
    """With it the slices would not lie evenly, and the whole cine was refused."""
    again = displaced(mm, *later((2,), "cine sax"))
    images = {
        "same series": one_series(*again),
        "another series": [*SCAN.images(), *again],
        "series of one slice": [*single_slices(), *again],
    }
    report = import_dicom(save(tmp_path / "in", images[way]), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    [note] = report.imported[0].notes
    assert f"{abs(mm):.1f} mm away" in note and "evenly with the others" in note
    assert report.refused == [] and len(report.left_out) == 1 and "8 files: a slice that series 1" in report.left_out[0]


def test_a_slice_that_was_acquired_again_where_it_lies_evenly_replaces_the_first(tmp_path: Path) -> None:
    images = [*displaced(1.0, *(ds for ds in single_slices() if slice_of(ds) == 2)), *(ds for ds in single_slices() if slice_of(ds) != 2)]
    report = import_dicom(save(tmp_path / "in", [*images, *later((2,), "cine sax")]), tmp_path / "out")
    assert voxels(report, tmp_path / "out", [with_slice(2)])


def test_a_cine_that_was_acquired_again_as_a_whole_out_of_line_is_a_second_one(tmp_path: Path) -> None:
    again = displaced(2.0, *later((0, 1, 2, 3, 4), "cine sax"))
    report = import_dicom(save(tmp_path / "in", [*single_slices(), *again]), tmp_path / "out")
    assert report.refused == [] and voxels(report, tmp_path / "out", [SCAN.array(), replace(SCAN, number=2).array()])


@pytest.mark.parametrize(
    ("thickness", "gap", "said"),
    [
        (10.0, 4.0, "4.0, 4.0, 8.0, 4.0, 4.0, 4.0, 4.0 mm"),
        (8.0, 3.999, "4.0, 4.0, 8.0, 4.0, 4.0, 4.0, 4.0 mm"),
        (120.0, 8.0, "8.0, 8.0, 16.0, 8.0, 8.0, 8.0, 8.0 mm"),  # that of the slab
    ],
)
def test_slices_that_overlap_are_not_taken_for_one(tmp_path: Path, thickness: float, gap: float, said: str) -> None:
    """Of a stack without its fourth slice, every second one was a cine of its own, or the import ended with an error."""
    images = [
        ds for ds in replace(SCAN, slices=9, gap=gap, extra={"SliceThickness": thickness}).images() if (ds.InstanceNumber - 1) // 8 != 3
    ]
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    assert report.imported == report.left_out == []
    assert f"its slices are not evenly spaced ({said})" in report.refused[0]


def test_a_slice_of_another_kind_is_not_used_for_lying_evenly(tmp_path: Path) -> None:
    images = single_slices()
    for ds in images:
        if slice_of(ds) == 2:
            ds.SeriesDescription = "flow"
    report = import_dicom(save(tmp_path / "in", [*images, *displaced(2.0, *later((2,), "cine sax"))]), tmp_path / "out")
    assert report.imported == [] and "its slices are not evenly spaced (8.0, 8.0, 2.0, 6.0, 8.0 mm)" in report.refused[0]


def test_a_slice_that_was_acquired_three_times_is_there_once(tmp_path: Path) -> None:
    """The third lies further from the second than it does from the first."""
    images = [*SCAN.images(), *displaced(-0.15, *later((2,), "cine sax")), *displaced(0.4, *later((2,), "once more"))]
    for n, ds in enumerate(images):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid("image", n)
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    assert voxels(report, tmp_path / "out", [with_slice(2)]) and len(report.left_out) == 2


@pytest.mark.parametrize("count", [2, 5, 7])
@pytest.mark.parametrize("images", [one_series, lambda *added: [*SCAN.images(), *added]], ids=["same series", "another"])
def test_a_last_acquisition_that_was_broken_off_is_not_used(tmp_path: Path, images: Callable[..., list[FileDataset]], count: int) -> None:
    report = import_dicom(save(tmp_path / "in", images(*later((2,), "")[:count])), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert f"{count} files" in report.left_out[0]


@pytest.mark.parametrize(("thickness", "gap"), [(10, 4.0), (80, 4.0), (80, 8.0), (6.5, 3.0)])
def test_of_thick_slices_that_overlap_none_is_a_repetition(tmp_path: Path, thickness: float, gap: float) -> None:
    """Where one is missing, every other was left out as acquired again, and a cine of the rest made, or none of it was a cine."""
    images = [ds for ds in replace(SCAN, gap=gap, slices=8).one_series_a_slice() if ds.SeriesNumber != 105]
    for ds in images:
        ds.AcquisitionTime, ds.SliceThickness = f"10{ds.SeriesNumber - 100:02}00", thickness
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    assert (report.imported, report.left_out) == ([], [])
    assert "its slices are not evenly spaced" in report.refused[0]


def test_a_series_in_which_all_was_acquired_twice_is_two_cines_where_it_says_when(tmp_path: Path) -> None:
    images = one_series(*later((0, 1, 2, 3, 4), "cine sax", one_series=True))
    for n, ds in enumerate(images):
        ds.AcquisitionTime = "100000" if n < 40 else "101500"
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    assert voxels(report, tmp_path / "out", [SCAN.array(), replace(SCAN, number=2).array()])
    for ds in images:
        del ds.AcquisitionTime
    report = import_dicom(save(tmp_path / "unknown", images), tmp_path / "out2")
    assert report.imported == [] and "2 different images for each time" in report.left_out[0]


def test_half_of_a_cine_under_stress_replaces_nothing_of_it(tmp_path: Path) -> None:
    report = import_dicom(save(tmp_path / "in", [*SCAN.images(), *later((0, 1, 2), "under stress")]), tmp_path / "out")
    assert voxels(report, tmp_path / "out", [SCAN.array(), replace(SCAN, number=2).array()[:, :, :3]])


@pytest.mark.parametrize("change", [{"EchoTime": 3.0}, {"SeriesDescription": "cine tagging"}], ids=["another echo", "tags"])
def test_another_kind_of_image_of_a_slice_replaces_none(tmp_path: Path, change: dict[str, object]) -> None:
    added = later((2,), "cine sax")
    for ds in added:
        for name, value in change.items():
            setattr(ds, name, value)
    report = import_dicom(save(tmp_path / "in", [*SCAN.images(), *added]), tmp_path / "out")
    check(SCAN, report, tmp_path / "out")
    assert "a slice that series 1 (cine sax) has already" in report.left_out[0]


def halve(ds: FileDataset) -> None:
    ds.Rows, ds.Columns, ds.PixelSpacing, ds.PixelData = 6, 5, [3.0, 2.5], ds.PixelData[: 6 * 5 * 2]


def turn(ds: FileDataset) -> None:
    along, down = np.reshape([float(v) for v in ds.ImageOrientationPatient], (2, 3))
    ds.ImageOrientationPatient = [*along, *(np.cos(0.1) * down + np.sin(0.1) * SCAN.normal)]


def shift(ds: FileDataset) -> None:
    ds.ImagePositionPatient = [float(v) for v in np.array(ds.ImagePositionPatient) + 4 * np.array(SCAN.orientation[:3])]


@pytest.mark.parametrize(
    ("change", "difference"),
    [(halve, "of 5x6 pixels of 2.5x3 mm instead of 10x12 pixels of 1.25x1.5 mm"), (turn, "turned by 5.7°"), (shift, "4.0 mm aside")],
)
def test_an_odd_slice_at_the_end_of_a_stack_is_missed(tmp_path: Path, change: Callable[[FileDataset], None], difference: str) -> None:
    images = single_slices()
    for ds in images:
        if slice_of(ds) == 4:
            change(ds)
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    assert [cine.slices for cine in report.imported] == [4]
    assert report.imported[0].notes == (f"A slice next to the others is left out: it is {difference}.",)
    assert f"next to series 100 (cine sax) and 3 more series, but {difference}" in report.left_out[0]


def test_a_slice_of_too_few_images_at_the_end_of_a_stack_is_missed(tmp_path: Path) -> None:
    images = [ds for ds in single_slices() if slice_of(ds) < 4 or ds.InstanceNumber <= 3]
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    assert [cine.slices for cine in report.imported] == [4]
    assert report.imported[0].notes == ("A slice next to the others is left out: it has 3 images, too few for a cine.",)
