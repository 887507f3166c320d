"""DICOM SEG read: which pixels are of which segment, and on which images they were drawn, whatever program has made the object."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, AllTransferSyntaxes

from prato.data.labels.check import match_grid
from prato.data.labels.names import LabelError, MisplacedLabelError
from prato.data.nifti import Volume
from prato.data.structures import structure_from_name
from prato.dicom.labels.codes import STRUCTURE_CODES
from prato.dicom.labels.drawings import Drawing, Image, plane_of, references
from prato.dicom.labels.segmentation import predecessor_of
from prato.dicom.reading.files import DicomError
from prato.dicom.reading.pixels import check_size
from prato.dicom.reading.times import numbers_of

_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
SEGMENTATION_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", _LABEL_MAP)


@dataclass(frozen=True)
class SegmentFrame:
    """One frame: ``packed`` has the numbers of segments of ``shape`` (rows, columns). ``plane``: where it lies, if it says so."""

    packed: bytes
    shape: tuple[int, int]
    images: tuple[Image, ...]
    plane: Volume | None

    def numbers_on(self, plane: Volume) -> np.ndarray:
        numbers = np.frombuffer(zlib.decompress(self.packed), np.uint16).reshape(self.shape).T
        theirs, ours = ("x".join(map(str, shape)) for shape in (numbers.shape, plane.array.shape[:2]))
        if sorted(numbers.shape) != sorted(plane.array.shape[:2]) or (self.plane is None and theirs != ours):
            raise MisplacedLabelError(f"It has frames of {theirs} pixels and its images {ours}: export it on the images' own grid.")
        return numbers if self.plane is None else match_grid("It", replace(self.plane, array=numbers[..., None]), plane)[..., 0]


def read_segmentation(dataset: Dataset, renamed: Mapping[str, str]) -> Drawing:
    """The DICOM SEG ``dataset``, read to its end.

    Args:
        renamed: names of structures by names of segments that are none.

    Raises:
        LabelError: it is empty, holds fractions, describes other frames or segments than it has, or its pixels cannot be decoded.
    """
    items = dataset.get("SegmentSequence") or ()
    if any(item.get("SegmentNumber") is None for item in items):
        raise LabelError("It has a segment without a number: export it again.")
    segments = {int(item.SegmentNumber): item for item in items}
    names = {n: _name_segment(item, renamed) for n, item in enumerate(segments.values(), start=1)}
    # not by the object's own numbers: those of a label map may begin with 0
    numbers = {number: n if structure_from_name(names[n]) != "background" else 0 for n, number in enumerate(segments, start=1)}
    parts = list(_read_frames(dataset, numbers))
    if not parts:
        raise LabelError("It is empty: there is nothing to learn from it.")
    return Drawing(
        uid=str(dataset.get("SOPInstanceUID", "")),
        predecessor=predecessor_of(dataset),
        study=str(dataset.get("StudyInstanceUID", "")),
        series=frozenset(str(series.get("SeriesInstanceUID", "")) for series in dataset.get("ReferencedSeriesSequence") or ()),
        frame_of_reference=str(dataset.get("FrameOfReferenceUID", "")),
        images=frozenset(_images_of_object(dataset)),
        names=names,
        parts=parts,
        is_automatic=all(item.get("SegmentAlgorithmType") == "AUTOMATIC" for item in segments.values()),
    )


def _name_segment(segment: Dataset, renamed: Mapping[str, str]) -> str:
    """What the segment is called, by the first that names a structure: its label, its description, or its code; ``renamed`` before all."""
    texts = [str(segment.get(name, "") or "") for name in ("SegmentLabel", "SegmentDescription")]
    for item in segment.get("SegmentedPropertyTypeCodeSequence") or ():
        code = Code(*(str(item.get(name, "") or "") for name in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")))
        texts += [name for name, own in STRUCTURE_CODES.items() if own == code]  # also by its older code, of SNOMED RT
        texts.append(code.meaning)
    texts = [renamed[text] for text in texts if text in renamed] + texts
    return next((text for text in texts if structure_from_name(text)), next(filter(None, texts), "without a name"))


def _read_frames(dataset: Dataset, numbers: Mapping[int, int]) -> Iterator[SegmentFrame]:
    """The frames in which anything is drawn; ``numbers``: by the number of a segment in the object, the one that it has here, 0 for the
    background."""
    groups, count = dataset.get("PerFrameFunctionalGroupsSequence") or (), int(dataset.get("NumberOfFrames", 1) or 1)
    if len(groups) != count:
        raise LabelError(f"It has {count} frames and describes {len(groups)}: some are missing, export it again.")
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    is_label_map, padding = _is_label_map(dataset), int(dataset.get("PixelPaddingValue", 0) or 0)
    drawn: set[int] = set()
    for group, pixels in zip(groups, _pixels_of_frames(dataset, count)):
        values = set(np.flatnonzero(np.bincount(pixels.ravel())).tolist()) - {0}
        drawn |= values
        # whatever the largest fraction is said to be: dcmjs, which compresses only fractions, writes 1 of 255 for all that was drawn
        if len(drawn) > 1 and dataset.get("SegmentationType") == "FRACTIONAL":
            raise LabelError("It holds fractions, as a probability map does: save it as a binary segmentation, or as a label map.")
        segment = None if is_label_map else _segment_of(group, shared)
        if values and segment is None and not is_label_map:
            raise LabelError("It does not say of which segment its frames are: export it again.")
        segments = {value: value for value in values - {padding}} if segment is None else dict.fromkeys(values, segment)
        if unknown := {*segments.values()} - numbers.keys():
            what = f"{'pixels' if is_label_map else 'frames'} of segment {unknown.pop()}"
            raise LabelError(f"It has {what}, which it does not describe: export it again.")
        table = np.zeros(int(pixels.max()) + 1, np.uint16)
        for value, number in segments.items():
            table[value] = numbers[number]
        if table.any():
            packed = zlib.compress(table[pixels].tobytes(), 1)
            yield SegmentFrame(
                packed, (pixels.shape[0], pixels.shape[1]), tuple(_images_of(group, shared)), _read_plane(group, shared, pixels)
            )


def _segment_of(group: Dataset, shared: Dataset) -> int | None:
    number = _macro(group, shared, "SegmentIdentificationSequence").get("ReferencedSegmentNumber")
    return None if number is None else int(number)


def _is_label_map(dataset: Dataset) -> bool:
    return dataset.get("SegmentationType") == "LABELMAP" or dataset.get("SOPClassUID") == _LABEL_MAP


def _pixels_of_frames(dataset: Dataset, count: int) -> Iterator[np.ndarray]:
    """(rows, columns) of each frame: 0 and 1, or of a label map numbers of segments."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    try:
        # which counts two bytes a pixel; a cine that is accepted may have three structures on each of its images
        check_size(count * rows * columns // (2 if int(dataset.BitsAllocated) <= 8 else 1), "It")
        if dataset.BitsAllocated == 1 and dataset.is_little_endian and not UID(dataset.file_meta.TransferSyntaxUID).is_compressed:
            frames = _unpack(dataset.PixelData, count, rows * columns)
        else:
            frames = iter(dataset.pixel_array.reshape(count, -1))
    except DicomError as error:
        raise LabelError(f"{error}.") from error
    except Exception as error:  # pydicom and its decoders raise whatever a damaged object leads them to
        syntax = UID(dataset.file_meta.get("TransferSyntaxUID", ""))
        how = f", or compressed as {syntax.name}" if syntax in AllTransferSyntaxes and syntax.is_compressed else ""
        raise LabelError(f"Its pixels cannot be read (frames are missing or damaged{how}): export it again.") from error
    for frame in frames:
        yield frame.reshape(rows, columns)


def _unpack(bits: bytes, count: int, size: int) -> Iterator[np.ndarray]:
    """Frames of ``size`` bits, one at a time, as those of a whole cine are a gigabyte; they follow each other within bytes.

    Raises:
        ValueError: some are missing.
    """
    data = np.frombuffer(bits, np.uint8)
    if len(data) < math.ceil(count * size / 8):
        raise ValueError(f"{len(data)} bytes for {count} frames of {size} bits")
    starts = (divmod(n * size, 8) for n in range(count))
    return (np.unpackbits(data[byte : byte + size // 8 + 2], bitorder="little")[bit : bit + size] for byte, bit in starts)


def _macro(group: Dataset, shared: Dataset, name: str) -> Dataset:
    """What a frame, or all frames together, say under that name; nothing where they do not."""
    return next((level.get(name)[0] for level in (group, shared) if level.get(name)), Dataset())


def _images_of(group: Dataset, shared: Dataset) -> Iterator[Image]:
    for derivation in group.get("DerivationImageSequence") or shared.get("DerivationImageSequence") or ():
        yield from references(derivation.get("SourceImageSequence") or ())


def _images_of_object(dataset: Dataset) -> Iterator[Image]:
    yield from references(dataset.get("SourceImageSequence") or ())
    for series in dataset.get("ReferencedSeriesSequence") or ():
        yield from references(series.get("ReferencedInstanceSequence") or ())


def _read_plane(group: Dataset, shared: Dataset, pixels: np.ndarray) -> Volume | None:
    position = numbers_of(_macro(group, shared, "PlanePositionSequence"), "ImagePositionPatient", 3)
    orientation = numbers_of(_macro(group, shared, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    spacing = numbers_of(_macro(group, shared, "PixelMeasuresSequence"), "PixelSpacing", 2)
    if (
        position is None
        or orientation is None
        or spacing is None
        or min(spacing) <= 0
        or not np.any(np.cross(*np.reshape(orientation, (2, 3))))
    ):
        return None
    rows, columns = pixels.shape
    return plane_of((columns, rows), spacing, orientation, position)
