"""Cases of any layout into a studies folder: everything is checked before anything is written, and written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prato.data.atomic import make_folder, write_bytes
from prato.data.cine import read_cine
from prato.data.labels.names import LABEL_INFO
from prato.data.nifti import VolumeError, gzip_bytes, unzipped
from prato.data.orientation import ORIENTATION_WARNINGS
from prato.data.studies.folder import ManifestError, Study, find_files, is_study_id, load_manifest
from prato.data.studies.label_records import HISTORY
from prato.data.studies.listing import listed_first
from prato.exchange.cases import Case, FolderError, Reader
from prato.exchange.staging import move_into_place, staging_folder
from prato.labelling.files import LabelFiles
from prato.labelling.phases import phase_count, phase_of
from prato.labelling.records import LabelVersionError
from prato.labelling.versions import LabelVersions

#: Wraps what is being gone through, with a word for what is being done, as a progress bar does.
Progress = Callable[[Sequence[Reader], str], Iterable[Reader]]


@dataclass
class Summary:
    """What an import did: how many patients, studies and labels the folder holds, how many images and labels were written, which studies'
    labels were kept because they have been changed since, and what was repaired or guessed, one sentence each."""

    patients: set[str] = field(default_factory=set)
    studies: int = 0
    labels: int = 0
    written: int = 0
    kept_labels: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def import_cases(
    readers: Sequence[Reader],
    source: Path,
    target: Path,
    name: str,
    params: dict[str, Any],
    progress: Progress = lambda readers, _: readers,
) -> Summary:
    """Write all cases of ``readers`` to the studies folder ``target``, with their labels in ``labels/final``.

    It can be run again: what is there already stays, also a label that somebody has changed since.

    Args:
        source: the folder that they come from, which must not hold ``target``.
        name: of the layout, for the manifest. params: stored with each label.

    Raises:
        FolderError: one sentence for each case that cannot be used, and for each image in ``target`` that has the name of a case and other
            content; nothing has been written.
        OSError: ``target`` cannot be written to; nothing has been written.
    """
    _check_target(source, target, name)
    summary, faults, new_images, new_labels = Summary(), list[str](), set[str](), set[str]()
    entries: dict[str, Study] = {}
    there, seen = find_files(target).files, dict[str, str]()
    for reader in progress(readers, "checking"):
        try:
            for case in reader():
                _check(case, seen, there.get(case.id))
                _count(case, target, summary, new_labels)
                entries[case.id] = case.study
                if case.id not in there:
                    new_images.add(case.id)
        except FolderError as error:
            faults += error.faults
        except (VolumeError, LabelVersionError) as error:
            faults.append(str(error))
    if faults:
        raise FolderError(faults)
    if not seen:
        raise FolderError([f"{source} holds nothing to import."])
    with staging_folder(target) as staged:
        places = []
        for reader in progress(readers, "writing") if new_images or new_labels else ():
            for case in reader():
                if case.id in new_images:
                    write_bytes(staged / f"{case.id}.nii.gz", gzip_bytes(case.image_bytes()))
                    places.append(f"{case.id}.nii.gz")
                if case.id in new_labels and case.label is not None:
                    grid = read_cine(staged / places[-1] if case.id in new_images else there[case.id]).grid()
                    drawn = [number for number in range(phase_count(case.label)) if phase_of(case.label, number).any()]
                    about = {**params, "imported_from": case.origin, "label_info": LABEL_INFO, "phases": drawn}
                    LabelVersions(staged, case.id).save(grid.with_array(case.label), about)
                    history = f"{HISTORY}/final/{case.id}"
                    places += [history] * (not (target / history).exists()) + [f"labels/final/{case.id}.nii.gz"]
        make_folder(target / "labels" / "final")
        try:
            with listed_first(target, name, entries):
                move_into_place(staged, target, places)
        except ManifestError as error:  # edited since
            raise FolderError([str(error)]) from error
    summary.written = len(new_images) + len(new_labels)
    return summary


def _check_target(source: Path, target: Path, name: str) -> None:
    if target.exists() and not target.is_dir():
        raise FolderError([f"{target} is a file: give a folder for the studies."])
    if source.resolve() in (target.resolve(), *target.resolve().parents):
        raise FolderError([f"{target} is inside the folder that is imported: give another folder for the studies."])
    try:
        manifest = load_manifest(target)
        LabelFiles(target, "any", "final").require_inside()
    except (ManifestError, LabelVersionError) as error:
        raise FolderError([str(error)]) from error
    if manifest is not None and manifest.source != name:
        raise FolderError([f"{target} holds {manifest.source} studies, as its manifest says: give another folder for {name}."])


def _check(case: Case, seen: dict[str, str], there: Path | None) -> None:
    """Refuse a case whose name cannot be a study's, or is another's, or whose image is another one than that of the file ``there``."""
    if not is_study_id(case.id):
        raise FolderError([f"{case.origin} would become the study {case.id!a:.80}: its name must be printable text without slashes."])
    if case.id in seen:
        raise FolderError([f"{seen[case.id]} and {case.origin} would both become the study {case.id}: rename one of them."])
    seen[case.id] = case.origin
    if there is not None and unzipped(there) != case.image_bytes():
        raise FolderError([f"{there} already exists and is another image: move it away or choose another folder."])


def _count(case: Case, target: Path, summary: Summary, new_labels: set[str]) -> None:
    summary.patients.add(case.study.patient)
    summary.studies += 1
    summary.warnings += [f"{case.id}: {ORIENTATION_WARNINGS[name]}." for name in case.image.warnings if name in ORIENTATION_WARNINGS]
    if case.label is None:
        return
    summary.labels += 1
    versions = LabelVersions(target, case.id)
    known, current = versions.list_versions()
    if not known or (current is None and not known[-1].removals):  # else an import was killed between version and label
        new_labels.add(case.id)
    elif current is None or not np.array_equal(versions.read_volume(current.version).array, case.label):
        summary.kept_labels.append(case.id)
