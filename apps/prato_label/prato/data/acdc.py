"""ACDC into a studies folder: one volume per frame, or one cine per patient, with true voxel sizes, expert labels and a patient manifest.

ACDC's own files say 1 x 1 x 1 mm in their sform; every spacing, volume and distance is wrong until it is read by
``prato.data.orientation``, which takes the voxel size from ``pixdim``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from prato.data.acdc_layout import AcdcError, Frame, Frames, find_patients, read_patient
from prato.data.atomic import remove_abandoned, write_bytes
from prato.data.nifti import gzip_bytes, unzipped
from prato.data.studies import MANIFEST_NAME, Manifest, ManifestError, load_manifest, save_manifest

LABELS = "labels/final"
SOURCE = "ACDC"
T = TypeVar("T")
#: Wraps what is being gone through, with a word for what is being done, as a progress bar does.
Progress = Callable[[list[T], str], Iterable[T]]


@dataclass
class Summary:
    """What an import did: numbers of patients and studies, files written and files found unchanged, and the names (relative to
    the studies folder) of labels that were kept because they have been changed."""

    patients: int
    studies: int = 0
    written: int = 0
    unchanged: int = 0
    kept_labels: list[str] = field(default_factory=list)


def import_acdc(source: Path, target: Path, frames: Frames, progress: Progress[Path] = lambda items, _: items) -> Summary:
    """Turn the official ACDC folder ``source`` into the studies folder ``target``; everything is checked before anything is written.

    It can be run again: unchanged files stay, and so does a label in ``labels/final`` that differs (a labeller may
    have corrected it), and other studies and other lines of the manifest stay.

    Raises:
        AcdcError: with one sentence for each missing, unreadable or contradictory file, and for each image in ``target`` that has the
            name of an imported one and other content; nothing has been written then.
        OSError: ``target`` cannot be written to.
    """
    patients = find_patients(source)
    manifest = _open_target(target, patients)
    faults: list[str] = []
    for folder in progress(patients, "checking"):
        try:
            for frame in read_patient(folder, frames):
                path = target / f"{frame.id}.nii.gz"
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
    summary = Summary(len(patients))
    for folder in progress(patients, "writing"):
        for frame in read_patient(folder, frames):
            _write(frame, target, summary)
            manifest.add({frame.id: frame.study})
    if load_manifest(target) != manifest:
        save_manifest(target, manifest)
    return summary


def _open_target(target: Path, patients: list[Path]) -> Manifest:
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
    return manifest or Manifest(source=SOURCE)


def _write(frame: Frame, target: Path, summary: Summary) -> None:
    summary.studies += 1
    image, raw = frame.files()
    _put(target / f"{frame.id}.nii.gz", image, summary)
    if raw is None:
        return
    label = target / LABELS / f"{frame.id}.nii.gz"
    if label.exists() and unzipped(label) != raw:
        summary.kept_labels.append(f"{LABELS}/{label.name}")
    else:
        _put(label, raw, summary)


def _put(path: Path, raw: bytes, summary: Summary) -> None:
    if unzipped(path) == raw:
        summary.unchanged += 1
    else:
        write_bytes(path, gzip_bytes(raw))
        summary.written += 1
