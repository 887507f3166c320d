"""DICOM in, cines out: every short-axis cine becomes a 4D NIfTI file with a sidecar, and what is left out is named with the reason."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from prato.data.atomic import make_folder, remove_abandoned, stage_bytes
from prato.data.cine import cine_bytes
from prato.data.nifti import gzip_bytes, nifti_bytes, unzipped
from prato.data.studies.folder import Manifest, ManifestError, Study, load_manifest
from prato.data.studies.listing import listed_first
from prato.dicom.cines.end_systole import guess_end_systole
from prato.dicom.cines.find import FoundCine, find_cines, identify
from prato.dicom.cines.identity import pseudonym
from prato.dicom.cines.series import by_series
from prato.dicom.cines.stacks import LeftOut
from prato.dicom.origin.known_cines import find_same_hearts, load_known_cines
from prato.dicom.origin.sidecar import is_same_cine, note_copies, sidecar_bytes, tell_differences
from prato.dicom.reading.files import LIMITS, UNREADABLE, ArchiveLimits, DicomError, SourceFile, file_length, open_source
from prato.dicom.reading.headers import Frame, read_frames
from prato.dicom.reading.pixels import read_pixels

SOURCE = "DICOM"
#: The studies folder within the target that single phases go to.
PHASES = "phases"
#: Endings of what may hold images and is not opened.
_PACKED = (".zip", ".7z", ".rar", ".tar", ".tgz", ".iso", ".gz", ".bz2", ".xz")
Phases = Literal["none", "ed,es", "all"]
Progress = Callable[[list[SourceFile]], Iterable[SourceFile]]


@dataclass(frozen=True)
class ImportedCine:
    """A cine that was written: its file's name without ending, where it came from, and what was guessed."""

    study: str
    label: str
    slices: int
    phases: int
    step_ms: float | None
    notes: tuple[str, ...]
    is_new: bool


@dataclass
class Report:
    """What an import did.

    Attributes:
        refused: a sentence for each short-axis cine that could not be imported.
        left_out: a sentence for each series, or kind of file, that is none. warnings: what was guessed.
    """

    imported: list[ImportedCine] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def import_dicom(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    phases: Phases = "none",
    keep_identity: bool = False,
    limits: ArchiveLimits = LIMITS,
    progress: Progress = lambda files: files,
    home: Path | None = None,
) -> Report:
    """Write the short-axis cines of ``source`` (folder, zip, DICOMDIR or one file) to ``target``, each whole or not at all.

    Files: ``<patient>_<examination>_4d.nii.gz`` and ``.json`` (docs/dicom.md), and ``manifest.json``. With ``phases``, single phases go to
    the studies folder ``target/phases`` too. The same source always gives the same names and bytes, and a cine that is there keeps
    its name; a file that is there with other content is left as it is, and its cine refused.

    Args:
        phases: which phases are also written as 3D studies. keep_identity: whether names, numbers and dates may be written.
        limits: of an archive. home: the folder that the files will be moved to, whose cines keep their names; ``target`` where None.

    Raises:
        DicomError: ``source`` or ``target`` cannot be used; nothing has been written.
        OSError: ``target`` cannot be written to.
    """
    folder = Path(target)
    if folder.exists() and not folder.is_dir():
        raise DicomError(f"{folder} is a file: give a folder for the cines.")
    for place in (folder, folder / PHASES):
        _open_manifest(place)
        remove_abandoned(place)
    report = Report()
    with open_source(source, limits) as files:
        frames = _read_all(files, report, progress)
        if not frames and not report.left_out:
            raise DicomError(f"{source} holds no DICOM files.")
        report.warnings += [*_shared_numbers(frames), *_unnumbered(frames, _open_manifest(folder) if home is None else load_manifest(home))]
        studies: dict[str, list[list[Frame]]] = defaultdict(list)
        for key, own in by_series(frames).items():
            studies[key[0]].append(own)
        known = load_known_cines(home or folder)
        left_out: list[list[LeftOut]] = []
        for series in studies.values():
            found = find_cines(series, keep_identity)
            report.warnings += found.warnings
            left_out.append(found.left_out)
            report.refused += found.refused
            for cine in known.keep_names(found.cines):
                try:
                    report.imported.append(write_cine(cine, folder, phases, keep_identity))
                except DicomError as error:
                    report.refused.append(f"{cine.label}: {error}.")
        report.left_out += [str(one) for one in _merge(left_out)]
    report.warnings += find_same_hearts(folder, {cine.study for cine in report.imported if cine.is_new})
    return report


