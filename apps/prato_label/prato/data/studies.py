"""A studies folder: its labelled images, and ``manifest.json``, which says what patient, frame and phase each study is.

A studies folder is flat, as MONAI Label wants it: images ``<id>.nii.gz``, expert labels ``labels/final/<id>.nii.gz``. Nothing in it says
which two files are one patient, and a split by file would leak a patient's ES frame into the validation of its ED frame.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prato.data.atomic import write_bytes

MANIFEST_NAME = "manifest.json"
_FRAME_SUFFIX = re.compile(r"(?<=.)_(frame\d+|ED|ES|4d)$", re.IGNORECASE)


class ManifestError(ValueError):
    """A ``manifest.json`` that cannot be used; the message is one sentence."""


class Study(BaseModel):
    """One image of a studies folder. ``frame`` counts from 1, as ACDC does; ``height_cm`` and ``weight_kg`` are the patient's."""

    model_config = ConfigDict(extra="forbid")

    patient: str = Field(min_length=1)
    frame: int | None = Field(default=None, ge=1)
    phase: Literal["ED", "ES"] | None = None
    group: str | None = None
    height_cm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    weight_kg: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Manifest(BaseModel):
    """What ``manifest.json`` holds: where the studies come from and, by image id (file name without ``.nii.gz``), what each one is."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    source: str
    studies: dict[str, Study] = Field(default_factory=dict)


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
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ManifestError(
            f"{path} is not a studies manifest of version 1 ({where}: {first['msg']}): correct it or import again."
        ) from error


def save_manifest(folder: str | os.PathLike[str], manifest: Manifest) -> None:
    """Write ``manifest`` to ``folder`` (which must exist), whole or not at all; the same manifest always gives the same bytes.

    Raises:
        OSError: the folder does not exist or cannot be written to.
    """
    ordered = manifest.model_copy(update={"studies": dict(sorted(manifest.studies.items()))})
    write_bytes(Path(folder) / MANIFEST_NAME, (ordered.model_dump_json(indent=1) + "\n").encode())


def patient_of(study_id: str, manifest: Manifest | None) -> str:
    """The patient that ``study_id`` belongs to: as the manifest says where it lists the id, else the id without its frame or phase ending.

    ``patient001_frame12`` -> ``patient001``, ``phantom003_ES`` -> ``phantom003``, ``case7`` -> ``case7``.
    """
    if manifest is not None and study_id in manifest.studies:
        return manifest.studies[study_id].patient
    return _FRAME_SUFFIX.sub("", study_id)


@dataclass(frozen=True)
class StudyFile:
    """Where one labelled study lies, and whose heart it is."""

    study: str
    patient: str
    image: Path
    label: Path


def find_labelled_studies(folder: str | os.PathLike[str]) -> list[StudyFile]:
    """The studies of ``folder`` that have a label in ``labels/final``, sorted by name."""
    folder = Path(folder)
    manifest = load_manifest(folder)
    found = []
    for label in sorted((folder / "labels" / "final").glob("*.nii.gz")):
        image = folder / label.name
        if image.is_file():
            study = label.name.removesuffix(".nii.gz")
            found.append(StudyFile(study, patient_of(study, manifest), image, label))
    return found
