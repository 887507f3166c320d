"""What a DICOM object says was drawn on images, put on the grid of the cine that these images are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from prato.data.labels.names import LabelError, MisplacedLabelError
from prato.data.nifti import Volume
from prato.data.orientation import LPS_TO_RAS
from prato.data.structures import structure_from_name
from prato.dicom.origin.references import CineReference

#: SOP instance UID, and of a multi-frame object the frame, from 1; None where nobody says which.
Image = tuple[str, int | None]


class DrawnPart(Protocol):
    """What was drawn in one plane."""

    @property
    def images(self) -> Sequence[Image]:
        """Those that it says it was drawn on; none where it does not say."""

    def numbers_on(self, plane: Volume) -> np.ndarray:
        """Segment numbers (columns, rows) on the ``plane`` of a slice, 0 for none.

        Raises:
            MisplacedLabelError: it does not lie there.
        """


@dataclass(frozen=True)
class Drawing:
    """What one DICOM object holds.

    Attributes:
        uid: its SOP instance UID. predecessor: that of the object which it takes the place of.
        study: UID of the examination. series: UIDs of the series that it refers to. frame_of_reference: its UID.
        images: that the object as a whole refers to.
        names: number -> name of the segments, as ``prato.data.labels.names.structure_numbers`` takes them.
        parts: those in which anything is drawn. may_overlap: whether the later of two parts counts where both are, as of contours.
        borders: segments that are all that lies within the outer border of the wall, of which the cavity is taken away.
        is_automatic: whether a program made it, and nobody is said to have corrected it.
    """

    uid: str
    predecessor: str | None
    study: str
    series: frozenset[str]
    frame_of_reference: str
    images: frozenset[Image]
    names: Mapping[int, str]
    parts: Sequence[DrawnPart]
    may_overlap: bool = False
    borders: frozenset[int] = frozenset()
    is_automatic: bool = False

    def lacks_cavity(self, numbers: np.ndarray) -> bool:
        """Whether ``numbers`` of one phase have the outer border of the wall and not the inner one, without which it is no myocardium."""
        cavities = [n for n, name in self.names.items() if structure_from_name(name) == "LV cavity"]
        return bool(np.isin(numbers, list(self.borders)).any() and not np.isin(numbers, cavities).any())

    def all_images(self) -> set[str]:
        """SOP instance UIDs of all images that it refers to."""
        return {uid for uid, _ in self.images} | {uid for part in self.parts for uid, _ in part.images}


def references(items: Iterable[Dataset]) -> Iterator[Image]:
    """The images that a sequence of references names."""
    for item in items:
        uid, frames = str(item.get("ReferencedSOPInstanceUID", "") or "").strip(), item.get("ReferencedFrameNumber")
        if uid:
            for frame in frames if isinstance(frames, list | MultiValue) else [frames]:
                yield uid, None if frame is None else int(frame)


def plane_of(shape: tuple[int, int], spacing: Sequence[float], orientation: Sequence[float], position: Sequence[float]) -> Volume:
    """A plane of pixels of ``shape`` (columns, rows) as a volume of one slice, all 0, from what DICOM says of it (LPS mm)."""
    along_row, along_column = np.reshape(orientation, (2, 3)).astype(float)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = along_row * spacing[1], along_column * spacing[0]
    affine[:3, 2] = np.cross(along_row, along_column) * max(spacing)
    affine[:3, 3] = position
    return Volume(np.broadcast_to(np.uint8(0), (*shape, 1)), LPS_TO_RAS @ affine)


def place(drawing: Drawing, cine: CineReference, named_phase: int | None) -> Iterator[tuple[int, np.ndarray]]:
    """Each phase of ``cine`` that anything is drawn in, in order, and the numbers of the segments on its grid, uint16 (X, Y, Z).

    Args:
        named_phase: what the file's name says, for an object that refers to several phases at once, or to none.

    Raises:
        LabelError: it does not lie on the images that it refers to; it leaves open which phase was drawn on; or two segments overlap.
    """
    images = _Images(cine)
    anywhere = images.find(drawing.images) or images.all()
    parts: dict[int, list[tuple[int, DrawnPart]]] = defaultdict(list)
    for part in drawing.parts:
        among = images.find(part.images) if part.images else anywhere
        if not among:
            raise LabelError(f"It was drawn on images of {cine.study} and on others, that are not of this cine: save them apart.")
        k, t = _settle(part, images, among, named_phase)
        parts[t].append((k, part))
    for t in sorted(parts):
        mask = np.zeros((cine.dicom.columns, cine.dicom.rows, cine.slices), np.uint16)
        for k, part in parts[t]:
            _paint(mask[:, :, k], part.numbers_on(images.planes[k]), drawing)
        yield t, mask


class _Images:
    """The images of a cine: by slice k and phase t, and where the slices lie."""

    def __init__(self, cine: CineReference) -> None:
        origin = cine.dicom
        self.study = cine.study
        self._size = cine.slices, cine.phases
        self._of_uid: dict[str, list[tuple[int | None, int, int]]] = defaultdict(list)
        for t in range(cine.phases):
            for k, (_, uid, number) in enumerate(cine.images_of_phase(t)):
                if uid:
                    self._of_uid[uid].append((number, k, t))
        shape = origin.columns, origin.rows
        self.planes = [
            plane_of(shape, origin.pixel_spacing_mm, origin.image_orientation_patient, position)
            for position in origin.image_position_patient
        ]

    def find(self, images: Iterable[Image]) -> set[tuple[int, int]]:
        """(k, t) of those of ``images`` that are of the cine. Some programs number the frames of objects that have only one."""
        return {
            (k, t)
            for uid, frame in images
            for number, k, t in self._of_uid.get(uid, ())
            if frame is None or number is None or frame == number
        }

    def all(self) -> set[tuple[int, int]]:
        return {(k, t) for k in range(self._size[0]) for t in range(self._size[1])}


def _settle(part: DrawnPart, images: _Images, among: set[tuple[int, int]], named_phase: int | None) -> tuple[int, int]:
    """Slice and phase of ``part``, which is of one of the images ``among``."""
    found = sorted({k for k, _ in among})
    if len(found) > 1:
        found = _lies_on(part, images, found)
    if len(found) > 1:
        raise LabelError("It says neither which images its frames were drawn on nor where they lie: export it with references to them.")
    phases = sorted(t for k, t in among if k == found[0])
    if len(phases) > 1 and named_phase in phases:
        phases = [named_phase]
    if len(phases) > 1:
        called = f"{images.study}_frame{phases[0] + 1:02d}.dcm"
        raise LabelError(
            f"It leaves open on which of {len(phases)} phases it was drawn: its name is to say which, as in {called} for the first of them."
        )
    return found[0], phases[0]


def _lies_on(part: DrawnPart, images: _Images, slices: Iterable[int]) -> list[int]:
    """Those of ``slices`` that ``part`` lies on."""
    found, faults = [], []
    for k in slices:
        try:
            part.numbers_on(images.planes[k])
            found.append(k)
        except MisplacedLabelError as error:
            faults.append(error)
    if not found and len(set(map(str, faults))) == 1:
        raise faults[0]
    if not found:
        raise MisplacedLabelError(f"It does not lie on the slices of {images.study}: export it on the images' own grid, untransformed.")
    return found


def _paint(onto: np.ndarray, numbers: np.ndarray, drawing: Drawing) -> None:
    """Put ``numbers`` (columns, rows) on a slice.

    Raises:
        LabelError: another segment is there.
    """
    drawn = numbers != 0
    there = onto[drawn]
    clash = (there != 0) & (there != numbers[drawn])
    if clash.any() and not drawing.may_overlap:
        one, other = (drawing.names[int(values[clash][0])] for values in (there, numbers[drawn]))
        raise LabelError(f"Its segments {one!r:.60} and {other!r:.60} overlap: give each voxel to one of them.")
    onto[drawn] = numbers[drawn]