def _read_all(files: list[SourceFile], report: Report, progress: Progress) -> list[Frame]:
    """All frames; one that was sent twice (the same instance) counts once, and UIDs that several images have name none of them."""
    found: dict[tuple[str | SourceFile, int], Frame] = {}
    shared: set[str] = set()
    problems: dict[str, list[str]] = defaultdict(list)
    other = twice = 0
    for file in progress(files):
        try:
            frames = _read(file)
        except DicomError as error:
            problems[str(error)].append(file.name)
            continue
        other += not frames
        for frame in frames:
            key = (frame.sop_instance or file, frame.number)
            if key not in found:
                found[key] = frame
            elif _what(frame) == _what(found[key]):
                twice += 1
                if file_length(file) > file_length(found[key].file):  # the other may be cut short
                    found[key] = frame
            else:
                shared.add(frame.sop_instance)
                found[file, frame.number] = frame
    for problem, names in sorted(problems.items()):
        report.left_out.append(f"{names[0]}{f' and {len(names) - 1} more files' if len(names) > 1 else ''}: {problem}")
    if twice:
        images = "1 image occurs" if twice == 1 else f"{twice} images occur"
        report.warnings.append(f"{images} twice, with the same SOP instance UID: each is used once.")
    if other and found:
        report.left_out.append(f"{other} file{'s' * (other != 1)}: not DICOM images")
    nameless = sum(not (frame.study and frame.series and frame.sop_instance) for frame in found.values())
    if nameless:
        images = "1 image lacks" if nameless == 1 else f"{nameless} images lack"
        report.warnings.append(f"{images} the UID of study, series or instance: labels on them cannot be exported.")
    frames = [replace(frame, sop_instance="") if frame.sop_instance in shared else frame for frame in found.values()]
    if shared:
        count = sum(frame.sop_instance in shared for frame in found.values())
        report.warnings.append(
            f"{count} different images share {len(shared)} SOP instance UID{'s' * (len(shared) != 1)}: labels on them cannot be exported."
        )
    return frames


def _shared_numbers(frames: Iterable[Frame]) -> Iterable[str]:
    """A sentence for each patient number under which several people were examined, as where somebody has made all patients one."""
    births, names = defaultdict[tuple[str, str], set[str]](set), defaultdict[tuple[str, str], set[str]](set)
    for number, issuer, name, birth in sorted({frame.patient for frame in frames if frame.patient[0]}):
        births[number, issuer] |= {birth} - {""}
        names[number, issuer] |= {re.sub(r"[\W_]+", " ", name).strip().casefold()} - {""}
    for patient, own in births.items():
        count = len(own) or len(names[patient])  # people change their names, and are not born twice
        if count > 1:
            what = "birth dates" if own else "names"
            yield f"p{pseudonym(*patient)} has {count} {what}: all who have this patient number count as one patient."


def _unnumbered(frames: Iterable[Frame], there: Manifest | None) -> Iterable[str]:
    """A sentence for everybody with several examinations, in ``frames`` or ``there``, and no number that tells people apart."""
    examinations: dict[str, set[str]] = defaultdict(set)
    for who, study in sorted({(identify(frame), frame.study) for frame in frames if not re.search("[1-9]", frame.patient[0])}):
        examinations[f"p{pseudonym(*who)}"].add(pseudonym(study))
    for name, entry in there.studies.items() if there else ():
        if entry.patient in examinations:
            examinations[entry.patient].add(name.removeprefix(f"{entry.patient}_").split("_")[0])
    for patient, own in examinations.items():
        if len(own) > 1:
            yield (
                f"{patient} has {len(own)} examinations and, instead of a patient number, nothing or a word: they count as those of one "
                "patient. If they are of several, give each a number, and import them into another folder."
            )


