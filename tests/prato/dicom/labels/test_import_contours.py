"""Labels that users have as contours, in RTSTRUCT: filled on the slices that they were drawn on, and a ring between two borders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests.prato.dicom.labels.label_folders import Folders
from tests.prato.dicom.scans import Scan, uid

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, of UIDs that break a rule
SCAN = Scan(slices=4, phases=6, rows=40, columns=36)
SHAPE = (SCAN.columns, SCAN.rows, SCAN.slices)
#: Pixels (column, row) of centre and radius: the left ventricle, its two borders, and the right one.
CENTRE, INNER, OUTER = (18.3, 20.2), 6.4, 9.4
RIGHT, RIGHT_RADIUS = (7.3, 12.2), 5.4
BORDERS = {"LV Endocardium": (CENTRE, INNER), "LV epi": (CENTRE, OUTER)}


def item(**values: Any) -> Dataset:
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def circle(centre: tuple[float, float], radius: float) -> np.ndarray:
    """Points (N, 2) of pixels."""
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    return np.array(centre) + radius * np.stack([np.cos(angles), np.sin(angles)], 1)


def disk(centre: tuple[float, float], radius: float) -> np.ndarray:
    """(columns, rows): the pixels whose centres lie within."""
    columns, rows = np.mgrid[: SCAN.columns, : SCAN.rows]
    return np.hypot(columns - centre[0], rows - centre[1]) < radius


def contour(points: np.ndarray, k: int, t: int | None, kind: str = "CLOSED_PLANAR") -> Dataset:
    """A contour of ``points`` (N, 2) of pixels on slice ``k``, which names the image of phase ``t``, if any."""
    along = np.reshape(SCAN.orientation, (2, 3))
    lps = np.array(SCAN.position(k)) + points[:, :1] * SCAN.spacing[1] * along[0] + points[:, 1:] * SCAN.spacing[0] * along[1]
    drawn = item(ContourGeometricType=kind, NumberOfContourPoints=len(points), ContourData=[f"{v:.3f}" for v in lps.ravel()])
    if t is not None:
        drawn.ContourImageSequence = [
            item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.4", ReferencedSOPInstanceUID=uid("study", 1, k, t))
        ]
    return drawn


def structure_set(rois: Mapping[str, Sequence[Dataset]]) -> FileDataset:
    """RTSTRUCT with contours by the names of their ROIs."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = "1.2.840.10008.5.1.4.1.1.481.3", ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.is_little_endian, ds.is_implicit_VR = True, False
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, "RTSTRUCT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid("study"), generate_uid()
    series = item(SeriesInstanceUID=uid("study", 1))
    study = item(RTReferencedSeriesSequence=[series])
    ds.ReferencedFrameOfReferenceSequence = [item(FrameOfReferenceUID=uid("study", "frame"), RTReferencedStudySequence=[study])]
    ds.StructureSetROISequence = [item(ROINumber=n, ROIName=name) for n, name in enumerate(rois, 7)]
    ds.ROIContourSequence = [item(ReferencedROINumber=n, ContourSequence=list(drawn)) for n, drawn in enumerate(rois.values(), 7)]
    return ds


def borders(
    t: int | None, slices: Sequence[int] = (0, 1, 2), names: Mapping[str, tuple[tuple[float, float], float]] = BORDERS
) -> FileDataset:
    return structure_set({name: [contour(circle(*where), k, t) for k in slices] for name, where in names.items()})


def ring(t: int) -> np.ndarray:
    mask = np.zeros((*SHAPE, SCAN.phases), np.uint8)
    for k in range(3):
        mask[:, :, k, t][disk(CENTRE, OUTER)] = 2
        mask[:, :, k, t][disk(CENTRE, INNER)] = 3
    return mask


