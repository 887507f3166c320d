"""ACDC into a studies folder: one volume per frame, or one cine per patient, with true voxel sizes, expert labels and a patient manifest.

ACDC's own files say 1 x 1 x 1 mm in their sform; every spacing, volume and distance is wrong until it is read by
``prato.data.orientation``, which takes the voxel size from ``pixdim``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from prato.data.atomic import remove_abandoned, write_bytes
from prato.data.nifti import gzip_bytes, unzipped
from prato.data.studies.folder import ENDINGS, MANIFEST_NAME, ManifestError, Study, load_manifest
from prato.data.studies.label_records import HISTORY
from prato.data.studies.listing import listed_first
from prato.exchange.acdc_folder import AcdcError, Frame, Frames, find_patients, read_patient

LABELS = "labels/final"
SOURCE = "ACDC"
T = TypeVar("T")
#: Wraps what is being gone through, with a word for what is being done, as a progress bar does.
Progress = Callable[[list[T], str], Iterable[T]]


@dataclass
class Summary:
    """What an import did: numbers of patients and studies, files written and files found unchanged, and the names (relative to
    the studies folder) of labels that were kept because they have been changed, or not brought back as they have been removed."""

    patients: int
    studies: int = 0
    written: int = 0
    unchanged: int = 0
    kept_labels: list[str] = field(default_factory=list)


def import_acdc(source: Path, target: Path, frames: Frames, progress: Progress[Path] = lambda items, _: items) -> Summary:
    """Turn the official ACDC folder ``source`` into the studies folder ``target``; everything is checked before anything is written.

    It can be run again: unchanged files stay, and so does a label in ``labels/final`` that differs (a labeller may
    have corrected it); one that a labeller has removed does not come back. Other studies and other lines of the manifest stay.

    Raises:
        AcdcError: with one sentence for each missing, unreadable or contradictory file, and for each image in ``target`` that has the
            name of an imported one and other content; nothing has been written then.
        OSError: ``target`` cannot be written to.
    """
    patients = find_patients(source)
    _check_target(target, patients)
    faults: list[str] = []
    entries: dict[str, Study] = {}
    for folder in progress(patients, "checking"):
        try:
            for frame in read_patient(folder, frames):
                entries[frame.id] = frame.study
                path = _place(target, frame.id)
                found = unzipped(path)
                if found is not None and found != frame.files()[0]:
                    faults.append(f"{path} already exists and is another image: move it away or choose another folder.")
        except AcdcError as error:
            faults.extend(error.faults)
    if faults:
        raise AcdcError(faults)

    (target / LABELS).mkdir(parents=True, exist_ok=True)
    for place in (target, target / LABELS):
        remove_abandoned(place)
    try:
        with listed_first(target, SOURCE, entries):
            pass
    except ManifestError as error:  # edited since
        raise AcdcError([str(error)]) from error
    summary = Summary(len(patients))
    for folder in progress(patients, "writing"):
        for frame in read_patient(folder, frames):
            _write(frame, target, summary)
    return summary


def _check_target(target: Path, patients: list[Path]) -> None:
    if target.exists() and not target.is_dir():
        raise AcdcError([f"{target} is a file: give a folder for the studies."])
    inside = [p for p in patients if p.resolve() in (target.resolve(), *target.resolve().parents)]
    if inside:
        raise AcdcError([f"{target} is inside the ACDC folder of {inside[0].name}: give another folder for the studies."])
    try:
        manifest = load_manifest(target)
    except ManifestError as error:
        raise AcdcError([str(error)]) from error
    if manifest is not None and manifest.source != SOURCE:
        raise AcdcError([f"{target / MANIFEST_NAME} says that this folder holds {manifest.source} studies: give another folder for ACDC."])


def _write(frame: Frame, target: Path, summary: Summary) -> None:
    summary.studies += 1
    image, raw = frame.files()
    _put(_place(target, frame.id), image, summary)
    if raw is None:
        return
    label = _place(target / LABELS, frame.id)
    # versions of a label that is not there: somebody has removed it
    is_changed = unzipped(label) != raw if label.exists() else (target / HISTORY / label.parent.name / frame.id).is_dir()
    if is_changed:
        summary.kept_labels.append(f"{LABELS}/{label.name}")
    else:
        _put(label, raw, summary)


def _place(folder: Path, id: str) -> Path:
    """Where the file of ``id`` lies in ``folder``, where others may have put it uncompressed, or is to lie."""
    return next((path for ending in ENDINGS if (path := folder / f"{id}{ending}").exists()), folder / f"{id}{ENDINGS[0]}")


def _put(path: Path, raw: bytes, summary: Summary) -> None:
    if unzipped(path) == raw:
        summary.unchanged += 1
    else:
        write_bytes(path, gzip_bytes(raw))
        summary.written += 1
