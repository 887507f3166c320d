"""DICOM SEG as other programs make it, by highdicom: of images of a ``Scan``, in one phase or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import highdicom
import numpy as np
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.pixel_data_handlers.numpy_handler import pack_bits
from pydicom.sr.coding import Code

from prato.dicom.labels.codes import ANATOMICAL_STRUCTURE
from tests.prato.dicom.scans import Scan

#: As a labeller may call the segments, none of them numbered as our values are.
NAMES = {1: "Left Ventricle", 2: "LV myocardium", 3: "rv blood pool"}
#: Our value by the number of such a segment.
VALUES = np.array([0, 3, 2, 1], np.uint8)
TISSUE = Code("85756007", "SCT", "Tissue")


def describe(number: int, label: str, code: Code = TISSUE) -> SegmentDescription:
    return SegmentDescription(number, label, ANATOMICAL_STRUCTURE, code, "MANUAL")


def make_seg(
    scan: Scan,
    numbers: np.ndarray,
    phase: int = 0,
    names: Mapping[int, str | tuple[str, Code]] = NAMES,
    images: Sequence[Dataset] | None = None,
    **options: Any,
) -> Segmentation:
    """A SEG of ``numbers`` of segments, (X, Y, Z), on the images of one phase of ``scan``."""
    source = [scan.image(k, phase) for k in range(scan.slices)] if images is None else images
    for image in source:
        image.PatientSex = image.StudyID = image.ReferringPhysicianName = ""  # highdicom wants them to be there
    frames = np.ascontiguousarray(numbers.transpose(2, 1, 0))
    masks = np.stack([frames == number for number in names], axis=-1).astype(np.uint8)
    described = [describe(n, *((name,) if isinstance(name, str) else name)) for n, name in names.items()]
    about: dict[str, Any] = {"segmentation_type": "BINARY", "pixel_array": masks, **options}
    return Segmentation(
        source_images=source,
        segment_descriptions=described,
        series_instance_uid=highdicom.UID(),
        series_number=100,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="Another",
        manufacturer_model_name="Another",
        software_versions="1",
        device_serial_number="1",
        **about,
    )


def set_frames(seg: Dataset, pixels: np.ndarray, groups: Sequence[Dataset]) -> None:
    """Give ``seg`` the frames ``pixels`` of 0 and 1 (N, rows, columns)."""
    seg.NumberOfFrames = len(groups)
    seg.PerFrameFunctionalGroupsSequence = list(groups)
    bits = pack_bits(pixels.astype(np.uint8).ravel())
    seg.PixelData = bits + bytes(len(bits) % 2)


def join(segs: Sequence[Dataset]) -> Dataset:
    """One object with the frames of all ``segs``, as of several phases."""
    first = segs[0]
    frames = [seg.pixel_array.reshape(-1, seg.Rows, seg.Columns) for seg in segs]
    set_frames(first, np.concatenate(frames), [group for seg in segs for group in seg.PerFrameFunctionalGroupsSequence])
    for seg in segs[1:]:
        first.ReferencedSeriesSequence[0].ReferencedInstanceSequence.extend(seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence)
    return first


def forget_images(seg: Dataset, keep_series: bool = False) -> Dataset:
    """``seg`` without references to single images."""
    for group in seg.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence
    if "SourceImageSequence" in seg:
        del seg.SourceImageSequence
    if keep_series:
        del seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    else:
        del seg.ReferencedSeriesSequence
    return seg


def to_label_map(seg: Dataset, numbers: np.ndarray, scan: Scan, phase: int, bits: int) -> Dataset:
    """``seg`` of that phase, which has frames of all slices, as a label map of ``numbers`` (X, Y, Z): a frame for each slice."""
    seg.SOPClassUID = seg.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"
    seg.SegmentationType = "LABELMAP"
    seg.BitsAllocated = seg.BitsStored = bits
    seg.HighBit = bits - 1
    groups = {}
    for group in seg.PerFrameFunctionalGroupsSequence:
        groups[group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID] = group
    for group in groups.values():
        del group.SegmentIdentificationSequence
    seg.PerFrameFunctionalGroupsSequence = [groups[scan.image(k, phase).SOPInstanceUID] for k in range(scan.slices)]
    seg.NumberOfFrames = scan.slices
    data = np.ascontiguousarray(numbers.transpose(2, 1, 0)).astype(f"<u{bits // 8}").tobytes()
    seg.PixelData = data + bytes(len(data) % 2)
    seg["PixelData"].VR = "OB" if bits == 8 else "OW"
    return seg