@pytest.mark.parametrize(
    ("inner", "outer"), [("LV Endocardium", "LV epicardium"), ("endo", "EPI"), ("LV blood pool", "lvEpicardialContour"), ("LV", "Epi LV")]
)
def test_the_myocardium_is_what_lies_between_two_borders(folders: Folders, inner: str, outer: str) -> None:
    folders.put(borders(3, names={outer: (CENTRE, OUTER), inner: (CENTRE, INNER)}))
    said, left_out = folders.take()
    assert "1 label is stored." in said and not left_out
    assert np.array_equal(folders.label(), ring(3))


def test_where_both_ventricles_cross_the_left_one_counts(folders: Folders) -> None:
    both = {"LV epi": (CENTRE, OUTER), "LV endo": (CENTRE, INNER), "RV Endo": (RIGHT, RIGHT_RADIUS)}
    folders.put(borders(0, names=both))
    folders.take()
    wanted = ring(0)
    for k in range(3):
        wanted[:, :, k, 0][disk(RIGHT, RIGHT_RADIUS) & (wanted[:, :, k, 0] == 0)] = 1
    assert (disk(RIGHT, RIGHT_RADIUS) & disk(CENTRE, OUTER)).any()
    assert np.array_equal(folders.label(), wanted)


@pytest.mark.slow
def test_what_rois_of_unknown_names_are_is_said_in_a_file(folders: Folders, tmp_path: Path) -> None:
    folders.put(borders(3, names={"aussen": (CENTRE, OUTER), "innen": (CENTRE, INNER), "papillary": (CENTRE, 2)}))
    (tmp_path / "names.json").write_text('{"aussen": "LV epicardium", "innen": "LV endo", "papillary": "background"}')
    folders.take(0, None, "--names", str(tmp_path / "names.json"))
    assert np.array_equal(folders.label(), ring(3))


def test_two_contours_of_one_roi_are_a_ring_and_points_are_nothing(folders: Folders) -> None:
    wall = [contour(circle(CENTRE, radius), k, 2, "CLOSEDPLANAR_XOR") for k in range(3) for radius in (INNER, OUTER)]
    cavity = [contour(circle(CENTRE, INNER), k, 2) for k in range(3)]
    folders.put(structure_set({"LV cavity": cavity, "Myocardium": wall, "insertion": [contour(circle(CENTRE, 1)[:1], 1, 2, "POINT")]}))
    folders.take()
    assert np.array_equal(folders.label(), ring(2))


def test_contours_that_name_no_image_are_of_the_slice_that_they_lie_on(folders: Folders) -> None:
    folders.put(borders(None))
    assert "It leaves open on which of 6 phases it was drawn" in folders.take(1)[1]
    (folders.masks / "IM1").rename(folders.masks / "heart_frame06.dcm")
    folders.take()
    assert np.array_equal(folders.label(), ring(5))


@pytest.mark.parametrize("step", [1, -1])
def test_a_hole_that_was_traced_through_the_centres_of_pixels_is_what_lies_within_them(folders: Folders, step: int) -> None:
    outer, inner = (np.array([(a, a), (b, a), (b, b), (a, b), (a, a)], float) for a, b in ((4, 16), (8, 12)))
    bridged = np.concatenate([outer, inner[::-1]])[::step]  # DICOM's way to have a hole in one contour
    islands = [np.array([(a, 20), (a + 5, 20), (a + 5, 25), (a, 25)], float)[::step] for a in (4, 9)]  # they share a column
    wall = [*(contour(points, k, 0) for k in (0, 1) for points in (outer, inner[::step])), contour(bridged, 2, 0)]
    folders.put(structure_set({"myo": wall, "RV": [contour(points, 1, 0) for points in islands]}))
    folders.take()
    wanted = np.zeros((*SHAPE, SCAN.phases), np.uint8)
    wanted[4:17, 4:17, :3, 0] = 2
    wanted[9:12, 9:12, :3, 0] = 0
    wanted[4:15, 20:26, 1, 0] = 1
    assert np.array_equal(folders.label(), wanted)


