"""The measurements of a cine as a DICOM structured report (Comprehensive SR, TID 1500) that refers to the segments that were measured."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime

from highdicom.sr import (
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceSeriesForSegmentation,
    TextContentItem,
    TimePointContext,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, SegmentationStorage

from prato.data.structures import STRUCTURES
from prato.dicom.labels.codes import (
    CARDIAC_MRI,
    COMMENT,
    DEVICE,
    EJECTION_FRACTION,
    END_DIASTOLIC,
    END_SYSTOLIC,
    GRAM,
    LV_MASS,
    MEASUREMENT_REPORT,
    MILLILITRE,
    PERCENT,
    STROKE_VOLUME,
    STRUCTURE_CODES,
    VOLUME,
)
from prato.dicom.labels.measurements import Measurements
from prato.dicom.labels.segmentation import MAKER, PRODUCT, complete, made_by, tracking_uid
from prato.dicom.origin.patient import Examination
from prato.dicom.origin.references import CineReference, uid_from_content
from prato.function.measured import MeasuredHeart

_SCHEMA = "prato-label/report/2"


def report_uid(segmentations: Iterable[str], measured: Measurements, predecessor: str | None) -> str:
    """The SOP instance UID of a report: the same for the same ``segmentations`` (UIDs) and values, in place of the same ``predecessor``."""
    heart = measured.heart
    function = heart and {**heart.function.to_dict(), "told_by": heart.told_by}
    return uid_from_content(_SCHEMA, *segmentations, function, predecessor or "")


def build_report(
    cine: CineReference,
    segmentations: Mapping[int, Dataset],
    measured: Measurements,
    who: Examination,
    created: datetime,
    predecessor: str | None,
) -> Dataset:
    """The volume of each segment of ``segmentations`` (by phase) and, where it is known, the function of both ventricles, with its
    phases and what makes it doubtful.

    Args:
        predecessor: the SOP instance UID of the report that it takes the place of.
    """
    uid = report_uid([str(ds.SOPInstanceUID) for ds in segmentations.values()], measured, predecessor)
    groups: list[VolumetricROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for t, dataset in segmentations.items():
            groups += [
                _segment_group(cine, t, dataset, n, name, measured) for n, name in enumerate(STRUCTURES, 1) if measured.volumes[t][name]
            ]
        if measured.heart is not None:
            groups += [_function_group(cine, side, measured.heart) for side in ("lv", "rv")]
        device = DeviceObserverIdentifyingAttributes(
            uid=uid_from_content("prato-label/device"), name=PRODUCT, manufacturer_name=MAKER, model_name=PRODUCT
        )
        content = MeasurementReport(
            observation_context=ObservationContext(
                observer_device_context=ObserverContext(
                    observer_type=CodedConcept.from_code(DEVICE), observer_identifying_attributes=device
                )
            ),
            procedure_reported=CARDIAC_MRI,
            imaging_measurements=groups,
            title=MEASUREMENT_REPORT,
        )
        report = ComprehensiveSR(
            evidence=list(segmentations.values()),
            content=content[0],
            series_instance_uid=uid_from_content(uid, "series"),
            series_number=20_000 + who.series_number,
            sop_instance_uid=uid,
            instance_number=1,
            is_complete=True,
            is_final=False,
            previous_versions=None if predecessor is None else [_previous(cine, predecessor)],
            **made_by(),
            series_description="Heart, volumes and function",
        )
        complete(report, who, created)
    return report


def _segment_group(
    cine: CineReference, t: int, dataset: Dataset, number: int, name: str, measured: Measurements
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    reference = ReferencedSegment(
        sop_class_uid=SegmentationStorage,
        sop_instance_uid=str(dataset.SOPInstanceUID),
        segment_number=number,
        source_series=SourceSeriesForSegmentation(cine.dicom.series_instance_uids[0]),
    )
    volume = Measurement(name=VOLUME, value=round(measured.volumes[t][name], 2), unit=MILLILITRE)
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=tracking_uid(cine, name), identifier=name),
        referenced_segment=reference,
        time_point_context=TimePointContext(time_point=f"phase {t + 1} of {cine.phases}", time_point_order=t + 1),
        finding_type=STRUCTURE_CODES[name],
        measurements=[volume],
    )


def _function_group(cine: CineReference, side: str, heart: MeasuredHeart) -> MeasurementsAndQualitativeEvaluations:
    function = heart.function
    own = getattr(function, side)
    volumes = {END_DIASTOLIC[side]: own.edv_ml, END_SYSTOLIC[side]: own.esv_ml, STROKE_VOLUME: own.sv_ml}
    values = [(code, ml, MILLILITRE) for code, ml in volumes.items()]
    if math.isfinite(own.ef_percent):
        values.append((EJECTION_FRACTION[side], own.ef_percent, PERCENT))
    if side == "lv":
        values.append((LV_MASS, function.lv_mass_g, GRAM))
    identifier = f"{side.upper()} function"
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=tracking_uid(cine, identifier), identifier=identifier),
        finding_sites=[FindingSite(STRUCTURE_CODES[f"{side.upper()} cavity"])],
        measurements=[Measurement(name=name, value=round(float(value), 2), unit=unit) for name, value, unit in values],
    )
    phases = f"End-diastole is phase {function.ed + 1} and end-systole phase {function.es + 1} of {cine.phases}, {heart.told_by}."
    for text in (phases, *function.warnings):
        group[0].ContentSequence.append(TextContentItem(COMMENT, text, RelationshipTypeValues.CONTAINS))
    return group


def _previous(cine: CineReference, uid: str) -> Dataset:
    """The report ``uid``, as far as a reference needs it."""
    previous = Dataset()
    previous.SOPClassUID, previous.SOPInstanceUID = ComprehensiveSRStorage, uid
    previous.StudyInstanceUID, previous.SeriesInstanceUID = cine.dicom.study_instance_uid, uid_from_content(uid, "series")
    return previous
