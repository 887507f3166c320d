"""The labels of a studies folder that can be sent back to where their images came from: by cine, with the phases that are ready."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from prato.data.cine import Cine, read_cine
from prato.data.labels.check import check_label, read_label_volume
from prato.data.nifti import VolumeError
from prato.data.studies.ed_es import NamedPhases, named_ed_es
from prato.data.studies.folder import FoundFiles, Manifest, find_files, load_manifest
from prato.data.studies.label_records import recorded_image_info, recorded_label_info
from prato.dicom.labels.segmentation import LabelledPhase
from prato.dicom.origin.references import CineReference
from prato.dicom.origin.sidecar import hash_phases
from prato.dicom.reading.files import DicomError
from prato.labelling.phases import phase_of
from prato.labelling.provenance import find_provenance
from prato.labelling.reader import VersionReader
from prato.labelling.records import Version

#: Which phases of a cine's label are exported: the approved ones alone, or those that a labeller corrected too.
Ready = Literal["final", "corrected"]
_STATES: dict[Ready, tuple[str, ...]] = {"final": ("final",), "corrected": ("final", "corrected")}
_FRAME = re.compile(r"_frame(\d+)$")


@dataclass
class LabelledCine:
    """A cine and what is exported of its labels, by phase.

    Attributes:
        spacing: of a voxel, mm along X, Y, Z, as the image has it.
        named: end-diastole and end-systole as they are marked on the cine, or as the manifest names them.
        named_frames: of single phases, those that the manifest calls "ED" or "ES". has_guess: whether an import guessed one of these.
    """

    reference: CineReference
    spacing: tuple[float, float, float]
    phases: dict[int, LabelledPhase] = field(default_factory=dict)
    named: NamedPhases | None = None
    named_frames: dict[str, int] = field(default_factory=dict)
    has_guess: bool = False
    height_cm: float | None = None
    weight_kg: float | None = None

    def named_ed_es(self) -> list[NamedPhases]:
        """End-diastole and end-systole, whoever named them: of several, those first that count."""
        ed, es = self.named_frames.get("ED"), self.named_frames.get("ES")
        of_frames = None if ed is None or es is None or ed == es else NamedPhases.of_manifest(ed, es, self.has_guess)
        return [named for named in (self.named, of_frames) if named is not None]


def find_labelled_cines(
    folder: str | os.PathLike[str], ready: Ready, studies: Collection[str] | None = None
) -> tuple[list[LabelledCine], list[str]]:
    """The cines of which ``folder`` holds final labels, of whole cines or of single phases, and a sentence for each that is left out.

    Args:
        studies: look at the labels of these alone; None: of all.

    Raises:
        ManifestError: the folder's manifest cannot be read.
    """
    folder = Path(folder)
    images, labels = find_files(folder), find_files(folder / "labels" / "final")
    manifest = load_manifest(folder)
    cines: dict[str, LabelledCine] = {}
    left_out: list[str] = []
    # cines before single phases: of a phase that is labelled twice, the cine's label counts
    wanted = labels.files if studies is None else [study for study in labels.files if study in studies]
    for study in sorted(wanted, key=lambda study: (_FRAME.search(study) is not None, study)):
        try:
            left_out += _add(folder, study, images, manifest, ready, cines)
        except (DicomError, VolumeError) as error:
            left_out.append(f"{study} is left out: {str(error).rstrip('.')}.")
    return list(cines.values()), left_out


def find_references(folder: str | os.PathLike[str]) -> list[CineReference]:
    """Where the labelled studies of ``folder`` come from; sidecars that cannot be used are left to ``find_labelled_cines``."""
    found: dict[Path, CineReference] = {}
    for study in find_files(Path(folder) / "labels" / "final").files:
        sidecar = find_sidecar(Path(folder), study)
        if sidecar is not None and sidecar[0] not in found:
            with suppress(DicomError):
                found[sidecar[0]] = CineReference.load(sidecar[0])
    return list(found.values())


def find_sidecar(folder: Path, study: str) -> tuple[Path, int | None] | None:
    """The sidecar of ``study``, beside it or in the folder above, and which phase it is, from 0 (None: all); None without a sidecar."""
    frame = _FRAME.search(study)
    name = f"{_FRAME.sub('', study)}_4d.json" if frame else f"{study}.json"
    above = Path(os.path.abspath(folder)).parent  # "." has no other
    path = next((path for path in (folder / name, above / name) if path.is_file()), None)
    return None if path is None else (path, int(frame[1]) - 1 if frame else None)


def _add(
    folder: Path, study: str, images: FoundFiles, manifest: Manifest | None, ready: Ready, cines: dict[str, LabelledCine]
) -> list[str]:
    found = find_sidecar(folder, study)
    if found is None:
        raise DicomError("it was not imported from DICOM (it has no sidecar)")
    if study not in images.files:
        raise DicomError("its image is not there")
    reference, t = CineReference.load(found[0]), found[1]
    image, (versions, current) = read_cine(images.files[study]), VersionReader(folder, study).list_versions()
    if current is None:
        return []
    _check_uids(reference)
    check_image(reference, image, t)
    phases = _read_phases(folder, study, image, versions, t, ready)
    if not phases:
        return [f"{study} is left out: none of its phases is {' or '.join(_STATES[ready])} yet."]
    cine = cines.setdefault(reference.study, LabelledCine(reference, image.grid().spacing))
    for phase in phases:
        cine.phases.setdefault(phase.phase, phase)
    entries = {} if manifest is None else manifest.studies
    whole, entry = found[0].stem, entries.get(study)
    cine.named = named_ed_es(recorded_image_info(folder, whole), entries.get(whole), reference.phases)
    if entry is not None:
        cine.height_cm, cine.weight_kg = entry.height_cm or cine.height_cm, entry.weight_kg or cine.weight_kg
        if t is not None and entry.phase is not None:
            cine.named_frames[entry.phase] = t
            cine.has_guess |= bool(entry.guessed)
    return []


def check_image(reference: CineReference, image: Cine, t: int | None) -> None:
    """Refuse an ``image`` that is not the cine of ``reference``, or its phase ``t``; sidecars of older versions tell only another grid.

    Raises:
        DicomError: it is not.
    """
    if t is not None and not 0 <= t < reference.phases:
        raise DicomError(f"its cine has {reference.phases} phases, and no phase {t + 1}")
    if t is None and len(image) != reference.phases:
        raise DicomError(f"it has {len(image)} phases and its sidecar {reference.phases}")
    reason = reference.why_other_image(image.phase(0))
    if reason is not None:
        raise DicomError(f"{reason}: import it again")
    hashes = reference.voxels_sha256
    if hashes is not None and hash_phases(np.asanyarray(image.image.dataobj)) != (hashes if t is None else hashes[t : t + 1]):
        raise DicomError("its voxels have other values than the DICOM images: import these again")


def _check_uids(reference: CineReference) -> None:
    origin = reference.dicom
    if not all(uid for row in origin.sop_instance_uids for uid in row):
        raise DicomError("its DICOM images have no SOP instance UIDs of their own, by which a segmentation refers to them")
    if not all((origin.study_instance_uid, *origin.series_instance_uids)):
        raise DicomError("its DICOM images have no UIDs of their examination and series, to which a segmentation belongs")


def _read_phases(folder: Path, study: str, image: Cine, versions: list[Version], t: int | None, ready: Ready) -> list[LabelledPhase]:
    """Those of the last of ``versions`` that are ready and hold a structure; a volume's label is ready unless it was sent back.

    Each is of whoever drew that phase, and of the version in which: what happens to other phases later does not change it.
    """
    path, name = VersionReader(folder, study).current_path(), f"the label of {study}"
    masks = check_label(image.grid(), read_label_volume(path, name), name, recorded_label_info(path))
    states = _STATES[ready if t is None else "corrected"]
    phases = []
    for number, phase in sorted(versions[-1].phases.items()):
        mask = phase_of(masks, number)
        if phase.state in states and mask.any():
            drawn = find_provenance(versions, number)
            at = t if t is not None else number
            phases.append(LabelledPhase(at, mask, drawn.version, drawn.created, drawn.editor, drawn.model))
    return phases
