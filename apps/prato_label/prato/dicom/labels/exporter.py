"""Exports labels to DICOM: a segmentation for each phase, the values that they give, and a report of them."""

from __future__ import annotations

import glob
import io
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from prato.data.atomic import make_folder, stage_bytes
from prato.dicom.labels.labelled_cines import LabelledCine, Ready, find_labelled_cines
from prato.dicom.labels.measurements import Measurements, measure, values_json, volumes_csv
from prato.dicom.labels.segmentation import build_segmentation, predecessor_of, segmentation_uid
from prato.dicom.labels.structured_report import build_report, report_uid
from prato.dicom.origin.patient import Examination
from prato.dicom.reading.files import DicomError

_FILE = re.compile(r"_(?:report|frame(?P<frame>\d+)_seg)_\d+\.dcm")


@dataclass(frozen=True)
class Exported:
    """The DICOM objects of one cine, those that were there already included.

    Attributes:
        heads: by phase (from 0), and None for the report: the UID that a later version has to name.
        new: of these, objects that were not there before.
    """

    heads: dict[int | None, str]
    new: dict[int | None, Dataset]
    measured: Measurements


@dataclass
class ExportReport:
    """What an export did: file names by cine, and sentences."""

    written: dict[str, list[str]] = field(default_factory=dict)
    unchanged: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


#: How many UIDs a warning names; a cine may have thousands.
_NAMED = 3
#: What was exported before of a cine: by phase, or None for the report, the UID of the last object, and of the one that it replaced.
Heads = Mapping[int | None, tuple[str, str | None]]


def export_cine(cine: LabelledCine, who: Examination, before: Heads) -> Exported:
    """The objects that ``cine`` needs now; what stands there as it should be is not made again."""
    segmentations = export_segmentations(cine, who, before)
    heads: dict[int | None, str] = {t: str(dataset.SOPInstanceUID) for t, dataset in segmentations.items()}
    new: dict[int | None, Dataset] = {t: dataset for t, dataset in segmentations.items() if heads[t] != before.get(t, (None,))[0]}
    measured = measure(cine, who)
    last, earlier = before.get(None, (None, None))
    uids = [str(dataset.SOPInstanceUID) for dataset in segmentations.values()]
    if last is not None and report_uid(uids, measured, earlier) == last:
        heads[None] = last
    else:
        created = max(label.created for label in cine.phases.values())
        new[None] = build_report(cine.reference, segmentations, measured, who, created, last)
        heads[None] = str(new[None].SOPInstanceUID)
    return Exported(heads, new, measured)


def export_segmentations(cine: LabelledCine, who: Examination, before: Mapping[Any, tuple[str, str | None]]) -> dict[int, Dataset]:
    """By phase, the segmentation that its label is: the one of ``before`` again where the label is still the same."""
    segmentations: dict[int, Dataset] = {}
    for t, label in sorted(cine.phases.items()):
        last, earlier = before.get(t, (None, None))
        is_unchanged = last is not None and segmentation_uid(cine.reference, label, earlier) == last
        segmentations[t] = build_segmentation(cine.reference, label, who, earlier if is_unchanged else last)
    return segmentations


def dicom_bytes(dataset: Dataset) -> bytes:
    """The file."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(stream, dataset, write_like_original=False)
    return stream.getvalue()


def export_labels(
    studies: str | os.PathLike[str], target: str | os.PathLike[str], examinations: Mapping[str, Examination], ready: Ready = "final"
) -> ExportReport:
    """Write what the final labels of the studies folder ``studies`` give to ``target``: each cine's objects all or not at all.

    Files: ``<cine>_frame<NN>_seg_<mark>.dcm`` for a phase, ``<cine>_report_<mark>.dcm``, ``<cine>_volumes.csv`` and ``<cine>_values.json``.
    A label that was exported before gives the same UID and is not written again; a corrected one gives a new object, which names the one
    before.

    Args:
        examinations: by cine, who was examined (``prato.dicom.origin.patient.find_examinations``); cines that it lacks are left out.

    Raises:
        DicomError: ``target`` is a file.
        OSError: ``target`` cannot be written to.
    """
    folder = Path(target)
    if folder.exists() and not folder.is_dir():
        raise DicomError(f"{folder} is a file: give a folder for the DICOM objects.")
    cines, left_out = find_labelled_cines(studies, ready)
    report = ExportReport(left_out=left_out)
    for cine in cines:
        name = cine.reference.study
        who = examinations.get(name)
        if who is None:
            report.left_out.append(f"{name} is left out: the source has none of its images, which say who the patient is.")
            continue
        report.warnings += _doubts(cine, who)
        try:
            _write(cine, who, folder, report)
        except DicomError as error:
            report.left_out.append(f"{name} is left out: {error}")
    return report


def _write(cine: LabelledCine, who: Examination, folder: Path, report: ExportReport) -> None:
    name = cine.reference.study
    exported = export_cine(cine, who, find_heads(folder, name))
    uids = {t: uid for t, uid in exported.heads.items() if t is not None}
    files = {f"{name}_{_kind(t)}_{uid[-10:]}.dcm": exported.new[t] for t, uid in exported.heads.items() if t in exported.new}
    contents = {file: dicom_bytes(dataset) for file, dataset in files.items()}
    contents[f"{name}_volumes.csv"] = volumes_csv(cine, exported.measured, uids)
    contents[f"{name}_values.json"] = values_json(cine, exported.measured, uids)
    make_folder(folder)
    with ExitStack() as staged:
        for file, data in contents.items():
            staged.enter_context(stage_bytes(folder / file, data))
    report.written[name] = list(files)
    if exported.measured.fault and len(cine.phases) > 1:
        report.warnings.append(f"{name}: its volumes are exported without an ejection fraction, as {exported.measured.fault}.")
    report.unchanged[name] = len(exported.heads) - len(files)


def _kind(t: int | None) -> str:
    return "report" if t is None else f"frame{t + 1:02d}_seg"


def find_heads(folder: Path, name: str) -> Heads:
    """The newest objects of the cine ``name`` in ``folder``: those that no other names as its predecessor."""
    heads: dict[int | None, tuple[str, str | None]] = {}
    kinds: dict[int | None, list[Path]] = {}
    for path in sorted(folder.glob(f"{glob.escape(name)}_*.dcm")):
        match = _FILE.fullmatch(path.name.removeprefix(name))
        if match:
            kinds.setdefault(int(match["frame"]) - 1 if match["frame"] else None, []).append(path)
    for t, paths in kinds.items():
        found: dict[str, str | None] = {}
        for path in paths:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    dataset = pydicom.dcmread(path, stop_before_pixels=True)
                    found[str(dataset.SOPInstanceUID)] = predecessor_of(dataset)
                except Exception as error:  # whatever a damaged file leads pydicom to
                    raise DicomError(f"{path} is damaged: move it away, and export again.") from error
        newest = [uid for uid in found if uid not in found.values()]
        if newest:
            heads[t] = (newest[-1], found[newest[-1]])
    return heads


def _doubts(cine: LabelledCine, who: Examination) -> Iterable[str]:
    name, invalid = cine.reference.study, cine.reference.invalid_uids
    if invalid:
        more = f" and {len(invalid) - _NAMED} more" if len(invalid) > _NAMED else ""
        named = ", ".join(invalid[:_NAMED]) + more
        yield f"{name}: {len(invalid)} UIDs of the source break DICOM's rules and are referred to as they are: {named}."
    if who.blanked:
        yield f"{name}: values of the source that break DICOM's rules are left empty: {', '.join(who.blanked)}."
