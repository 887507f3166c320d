"""What a viewer sends to be stored (STOW-RS): a segmentation of a series that stands for a phase is a label, and no matter of the PACS."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from email.message import Message

import pydicom

from prato.data.labels.names import LabelError
from prato.dicom.labels.segmentation_reader import SEGMENTATION_CLASSES
from prato.dicom.reading.headers import without_warnings
from prato.pacs.catalog import RemoteCine
from prato.pacs.phase_series import PhaseSeries, find_phase_series


@dataclass(frozen=True)
class SentSegmentation:
    """A DICOM SEG, the file ``content``, that refers to the series of ``phase``; ``annotator``: who has made it, "" for nobody."""

    content: bytes
    sop_class: str
    uid: str
    phase: PhaseSeries
    annotator: str


def find_segmentation(content_type: str, body: bytes, cines_of: Callable[[str], Iterable[RemoteCine]]) -> SentSegmentation | None:
    """The segmentation of a phase that a request consists of; None where it holds none.

    Args:
        cines_of: by the UID of an examination, its cines.

    Raises:
        LabelError: it holds other objects, too: some of them could be stored, and others not.
    """
    objects = list(_parts(content_type, body))
    found = [sent for sent in (_read(content, cines_of) for content in objects) if sent is not None]
    if found and len(objects) > 1:
        raise LabelError(f"It is one of {len(objects)} objects: send each segmentation by itself.")
    return found[0] if found else None


def _parts(content_type: str, body: bytes) -> Iterator[bytes]:
    """The contents of multipart/related (RFC 2046); none where it is anything else."""
    head = Message()
    head["Content-Type"] = content_type
    boundary = head.get_boundary()
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:-1] if boundary else ():
        yield part.partition(b"\r\n\r\n")[2]


def _read(content: bytes, cines_of: Callable[[str], Iterable[RemoteCine]]) -> SentSegmentation | None:
    try:
        with without_warnings():
            header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
            kind = str(header.get("SOPClassUID", ""))
            if kind not in SEGMENTATION_CLASSES:
                return None
            series = [str(item.SeriesInstanceUID) for item in header.get("ReferencedSeriesSequence") or ()]
            cines = list(cines_of(str(header.get("StudyInstanceUID", ""))))
            creator = str(header.get("ContentCreatorName", "") or "").split("=")[0].replace("^", " ").strip()
    except Exception:  # pydicom raises whatever a damaged file leads it to; what becomes of that, the PACS decides
        return None
    phase = next(filter(None, (find_phase_series(cines, uid) for uid in series)), None)
    return None if phase is None else SentSegmentation(content, kind, str(header.get("SOPInstanceUID", "")), phase, creator)
