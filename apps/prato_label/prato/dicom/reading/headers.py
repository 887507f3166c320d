"""What the importer needs of a DICOM header, one record per image; a multi-frame object gives one per frame."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial

from prato.data.nifti_head import MAX_VOXEL_BYTES
from prato.dicom.reading.files import DicomError, SourceFile, check_inflated, printable
from prato.dicom.reading.times import count_frame, delays_of, number_of, numbers_of, phase_index, read_moment

#: Most headers are this long at most; one that is longer is read to its end.
_HEAD_BYTES = 2**16
_LAST_TAG = 0x0028FFFF  # what classic objects say of the image lies before
_MR = "1.2.840.10008.5.1.4.1.1.4"
_ENHANCED = (f"{_MR}.1", f"{_MR}.4")  # Enhanced MR, and Legacy Converted Enhanced MR
_DIRECTORY = "1.2.840.10008.1.3.10"
#: JPEG baseline and extended, and JPEG-LS near-lossless: lossy, whether or not the header says so.
_LOSSY = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 81)}
_PHASE = {"P", "PHASE", "PHASE MAP", "PHASE_MAP", "VELOCITY", "VELOCITY MAP", "V"}
_PARTS = {"R", "REAL", "I", "IMAGINARY"}


@dataclass(frozen=True)
class Frame:
    """One image: where its pixels are, which series it is of, where it lies (LPS mm, as in DICOM), and when in the heartbeat.

    Attributes:
        number: its index in the file, from 0. technique: what, besides the description, may name what is shown.
        kind: "magnitude", "phase" or "part" (real or imaginary).
        spacing: between rows, and between columns, mm. orientation: along a row, and along a column. position: of the first pixel.
        delays_ms: since the R wave, in each of the ways in which headers say so. phase_indices: likewise, which phase it is.
        trigger_ms, temporal_index: the first of each, or of a whole series the first that tells phases apart.
        rr_ms: from one R wave to the next. acquired_s: seconds, see ``read_moment``. rescale: slope and intercept.
        All of these, and what else may be None, are None where the file does not say.
    """

    file: SourceFile
    number: int
    patient: tuple[str, ...]
    study: str
    series: str
    series_number: int | None
    description: str
    technique: tuple[str, ...]
    sop_class: str
    sop_instance: str
    frame_of_reference: str
    kind: str
    rows: int
    columns: int
    spacing: tuple[float, float]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    thickness: float | None
    delays_ms: tuple[float | None, ...]
    phase_indices: tuple[int | None, ...]
    trigger_ms: float | None
    temporal_index: int | None
    instance_number: int | None
    acquisition_number: int | None
    rr_ms: float | None
    acquired_s: float | None
    echo_ms: float | None
    inversion_ms: float | None
    rescale: tuple[float, float]
    is_lossy: bool

    @property
    def label(self) -> str:
        """What messages call its series."""
        name = f"series {self.series_number}" if self.series_number is not None else f"series …{self.series[-8:]}"
        return f"{name} ({self.description})" if self.description else name


def read_frames(file: SourceFile) -> list[Frame]:
    """The images of ``file``; empty for what is no DICOM at all, and for a DICOMDIR.

    Raises:
        DicomError: DICOM that is missing, cut short, damaged, or no MR image, named by what it is.
    """
    try:
        dataset = read_header(file)
        if dataset is None or str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY:
            return []
        with without_warnings():
            return frames_of(dataset, file)
    except DicomError:
        raise
    except OSError as error:
        raise DicomError("not there" if isinstance(error, FileNotFoundError) else "cannot be read") from error
    except Exception as error:  # pydicom raises whatever a damaged file leads it to
        raise DicomError("cut short or damaged") from error


@contextmanager
def without_warnings() -> Iterator[None]:
    """Values that break a rule are common (UIDs with leading zeros), and no matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_header(file: SourceFile) -> Dataset | None:
    """What ``file`` says before its pixels; None if it is not DICOM. Raises whatever a damaged file leads pydicom to."""
    with file.open() as stream, without_warnings():
        head = stream.read(_HEAD_BYTES)
        if head[128:132] != b"DICM" and head[:2] not in (b"\x08\x00", b"\x02\x00"):  # old files have no preamble
            return None
        check_inflated(stream, head, MAX_VOXEL_BYTES)
        reached: list[bool] = []

        def stop(tag: Any, vr: str | None, length: int) -> bool:
            if tag > _LAST_TAG:
                reached.append(True)
            return bool(reached)

        try:
            dataset = read_partial(io.BytesIO(head), stop_when=stop, force=True)
        except Exception:
            if len(head) < _HEAD_BYTES:
                raise
            reached.clear()
        enhanced = bool(reached) and str(dataset.get("SOPClassUID", "")) in _ENHANCED
        if (reached or len(head) < _HEAD_BYTES) and not enhanced:
            return dataset
        stream.seek(0)
        return pydicom.dcmread(stream, stop_before_pixels=True, force=True)


