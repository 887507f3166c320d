"""Who was examined, and in which examination: read from the source at export, as nothing of it is kept between import and export."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta, timezone

import pydicom
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM, validate_value

from prato.dicom.origin.references import CineReference
from prato.dicom.reading.files import SourceFile
from prato.dicom.reading.headers import read_header

logger = logging.getLogger(__name__)
#: What of the modules Patient, General Study and Patient Study is taken over. The first ones have to be there, be they empty (type 2).
_REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_OPTIONAL = (
    "IssuerOfPatientID",
    "OtherPatientIDs",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyDescription",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "TimezoneOffsetFromUTC",
)
#: Of the images, for what refers to them.
_OF_IMAGES = (
    "SeriesNumber",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "PositionReferenceIndicator",
)
#: Room is left for what is added to it in objects that are made.
_MAX_SERIES_NUMBER = 2**31 - 100_000
_SEXES = ("M", "F", "O")
#: Hours and minutes east of Greenwich, of which all dates and times of an object are (PS3.3, C.12.1.1.8).
_OFFSET = re.compile(r"([+-])(0\d|1[0-4])([0-5]\d)")


@dataclass(frozen=True)
class Examination:
    """Attributes of patient and study, all valid; those of the source that were not are empty, and named in ``blanked``.

    Height and weight are what the scanner was told, None where that is nothing: whoever computes with them says whose they cannot be.
    """

    attributes: Dataset
    series_number: int
    blanked: tuple[str, ...]

    @property
    def height_cm(self) -> float | None:
        size = self.attributes.get("PatientSize")  # m
        return 100 * float(size) if size else None

    @property
    def weight_kg(self) -> float | None:
        weight = self.attributes.get("PatientWeight")
        return float(weight) if weight else None

    @property
    def timezone(self) -> timezone | None:
        """In which its dates and times are; None where the source does not say, as most do not: that of the place."""
        match = _OFFSET.fullmatch(str(self.attributes.get("TimezoneOffsetFromUTC", "")))
        return match and timezone(int(f"{match[1]}1") * timedelta(hours=int(match[2]), minutes=int(match[3])))


def examination_from(header: Dataset) -> Examination:
    """The examination that the ``header`` of any image of the cine describes; text becomes Unicode."""
    attributes = Dataset()
    attributes.SpecificCharacterSet = "ISO_IR 192"
    blanked = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in (*_REQUIRED, *_OPTIONAL, *_OF_IMAGES):
            try:
                value = _take(header, name)
                if value is not None:
                    setattr(attributes, name, value)
            except (ValueError, TypeError, OverflowError, NotImplementedError):
                blanked.append(name)
                value = None
            if value is None and name in _REQUIRED:
                setattr(attributes, name, "")
    number = attributes.get("SeriesNumber")
    series_number = 1 if number is None else min(max(1, int(number)), _MAX_SERIES_NUMBER)
    return Examination(attributes, series_number, tuple(blanked))


def _take(header: Dataset, name: str) -> object:
    """The value of ``name``; None where there is none.

    Raises:
        ValueError, TypeError, OverflowError, NotImplementedError: it breaks DICOM's rules, by whichever kind of value the file says it is.
    """
    if name not in header:
        return None
    element = header[name]
    value = _plain(element)
    if value in (None, "", []):
        return None
    kinds = {element.VR, dictionary_VR(name)}
    if not all(_is_valid(name, kind, value) for kind in kinds):
        raise ValueError(name)
    return value


def _plain(element: DataElement) -> object:
    """Names as text, so that they are written in our character set."""
    value = element.value
    if element.VR == "PN":
        return str(value or "")
    return [str(one) for one in value] if isinstance(value, pydicom.multival.MultiValue) else value


def _is_valid(name: str, vr: str, value: object) -> bool:
    try:
        for one in map(str, value if isinstance(value, list) else [value]):
            if vr in ("DS", "IS"):
                float(one)
            else:
                validate_value(vr, one, RAISE)
            if vr in ("DA", "TM"):
                (DA if vr == "DA" else TM)(one)
    except (ValueError, TypeError, OverflowError):
        return False
    if name == "TimezoneOffsetFromUTC":
        return _OFFSET.fullmatch(str(value)) is not None
    return name != "PatientSex" or value in _SEXES


def find_examinations(files: Iterable[SourceFile], cines: Iterable[CineReference]) -> dict[str, Examination]:
    """By cine (its ``study``): what the first image of it among ``files`` says; cines of which there is no image are left out."""
    wanted: dict[str, set[str]] = {}  # the same images may have been imported under several names
    for cine in cines:
        for uid in cine.instance_uids():
            wanted.setdefault(uid, set()).add(cine.study)
    left = set().union(*wanted.values())
    found: dict[str, Examination] = {}
    for file in files:
        if not left:
            break
        try:
            header = read_header(file)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # UIDs that break a rule: the export says so, once
                own = set() if header is None else wanted.get(str(header.get("SOPInstanceUID", "")), set()) & left
            if header is not None and own:
                found |= dict.fromkeys(own, examination_from(header))
                left -= own
        except Exception as error:  # whatever a damaged file leads pydicom to; the images that are whole say the same
            logger.debug("%s cannot be read: %s", file.name, error)
    return found
