"""A studies folder: its images and labels, and ``manifest.json``, which says what patient, frame and phase each study is.

A studies folder is flat, as MONAI Label wants it: images ``<id>.nii.gz`` or ``<id>.nii``, expert labels of the same names in
``labels/final``. A study's identity is its name in the folder, also where that is a link to a file with another. Nothing in a folder says
which two files are one patient, and a split by file would leak a patient's ES frame into the validation of its ED frame.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from prato.data.atomic import write_bytes
from prato.data.wording import first_fault

MANIFEST_NAME = "manifest.json"
#: Of the files of images and labels, the longest first.
ENDINGS = (".nii.gz", ".nii")
#: Of files that hold images in other formats; people take them for studies.
OTHER_FORMATS = (
    *(".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".img", ".dcm", ".ima", ".mgz", ".mgh", ".mnc", ".gipl", ".gipl.gz", ".img.gz"),
    *(".nii.bz2", ".nii.xz", ".nii.zst", ".nii.zip", ".nia", ".nii.gz.gz"),
)
#: The longest part of a path is 255 bytes, and a temporary file's name is longer than the study's.
_MAX_ID_BYTES = 230
logger = logging.getLogger(__name__)
_FRAME_SUFFIX = re.compile(r"(?<=.)_(frame\d+|ED|ES|4d)$", re.IGNORECASE)


def compose(name: str) -> str:
    """``name`` with each letter and its accents in one, as some systems store them, and others as two."""
    return unicodedata.normalize("NFC", name)


class ManifestError(ValueError):
    """A ``manifest.json`` that cannot be used; the message is one sentence."""


class Study(BaseModel):
    """One image of a studies folder. ``frame`` counts from 1, as ACDC does; ``ed`` and ``es``, a cine's phases of end-diastole and
    end-systole, count from 0; ``height_cm`` and ``weight_kg`` are the patient's. ``guessed``: an import guessed ``phase``."""

    model_config = ConfigDict(extra="forbid")

    patient: Annotated[str, Field(min_length=1), AfterValidator(compose)]
    frame: int | None = Field(default=None, ge=1)
    phase: Literal["ED", "ES"] | None = None
    guessed: bool | None = None
    ed: int | None = Field(default=None, ge=0)
    es: int | None = Field(default=None, ge=0)
    group: str | None = None
    height_cm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    weight_kg: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Manifest(BaseModel):
    """What ``manifest.json`` holds: where the studies come from and, by image id (file name without ``.nii.gz``), what each one is."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    source: str
    studies: dict[str, Study] = Field(default_factory=dict)

    def add(self, entries: Mapping[str, Study]) -> bool:
        """List ``entries``, by image id; whether that changes anything. Of studies that are listed, only what is not known is taken.

        An import that is run again must not undo what somebody has entered since: height, weight, group, phases.
        """
        before = dict(self.studies)
        for study, entry in entries.items():
            known = self.studies.get(study)
            listed = {} if known is None else known.model_dump(exclude_none=True)
            new = entry.model_dump(exclude_none=True, exclude={"guessed"} if "phase" in listed else None)
            self.studies[study] = Study.model_validate({**new, **listed})
        return self.studies != before


def load_manifest(folder: str | os.PathLike[str]) -> Manifest | None:
    """The manifest of the studies folder ``folder``; None where it has none.

    Raises:
        ManifestError: the file is there but is not a manifest of version 1.
    """
    path = Path(folder) / MANIFEST_NAME
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}).") from error
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ManifestError(f"{path} is not a studies manifest of version 1 ({first_fault(error)}): correct it or import again.") from error


def save_manifest(folder: str | os.PathLike[str], manifest: Manifest) -> None:
    """Write ``manifest`` to ``folder`` (which must exist), whole or not at all; the same manifest always gives the same bytes.

    Raises:
        OSError: the folder does not exist or cannot be written to.
    """
    ordered = manifest.model_copy(update={"studies": dict(sorted(manifest.studies.items()))})
    write_bytes(Path(folder) / MANIFEST_NAME, (ordered.model_dump_json(indent=1, exclude_none=True) + "\n").encode())


def patient_of(study_id: str, manifest: Manifest | None) -> str:
    """The patient that ``study_id`` belongs to: as the manifest says where it lists the id, else the id without its frame or phase ending.
    Names of patients are the same however their accents are stored.

    ``patient001_frame12`` -> ``patient001``, ``phantom003_ES`` -> ``phantom003``, ``case7`` -> ``case7``.
    """
    if manifest is not None and study_id in manifest.studies:
        return manifest.studies[study_id].patient
    return compose(_FRAME_SUFFIX.sub("", study_id))


def examination_of(study_id: str, patient: str) -> str:
    """What single frames of one examination of ``patient`` have in common, for a patient may be examined again: their ids without the frame
    or phase. Ids that end otherwise tell no examinations apart, and give the patient.

    ``p1_a_frame12`` of ``p1`` -> ``p1_a``, ``patient001_frame01`` of ``patient001`` -> ``patient001``, ``case7`` of ``p1`` -> ``p1``.
    """
    examination = _FRAME_SUFFIX.sub("", study_id)
    return patient if examination == study_id else examination


def describe_study(folder: str | os.PathLike[str], study: str) -> Study:
    """What the manifest of ``folder`` says of ``study``; whose it is alone where it does not list it, or cannot be used: whoever imports or
    trains is told that."""
    try:
        manifest = load_manifest(folder)
    except ManifestError:
        manifest = None
    return (manifest.studies.get(study) if manifest else None) or Study(patient=patient_of(study, None))


def split_name(name: str) -> tuple[str, str] | None:
    """The id and the ending of the file ``name`` of an image or label; None where it is not called like one.

    ``a.nii.gz`` -> (``a``, ``.nii.gz``). The ending is taken off once.
    """
    return next(((name.removesuffix(ending), ending) for ending in ENDINGS if name.endswith(ending)), None)


def is_study_id(text: str) -> bool:
    """Whether ``text`` can be a study's id, a part of the names of files, of requests and of replies."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # bytes in a file's name that are no text
        return False
    return 0 < size <= _MAX_ID_BYTES and text not in (".", "..") and text.isprintable() and not {"/", "\\"} & {*text}


