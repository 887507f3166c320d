"""A phase of a label as DICOM SEG, which refers to the images that it was drawn on and stands where they stand."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code
from pydicom.uid import MRImageStorage

from prato.data.structures import COLOURS, STRUCTURES
from prato.dicom.labels.codes import ANATOMICAL_STRUCTURE, ARTIFICIAL_INTELLIGENCE, REPLACED, STRUCTURE_CODES
from prato.dicom.origin.patient import Examination
from prato.dicom.origin.references import CineReference, uid_from_content

MAKER, PRODUCT = "PrATo Label", "PrATo Label"
#: Changes whenever the same label would give another object: its UID has to be another one then.
_SCHEMA = "prato-label/seg/1"


@dataclass(frozen=True)
class LabelledPhase:
    """What is exported of one phase.

    Attributes:
        phase: its number, from 0. mask: uint8 (X, Y, Z), values of ``prato.data.structures``, on the cine's grid.
        version: of the label, in which the phase was drawn. created: when that was stored. annotator: who drew it.
        model: that proposed it, and its version; None for a drawing.
    """

    phase: int
    mask: np.ndarray
    version: int
    created: datetime
    annotator: str
    model: tuple[str, str] | None = None


def segmentation_uid(cine: CineReference, label: LabelledPhase, predecessor: str | None) -> str:
    """The SOP instance UID of ``label``: the same for the same voxels, drawn on the same images, in place of the same ``predecessor``."""
    mask = np.ascontiguousarray(label.mask, dtype=np.uint8)
    images = [f"{uid}#{number}" for _, uid, number in cine.images_of_phase(label.phase)]
    return uid_from_content(_SCHEMA, mask.shape, mask.tobytes(), *images, predecessor or "")


def build_segmentation(cine: CineReference, label: LabelledPhase, who: Examination, predecessor: str | None) -> Dataset:
    """A DICOM SEG (binary) of ``label``. Segments are numbered as the values of masks; those of which nothing is there have no frames.

    Args:
        predecessor: the SOP instance UID of the segmentation that it takes the place of.
    """
    uid = segmentation_uid(cine, label, predecessor)
    frames = np.ascontiguousarray(label.mask.transpose(2, 1, 0))  # (slices, rows, columns)
    masks = np.stack([frames == value for value in STRUCTURES.values()], axis=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of UIDs and values of the source that break a rule
        dataset = Segmentation(
            source_images=[_source_image(cine, who, k) for k in range(cine.slices)],
            pixel_array=masks.astype(np.uint8),
            segmentation_type="BINARY",
            segment_descriptions=[_describe_segment(cine, name, value, label) for name, value in STRUCTURES.items()],
            series_instance_uid=uid_from_content(uid, "series"),
            series_number=10_000 + who.series_number,
            sop_instance_uid=uid,
            instance_number=1,
            content_label="HEART",
            content_description=f"Heart, phase {label.phase + 1} of {cine.phases}, version {label.version} of its label",
            content_creator_name=_person(label.annotator),
            **made_by(),
            series_description=f"Heart, phase {label.phase + 1} of {cine.phases}",
        )
        complete(dataset, who, label.created)
        _set_references(dataset, cine, label.phase)
    dimensions = uid_from_content(uid, "dimensions")
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = dimensions
    for item in dataset.DimensionIndexSequence:
        item.DimensionOrganizationUID = dimensions
    if predecessor is not None:
        dataset.ReferencedInstanceSequence = Sequence(
            [
                _item(
                    ReferencedSOPClassUID=dataset.SOPClassUID,
                    ReferencedSOPInstanceUID=predecessor,
                    PurposeOfReferenceCodeSequence=Sequence([code_item(REPLACED)]),
                )
            ]
        )
    return dataset


def predecessor_of(dataset: Dataset) -> str | None:
    """The SOP instance UID of the segmentation or report that ``dataset`` takes the place of."""
    if dataset.get("PredecessorDocumentsSequence"):
        return str(dataset.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
    for item in dataset.get("ReferencedInstanceSequence") or ():
        if any(code.get("CodeValue") == REPLACED.value for code in item.get("PurposeOfReferenceCodeSequence") or ()):
            return str(item.ReferencedSOPInstanceUID)
    return None


def made_by() -> dict[str, Any]:
    """What every exported object says of the program that made it."""
    return {
        "manufacturer": MAKER,
        "manufacturer_model_name": PRODUCT,
        "software_versions": f"highdicom {highdicom.__version__}",
        "device_serial_number": "none",
    }


def complete(dataset: Dataset, who: Examination, created: datetime) -> None:
    """Patient, study and times, the same whenever the same label is exported: in the time zone that the source names for all its times, or
    where it names none, in that of this machine."""
    for element in who.attributes:
        if element.keyword not in ("SeriesNumber", "PositionReferenceIndicator"):
            dataset.add(element)
    local = created.astimezone(who.timezone)
    dataset.ContentDate = dataset.SeriesDate = dataset.InstanceCreationDate = local.strftime("%Y%m%d")
    dataset.ContentTime = dataset.SeriesTime = dataset.InstanceCreationTime = local.strftime("%H%M%S")


def code_item(code: Code) -> Dataset:
    return _item(CodeValue=code.value, CodingSchemeDesignator=code.scheme_designator, CodeMeaning=code.meaning)


def tracking_uid(cine: CineReference, structure: str) -> str:
    """One structure of one heart, through all phases and versions."""
    return uid_from_content("prato-label/tracking/1", *cine.dicom.series_instance_uids, structure)


def _source_image(cine: CineReference, who: Examination, k: int) -> Dataset:
    """A stand-in for the image of slice ``k``: the importer's sidecar knows where each lies, and one of them has told who the patient is.

    highdicom takes classic images of one series; ``_set_references`` puts in place what the images really are.
    """
    origin = cine.dicom
    image = Dataset()
    for element in who.attributes:
        image.add(element)
    if not (image.get("LossyImageCompressionRatio") and image.get("LossyImageCompressionMethod")):
        image.pop("LossyImageCompression", None)  # highdicom wants to know how; what is known is put in place afterwards
    image.SOPClassUID, image.SOPInstanceUID, image.Modality = MRImageStorage, _stand_in(k), "MR"
    image.StudyInstanceUID, image.SeriesInstanceUID = origin.study_instance_uid, origin.series_instance_uids[0]
    image.FrameOfReferenceUID = origin.frame_of_reference_uid or uid_from_content("frame of reference", *origin.series_instance_uids)
    image.Rows, image.Columns = origin.rows, origin.columns
    image.PixelSpacing = list(origin.pixel_spacing_mm)
    image.SliceThickness = origin.slice_thickness_mm or _gap(cine)
    image.SpacingBetweenSlices = _gap(cine)
    image.ImageOrientationPatient, image.ImagePositionPatient = (
        list(origin.image_orientation_patient),
        list(origin.image_position_patient[k]),
    )
    return image


def _gap(cine: CineReference) -> float:
    return round(float(np.linalg.norm(np.array(cine.affine_ras_mm)[:3, 2])), 6)


def _stand_in(k: int) -> str:
    return f"2.25.{k + 1}"


def _set_references(dataset: Dataset, cine: CineReference, t: int) -> None:
    images = cine.images_of_phase(t)
    places = {_stand_in(k): image for k, image in enumerate(images)}
    for group in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in group.DerivationImageSequence:
            for source in derivation.SourceImageSequence:
                _, uid, number = places[str(source.ReferencedSOPInstanceUID)]
                source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = cine.dicom.sop_class_uid, uid
                if number is not None:
                    source.ReferencedFrameNumber = number
    by_instance: dict[tuple[str, str], list[int]] = {}
    for series, uid, number in images:
        by_instance.setdefault((series, uid), []).extend([] if number is None else [number])
    by_series: dict[str, list[Dataset]] = {}
    sources = []
    for (series, uid), numbers in by_instance.items():
        instance = _item(ReferencedSOPClassUID=cine.dicom.sop_class_uid, ReferencedSOPInstanceUID=uid)
        by_series.setdefault(series, []).append(instance)
        sources.append(_item(**{e.keyword: e.value for e in instance}, **({"ReferencedFrameNumber": numbers} if numbers else {})))
    dataset.SourceImageSequence = Sequence(sources)
    dataset.ReferencedSeriesSequence = Sequence(
        _item(SeriesInstanceUID=series, ReferencedInstanceSequence=Sequence(own)) for series, own in by_series.items()
    )


def _describe_segment(cine: CineReference, name: str, number: int, label: LabelledPhase) -> SegmentDescription:
    algorithm = None
    if label.model is not None:
        model, version = label.model
        algorithm = AlgorithmIdentificationSequence(name=_plain(model)[:64], family=ARTIFICIAL_INTELLIGENCE, version=_plain(version)[:64])
    segment = SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=ANATOMICAL_STRUCTURE,
        segmented_property_type=STRUCTURE_CODES[name],
        algorithm_type="SEMIAUTOMATIC" if algorithm is not None else "MANUAL",
        algorithm_identification=algorithm,
        tracking_uid=tracking_uid(cine, name),
        tracking_id=name,
    )
    segment.RecommendedDisplayCIELabValue = list(_lab(COLOURS[name]).value)
    return segment


def _lab(rgb: Iterable[float]) -> CIELabColor:
    """CIE 1976 L*a*b* with the white point D50, as DICOM has it, of sRGB in 0..1 (IEC 61966-2-1, Bradford-adapted)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    to_xyz = np.array([[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]])
    ratio = to_xyz @ linear / [0.96422, 1.0, 0.82521]
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return CIELabColor(116 * y - 16, 500 * (x - y), 200 * (y - z))


def _person(name: str) -> str | None:
    """``name`` as DICOM's family name; None for nobody."""
    plain = _plain(name, "^=").strip()[:60]
    return None if plain in ("", "unknown") else f"{plain}^"


def _plain(text: str, forbidden: str = "") -> str:
    """``text`` without what separates values, or cannot be printed."""
    return "".join(" " if letter in "\\" + forbidden or not letter.isprintable() else letter for letter in text)


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item