def test_what_lies_within_a_contour_is_as_large_as_it(folders: Folders) -> None:
    """Drawn between pixels, closed by its first point or not, and round an island in a hole: no half pixel is added or missing."""
    centres, radii = [(17.85, 19.3), (18.0, 19.75), (18.4, 20.1)], (15.3, 10.2, 5.6)
    rings = [circle(centre, radius)[:: (-1) ** n] for centre in centres for n, radius in enumerate(radii)]
    closed = [points if n % 2 else np.concatenate([points, points[:1]]) for n, points in enumerate(rings)]
    folders.put(structure_set({"LV": [contour(points, n // 3, 0) for n, points in enumerate(closed)]}))
    folders.take()
    for k, centre in enumerate(centres):
        outer, middle, inner = (disk(centre, radius) for radius in radii)
        found, wanted = folders.label()[:, :, k, 0] == 3, outer & ~middle | inner
        assert np.count_nonzero(found != wanted) < 10  # by rounding, of 200 pixels along the circles


@pytest.mark.parametrize("step", [1, -1])
def test_a_pixel_whose_centre_is_on_the_contour_is_inside_whichever_way_round_it_was_drawn(folders: Folders, step: int) -> None:
    square = np.array([(4, 5), (14, 5), (14, 11), (4, 11)], float)[::step]  # as programs trace a mask
    folders.put(structure_set({"LV": [contour(square, k, 0) for k in range(3)]}))
    folders.take()
    wanted = np.zeros((*SHAPE, SCAN.phases), np.uint8)
    wanted[4:15, 5:12, :3, 0] = 3
    assert np.array_equal(folders.label(), wanted)


def _moved() -> FileDataset:
    ds = borders(0)
    drawn = ds.ROIContourSequence[0].ContourSequence[0]
    drawn.ContourData = [float(v) + (2.0 if n % 3 == 2 else 0) for n, v in enumerate(drawn.ContourData)]
    return ds


def _of_another() -> FileDataset:
    ds = borders(0)
    for roi in ds.ROIContourSequence:
        for drawn in roi.ContourSequence:
            drawn.ContourImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    ds.StudyInstanceUID = "1.2"
    return ds


BAD: dict[str, tuple[Callable[[], FileDataset], str]] = {
    "a name": (
        lambda: borders(0, names={**BORDERS, "LV papillary": (CENTRE, 2)}),
        "It names the segment 'LV papillary': the structures are",
    ),
    "twice": (lambda: borders(0, names={**BORDERS, "myo": (CENTRE, 9.5)}), "It names myocardium twice: merge the two segments."),
    "open": (
        lambda: structure_set({"LV": [contour(circle(CENTRE, INNER), 0, 0, "OPEN_PLANAR")]}),
        "Its contours of 'LV' are not closed ones in planes: export closed contours.",
    ),
    "outer alone": (
        lambda: borders(0, names={"LV epi": (CENTRE, OUTER)}),
        "It has the outer border of the wall and not the inner one in phase 0 of p",
    ),
    "off": (_moved, "It has a contour 0.6 mm off its image: export it as it was drawn on the slices."),
    "beyond": (lambda: borders(0, names={"LV": ((2.0, 2.0), 5)}), "It has a contour beyond the edges of its image: export it as it was"),
    "of another": (_of_another, "It was drawn on images of no study here: import its examination with import_dicom.py first."),
    "empty": (lambda: structure_set({"LV": []}), "It is empty: there is nothing to learn from it."),
}


@pytest.mark.parametrize("case", BAD)
def test_contours_that_cannot_be_used_are_left_out_with_one_sentence(folders: Folders, case: str) -> None:
    make, words = BAD[case]
    folders.put(make())
    before = folders.files()
    _, left_out = folders.take(1)
    assert left_out.startswith(f"IM1 is left out: {words}") and len(left_out.splitlines()) == 1
    assert folders.files() == before