def frames_of(ds: Dataset, file: SourceFile) -> list[Frame]:
    """The images of ``file``, whose header is ``ds``.

    Raises:
        DicomError: as ``read_frames``.
    """
    sop_class = str(ds.get("SOPClassUID", "") or ds.file_meta.get("MediaStorageSOPClassUID", ""))
    modality = str(ds.get("Modality", "") or "")
    if modality != "MR" and not sop_class.startswith(_MR):
        raise DicomError(f"not an MR image, but {_name_of(sop_class, modality)}")
    if not ds.get("Rows") or not ds.get("Columns"):
        raise DicomError("not an image, or its header is cut short")
    if int(ds.get("SamplesPerPixel", 1) or 1) != 1:
        raise DicomError("a colour picture")
    count = int(ds.get("NumberOfFrames", 1) or 1)
    if sop_class in _ENHANCED or (count > 1 and ds.get("PerFrameFunctionalGroupsSequence")):
        groups = ds.PerFrameFunctionalGroupsSequence
        shared = ds.SharedFunctionalGroupsSequence[0] if ds.get("SharedFunctionalGroupsSequence") else Dataset()
        if len(groups) != count:
            raise DicomError(f"{len(groups)} descriptions of {count} frames: damaged")
        return [_frame([_flat(group), _flat(shared), ds], file, n, sop_class) for n, group in enumerate(groups)]
    if count > 1:
        raise DicomError("several frames in one image, without their positions")
    return [_frame([ds], file, 0, sop_class)]


def _flat(group: Dataset) -> Dataset:
    """The one item of each functional group, all in one; private groups, which may hold a whole header of another object, are not read."""
    flat = Dataset()
    for element in group:
        if element.VR == "SQ" and not element.tag.is_private and len(element.value) == 1:
            flat.update(element.value[0])
    return flat


def _frame(levels: Sequence[Dataset], file: SourceFile, number: int, sop_class: str) -> Frame:
    """One record from what the frame says, then what all frames share, then the object."""

    def text(name: str) -> str:
        value = next((level.get(name) for level in levels if level.get(name) not in (None, "")), "")
        return str(value).strip()

    def numbers(name: str, count: int) -> tuple[float, ...] | None:
        return next((found for level in levels if (found := numbers_of(level, name, count)) is not None), None)

    def one(*names: str) -> float | None:
        values = (value for level in levels for name in names if (value := number_of(level, name)) is not None)
        return next(values, None)

    def whole(*names: str) -> int | None:
        value = one(*names)
        return None if value is None else int(value)

    def scale(name: str, absent: float) -> float:
        found = one(name)
        return found if found is not None else math.nan if text(name) else absent

    orientation, position, spacing = numbers("ImageOrientationPatient", 6), numbers("ImagePositionPatient", 3), numbers("PixelSpacing", 2)
    if orientation is None or position is None:
        raise DicomError("an image that does not say where it lies")
    if spacing is None or min(spacing) <= 0:
        raise DicomError("an image that does not say how large its pixels are (PixelSpacing)")
    types = {str(part).upper() for level in levels for name in ("ImageType", "FrameType") for part in _many(level.get(name))}
    types |= {text("ComplexImageComponent").upper()}
    moment = text("FrameAcquisitionDateTime")
    rate = one("HeartRate")
    rr = one("RRIntervalTimeNominal", "NominalInterval") or (60000 / rate if rate else None)
    delays, indices = delays_of(levels), (whole("TemporalPositionIdentifier", "TemporalPositionIndex"), phase_index(levels))
    return Frame(
        file=file,
        number=number,
        patient=tuple(text(name) for name in ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")),
        study=text("StudyInstanceUID"),
        series=text("SeriesInstanceUID"),
        series_number=whole("SeriesNumber"),
        description=printable(text("SeriesDescription"))[:60],
        technique=tuple(printable(name)[:60] for name in (text("ProtocolName"), text("SequenceName"), *sorted(types))),
        sop_class=sop_class,
        sop_instance=text("SOPInstanceUID"),
        frame_of_reference=text("FrameOfReferenceUID"),
        kind="phase" if types & _PHASE else "part" if types & _PARTS else "magnitude",
        rows=int(levels[-1].Rows),
        columns=int(levels[-1].Columns),
        spacing=(spacing[0], spacing[1]),
        orientation=orientation,
        position=position,
        thickness=one("SliceThickness"),
        delays_ms=delays,
        phase_indices=indices,
        trigger_ms=next((delay for delay in delays if delay is not None), None),
        temporal_index=next((index for index in indices if index is not None), None),
        instance_number=whole("InstanceNumber") if len(levels) == 1 else count_frame(levels[-1], number),
        acquisition_number=whole("AcquisitionNumber"),
        rr_ms=rr if rr and rr > 0 else None,
        acquired_s=read_moment(moment[:8] or text("AcquisitionDate"), moment[8:] or text("AcquisitionTime")),
        echo_ms=one("EchoTime", "EffectiveEchoTime"),
        inversion_ms=one("InversionTime"),
        rescale=(scale("RescaleSlope", 1.0), scale("RescaleIntercept", 0.0)),
        is_lossy=text("LossyImageCompression") == "01" or _syntax(levels[-1]) in _LOSSY,
    )


def _syntax(ds: Dataset) -> str:
    return str(getattr(ds, "file_meta", Dataset()).get("TransferSyntaxUID", ""))


def _many(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | pydicom.multival.MultiValue) else () if value is None else (value,)


def _name_of(sop_class: str, modality: str) -> str:
    name = pydicom.uid.UID(sop_class).name if sop_class else ""
    return f"{name or 'something'} of modality {modality or 'unknown'}"
