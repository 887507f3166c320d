"""RTSTRUCT read: closed contours, filled on the slices that they lie on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from prato.data.labels.names import LabelError, MisplacedLabelError, structure_numbers
from prato.data.nifti import Volume
from prato.data.orientation import LPS_TO_RAS
from prato.data.structures import border_from_name, structure_from_name
from prato.dicom.labels.drawings import Drawing, Image, references
from prato.dicom.labels.segmentation import predecessor_of

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
#: How far a contour may lie from the slice that it is on, mm: programs round its points, and slices lie further apart.
_OFF_MM = 0.5
#: How far from a polygon a centre is on it, pixels: points are rounded to a hundredth of a millimetre. It is inside then, as programs that
#: trace a mask go through the centres of its pixels, also round a hole and along a bridge to it.
_ON_PIXELS = 0.01
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


@dataclass(frozen=True)
class FilledContours:
    """Contours of one structure in one plane, ``points`` (N, 3) each, RAS mm; within two of them is outside, as in a ring."""

    contours: tuple[np.ndarray, ...]
    number: int
    images: tuple[Image, ...]

    def numbers_on(self, plane: Volume) -> np.ndarray:
        columns, rows = plane.array.shape[:2]
        inside, on = np.zeros((2, columns, rows), bool)
        for points in self.contours:
            voxels = (points - plane.affine[:3, 3]) @ np.linalg.inv(plane.affine[:3, :3]).T
            off = float(np.abs(voxels[:, 2]).max()) * plane.spacing[2]
            if off > _OFF_MM:
                raise MisplacedLabelError(f"It has a contour {off:.1f} mm off its image: export it as it was drawn on the slices.")
            if (voxels[:, :2] < -1).any() or (voxels[:, :2] > (columns, rows)).any():
                raise MisplacedLabelError("It has a contour beyond the edges of its image: export it as it was drawn on the slices.")
            low = np.floor(voxels[:, :2].min(axis=0)).astype(int).clip(0)
            high = (np.ceil(voxels[:, :2].max(axis=0)).astype(int) + 1).clip(low, (columns, rows))
            part = tuple(map(slice, low, high))
            within, touched = _fill(voxels[:, :2] - low, high - low)
            inside[part] ^= within
            on[part] |= touched
        return (inside | on) * np.uint16(self.number)


def _fill(corners: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels of ``shape`` (columns, rows) have their centres within the polygon ``corners`` (N, 2); and which have them on it."""
    columns, rows = shape
    ends = np.stack([corners, np.roll(corners, -1, axis=0)], 1)
    edges = np.take_along_axis(ends, np.argsort(ends[:, :, 1:], axis=1), axis=1)  # each from its lower row to its higher one
    x, y, x_end, y_end = edges.reshape(-1, 4, 1).swapaxes(0, 1)
    row = np.arange(rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(y_end > y, (x_end - x) / (y_end - y), 0.0)
    # a row is within from its first crossing to its second, from its third to its fourth
    edge, at = np.nonzero((y <= row) & (row < y_end))
    crossings = np.zeros((columns + 1, rows), int)
    np.add.at(crossings, (_column(np.ceil((x + (row - y) * slope)[edge, at]), columns), at), 1)
    # of each edge the part that lies on the row, and the columns from its left end to its right one
    edge, at = np.nonzero((y - _ON_PIXELS <= row) & (row <= y_end + _ON_PIXELS))
    parts = [(x + (np.clip(row + off, y, y_end) - y) * slope)[edge, at] for off in (-_ON_PIXELS, _ON_PIXELS)]
    is_level = (y_end - y <= 0)[edge, 0]
    left, right = (np.where(is_level, side(x, x_end)[edge, 0], side(*parts)) for side in (np.minimum, np.maximum))
    touched = np.zeros((columns + 1, rows), int)
    np.add.at(touched, (_column(np.ceil(left - _ON_PIXELS), columns), at), 1)
    np.add.at(touched, (_column(np.floor(right + _ON_PIXELS) + 1, columns), at), -1)
    return crossings.cumsum(axis=0)[:columns] % 2 > 0, touched.cumsum(axis=0)[:columns] > 0


def _column(places: np.ndarray, columns: int) -> np.ndarray:
    return places.astype(int).clip(0, columns)


def read_contours(dataset: Dataset, renamed: Mapping[str, str]) -> Drawing:
    """The RTSTRUCT ``dataset``, read to its end.

    The myocardium is what lies between the outer border of the left ventricle's wall and the inner one. Where contours of the right and
    the left ventricle cross, the left one counts.

    Args:
        renamed: names of structures by names of ROIs that are none.

    Raises:
        LabelError: it is empty, a contour is not closed, or names are none of structures, or two of one.
    """
    rois = {int(item.ROINumber): item for item in dataset.get("StructureSetROISequence") or ()}
    drawn = {int(item.ReferencedROINumber): _contours_of(item) for item in dataset.get("ROIContourSequence") or ()}
    drawn = {number: contours for number, contours in drawn.items() if contours}
    texts = {number: str(rois.get(number, Dataset()).get("ROIName", "") or "without a name") for number in drawn}
    texts = {number: renamed.get(text, text) for number, text in texts.items()}
    names = {number: border_from_name(text) or text for number, text in texts.items()}
    names = {number: name for number, name in names.items() if structure_from_name(name) != "background"}
    painted = ["RV cavity", "myocardium", "LV cavity", None]  # one over the other
    numbers = sorted(names, key=lambda number: painted.index(structure_from_name(names[number])))
    index = {number: n for n, number in enumerate(numbers, start=1)}
    # now, as one that is painted over, such as of papillary muscles, would not be missed
    structure_numbers("It", {str(n): names[number] for number, n in index.items()}, index.values())
    parts = [part for number, n in index.items() for part in _read_parts(drawn[number], n, texts[number])]
    if not parts:
        raise LabelError("It is empty: there is nothing to learn from it.")
    spaces = dataset.get("ReferencedFrameOfReferenceSequence") or ()
    series = [one for space in spaces for study in space.get("RTReferencedStudySequence") or () for one in _series_of(study)]
    return Drawing(
        uid=str(dataset.get("SOPInstanceUID", "")),
        predecessor=predecessor_of(dataset),
        study=str(dataset.get("StudyInstanceUID", "")),
        series=frozenset(str(one.get("SeriesInstanceUID", "")) for one in series),
        frame_of_reference=str(next((space.get("FrameOfReferenceUID", "") for space in spaces), "")),
        images=frozenset(image for one in series for image in references(one.get("ContourImageSequence") or ())),
        names={index[number]: names[number] for number in numbers},
        parts=parts,
        borders=frozenset(index[number] for number in numbers if border_from_name(texts[number]) == "myocardium"),
        may_overlap=True,
    )


def _contours_of(roi: Dataset) -> list[Dataset]:
    """Without points that mark a place."""
    return [contour for contour in roi.get("ContourSequence") or () if contour.get("ContourGeometricType") != "POINT"]


def _series_of(study: Dataset) -> Iterable[Dataset]:
    return study.get("RTReferencedSeriesSequence") or ()


def _read_parts(drawn: Iterable[Dataset], number: int, name: str) -> Iterator[FilledContours]:
    """The contours ``drawn`` of one ROI, those of one plane together."""
    by_images: dict[tuple[Image, ...], list[np.ndarray]] = defaultdict(list)
    for contour in drawn:
        points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
        if contour.get("ContourGeometricType") not in _CLOSED or not np.isfinite(points).all():
            raise LabelError(f"Its contours of {name!r:.60} are not closed ones in planes: export closed contours.")
        if len(points) > 2:
            images = tuple(references(contour.get("ContourImageSequence") or ()))
            by_images[images].append(points @ LPS_TO_RAS[:3, :3])
    for images, contours in by_images.items():
        for together in _by_plane(contours):
            yield FilledContours(tuple(together), number, images)


def _by_plane(contours: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """``contours``, which lie in parallel planes, those of one plane together."""
    first = max(contours, key=lambda points: float(np.ptp(points, axis=0).max()))
    normal = np.linalg.svd(first - first.mean(axis=0))[2][2]
    together: list[np.ndarray] = []
    last = 0.0
    for distance, _, points in sorted((float(points.mean(axis=0) @ normal), n, points) for n, points in enumerate(contours)):
        if together and distance - last > _OFF_MM:
            yield together
            together = []
        together.append(points)
        last = distance
    yield together
