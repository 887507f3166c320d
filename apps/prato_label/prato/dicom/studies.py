"""Imports a DICOM archive into a studies folder that is in use: its cines become studies beside those that are there already."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from prato.data.nifti import unzipped
from prato.data.studies.folder import MANIFEST_NAME, ManifestError, load_manifest
from prato.data.studies.label_records import LOCK_NAME
from prato.data.studies.listing import listed_first
from prato.dicom.importer import PHASES, SOURCE, ImportedCine, Phases, Report, import_dicom
from prato.dicom.origin.known_cines import find_same_hearts
from prato.dicom.origin.sidecar import is_same_cine, note_copies, tell_differences
from prato.dicom.reading.files import ArchiveLimits, DicomError
from prato.exchange.staging import move_into_place, staging_folder


def import_into_studies(archive: Path, folder: Path, phases: Phases, limits: ArchiveLimits) -> tuple[Report, dict[str, list[str]]]:
    """Add the short-axis cines of ``archive`` to the studies folder ``folder``, all or none of those that can be imported.

    Args:
        phases: single phases that become 3D studies besides the cines.

    Returns:
        What was imported, and the new or known studies of each cine, by its name.

    Raises:
        DicomError: the archive cannot be used, or a file in ``folder`` has the name of a new one and other content; nothing has changed.
        OSError: ``folder`` cannot be written to; nothing has changed.
    """
    try:
        with staging_folder(folder) as staged:
            report = import_dicom(archive, staged, phases=phases, limits=limits, home=folder)
            found = {place: load_manifest(place) for place in (staged, staged / PHASES)}
            entries = {name: study for manifest in found.values() if manifest for name, study in manifest.studies.items()}
            for path in (staged / PHASES).glob("*.nii.gz"):
                os.rename(path, staged / path.name)
            own = (MANIFEST_NAME, LOCK_NAME)
            names = sorted(path.name for path in staged.iterdir() if path.is_file() and path.name not in own)
            with listed_first(folder, SOURCE, entries):
                new = [name for name in names if not _is_there(staged / name, folder / name)]
                report.imported = [_with_note(cine, folder, staged) for cine in report.imported]
                move_into_place(staged, folder, new)
    except ManifestError as error:
        raise DicomError(str(error)) from error
    studies = {cine.study: [name for name in entries if _is_of(name, cine)] for cine in report.imported}
    report.imported = [replace(cine, is_new=any(f"{name}.nii.gz" in new for name in studies[cine.study])) for cine in report.imported]
    same = find_same_hearts(folder, {cine.study for cine in report.imported if cine.is_new})
    report.warnings += [sentence for sentence in same if sentence not in report.warnings]
    return report, studies


def _is_of(name: str, cine: ImportedCine) -> bool:
    return name == cine.study or name.rpartition("_frame")[0] == cine.study.removesuffix("_4d")


def _with_note(cine: ImportedCine, folder: Path, staged: Path) -> ImportedCine:
    name = f"{cine.study}.json"
    return replace(cine, notes=(*cine.notes, *note_copies(folder / name, (staged / name).read_bytes())))


def _is_there(path: Path, place: Path) -> bool:
    """Whether ``place`` holds what ``path`` holds.

    Raises:
        DicomError: it holds something else.
    """
    if not os.path.lexists(place):
        return False
    if unzipped(place) != unzipped(path) and not is_same_cine(place, path.read_bytes()):
        what = tell_differences(place, path.read_bytes()) if path.suffix == ".json" else " (other voxels)"
        raise DicomError(f"{place.name} already exists with other content{what}: remove that study first, or leave this one out.")
    return True