def printed(name: str) -> str:
    """A file's ``name`` as it stands in logs and on terminals: in one line, and without what would command them."""
    return name if is_study_id(name) else ascii(name)


@dataclass(frozen=True)
class FoundFiles:
    """The images, or the labels, of a folder.

    Attributes:
        files: by the study's id, sorted.
        left_out: why other files with a name like theirs are none, by that name; one sentence each.
    """

    files: dict[str, Path]
    left_out: dict[str, str]


def find_files(folder: str | os.PathLike[str]) -> FoundFiles:
    """The images, or the labels, in ``folder``, by one rule for server, training and scripts; none where there is no such folder.

    They are files, or links to files, whose names end in one of ``ENDINGS`` once and begin with no dot. Nothing is opened: a file that is
    damaged, or that may not be read, is among them, and whoever reads it is told.
    """
    files: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    folder = Path(folder)
    # longer endings first: of two files of one name, a.nii.gz is the study
    for name in sorted(os.listdir(folder) if folder.is_dir() else (), key=lambda name: (not name.endswith(ENDINGS[0]), name)):
        parts = split_name(name)
        fault = _fault(folder / name, parts)
        if fault is None and parts is not None and parts[0] in files:
            fault = f"there is {files[parts[0]].name} beside it"
        if fault is not None:
            left_out[name] = f"{printed(name)} is left out: {fault}."
        elif parts is not None:
            files[parts[0]] = folder / name
    return FoundFiles(dict(sorted(files.items())), left_out)


def _fault(path: Path, parts: tuple[str, str] | None) -> str | None:
    """Why the file at ``path`` is no image or label although it is called like one; None where it is one, or is called otherwise."""
    if parts is None:
        lower = path.name.lower()
        if lower.endswith(OTHER_FORMATS) and not lower.startswith("."):
            return "its format is not read: convert it to .nii.gz, for instance with 3D Slicer or dcm2niix"
        return "its ending must be in lower case, .nii.gz or .nii" if split_name(lower) else None
    if path.name.startswith("."):
        return "names that begin with a dot belong to other programs"
    if split_name(parts[0]) is not None:
        return "its name has two endings, so its id is unclear"
    if not is_study_id(parts[0]):
        return f"its name must be printable text of at most {_MAX_ID_BYTES} bytes without slashes"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"{'it is a link to nothing' if path.is_symlink() else 'it cannot be found'} ({error.strerror})"
    return None if stat.S_ISREG(mode) else "it is a folder or a device, not a file"


@dataclass(frozen=True)
class StudyFile:
    """Where one labelled study lies, and whose heart it is; of a cine, which ``phase`` (from 0) is meant where it is one."""

    study: str
    patient: str
    image: Path
    label: Path
    phase: int | None = None

    @property
    def name(self) -> str:
        """What results call it."""
        return self.study if self.phase is None else f"{self.study} phase {self.phase}"


def why_of_no_study(label: str, studies: Iterable[str]) -> str:
    """Why the label of this name is that of none of ``studies``, whose names may look the same."""
    if compose(label) in map(compose, studies):
        return "an image looks as if it had its name, but stores an accent in another way: rename one like the other"
    return "no image has its name"


def require_folder(folder: str | os.PathLike[str]) -> Path:
    """``folder``, where it is one: a name that was mistyped is not an empty folder of studies.

    Raises:
        ValueError: it is none.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"{folder} is not a folder: name a studies folder.")
    return Path(folder)


def find_labelled_studies(folder: str | os.PathLike[str]) -> list[StudyFile]:
    """The studies of ``folder`` that have a label in ``labels/final``, sorted by id; what is left out there is logged.

    Raises:
        ValueError: there is no such folder, or its manifest cannot be used (ManifestError).
    """
    folder = require_folder(folder)
    manifest = load_manifest(folder)
    images, labels = find_files(folder), find_files(folder / "labels" / "final")
    lost = {study: path.name for study, path in labels.files.items() if study not in images.files}
    strangers = [f"The label {name} is left out: {why_of_no_study(study, images.files)}." for study, name in lost.items()]
    for sentence in (*images.left_out.values(), *labels.left_out.values(), *strangers):
        logger.warning("%s", sentence)
    return [
        StudyFile(study, patient_of(study, manifest), images.files[study], label)
        for study, label in labels.files.items()
        if study in images.files
    ]