def _read(file: SourceFile) -> list[Frame]:
    try:
        frames = read_frames(file)
    except UNREADABLE as error:
        raise DicomError("cannot be read") from error
    name = file.name.lower()
    if not frames and name.endswith(_PACKED) and not name.endswith(".nii.gz"):
        raise DicomError("an archive or a compressed file, which is not opened: unpack it first")
    return frames


def _what(frame: Frame) -> tuple[object, ...]:
    """What tells the image ``frame`` from another, whoever it is said to be of."""
    when = frame.trigger_ms, frame.temporal_index, frame.instance_number
    return frame.rows, frame.columns, frame.position, frame.orientation, frame.kind, frame.echo_ms, *when


def _merge(examinations: Iterable[list[LeftOut]]) -> list[LeftOut]:
    """One line for all blocks that were left out of series of one name for the same reason, of however many examinations."""
    files, held = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for left_out in examinations:
        held.update({(one.label, one.reason) for one in left_out})
        for one in left_out:
            files[one.label, one.reason] += one.files
    return [
        LeftOut(label if held[label, reason] == 1 else f"{label} in {held[label, reason]} examinations", count, reason)
        for (label, reason), count in files.items()
    ]


def write_cine(found: FoundCine, folder: Path, phases: Phases = "none", keep_identity: bool = False) -> ImportedCine:
    """Write the cine ``found`` with its sidecar as ``<study>_4d``, whole or not at all, and list it in the manifest.

    Raises:
        DicomError: pixels that cannot be read, or other content under that name.
        OSError: ``folder`` cannot be written to.
    """
    cine, patient, study = found.cine, found.patient, found.study
    array = read_pixels(cine.frames)
    notes = list(cine.notes)
    contents = {folder / f"{study}_4d.nii.gz": cine_bytes(array, cine.affine, cine.step_ms)}
    entries = {folder: {f"{study}_4d": Study(patient=patient)}}
    if phases != "none":
        end_systole = guess_end_systole(array, cine)
        if phases == "ed,es":
            notes.append(f"Frame 1 is taken as end-diastole and frame {end_systole + 1} as end-systole: a guess from the images.")
        wanted = range(array.shape[3]) if phases == "all" else sorted({0, end_systole})
        entries[folder / PHASES] = {}
        for t in wanted:
            name = f"{study}_frame{t + 1:02d}"
            phase: Literal["ED", "ES"] | None = None if phases == "all" else "ES" if t == end_systole else "ED"
            entries[folder / PHASES][name] = Study(patient=patient, frame=t + 1, phase=phase, guessed=True if phase else None)
            contents[folder / PHASES / f"{name}.nii.gz"] = nifti_bytes(array[..., t], cine.affine)
    sidecar, told = folder / f"{study}_4d.json", sidecar_bytes(cine, array, patient, study, list(cine.notes), keep_identity)
    contents[sidecar] = told
    changed = {path: raw for path, raw in contents.items() if unzipped(path) != raw and not (path == sidecar and is_same_cine(path, raw))}
    for path in changed:
        if path.exists():
            away = f"move {study}_4d.nii.gz, {sidecar.name} and its labels away, or choose another folder"
            raise DicomError(f"{path.name} already exists with other content{tell_differences(sidecar, told)}: {away}")
    notes += note_copies(sidecar, told)
    with ExitStack() as staged:
        for place in entries:
            make_folder(place)
        for path, raw in reversed(changed.items()):
            staged.enter_context(stage_bytes(path, gzip_bytes(raw) if path.suffix == ".gz" else raw))
        for place, own in entries.items():  # before they are in place: whoever finds them knows whose they are
            if _open_manifest(place).add(own):
                with listed_first(place, SOURCE, own):
                    pass
    return ImportedCine(f"{study}_4d", found.label, array.shape[2], array.shape[3], cine.step_ms, tuple(notes), bool(changed))


def _open_manifest(folder: Path) -> Manifest:
    try:
        manifest = load_manifest(folder)
    except ManifestError as error:
        raise DicomError(str(error)) from error
    if manifest is not None and manifest.source != SOURCE:
        raise DicomError(f"{folder} holds {manifest.source} studies, as its manifest says: give another folder for DICOM.")
    return manifest or Manifest(source=SOURCE)
