"""The sidecar of a cine, read back: which DICOM instances its voxels came from, so that what is drawn on it can refer to them."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prato.data.nifti import Volume
from prato.data.studies.folder import is_study_id
from prato.data.wording import first_fault
from prato.dicom.origin.sidecar import SCHEMA, is_valid_uid
from prato.dicom.reading.files import DicomError

#: Of the UIDs of what is exported, which are hashes of what it says and of where it comes from (X.667, version 5).
_NAMESPACE = uuid.UUID("6f1d1b9e-9a40-4f0c-9f0b-0a0c3f6a7a52")
#: An image is the one of the sidecar when no corner of it lies further away, mm: the affine of NIfTI files is rounded to float32.
_SAME_MM = 0.01


class DicomOrigin(BaseModel):
    """The field ``dicom`` of a sidecar; docs/dicom.md says what each of its fields is. LPS mm."""

    model_config = ConfigDict(frozen=True)

    sop_class_uid: str
    study_instance_uid: str
    series_instance_uids: list[str] = Field(min_length=1)
    frame_of_reference_uid: str
    rows: int = Field(gt=0)
    columns: int = Field(gt=0)
    pixel_spacing_mm: tuple[float, float]
    slice_thickness_mm: float | None
    image_orientation_patient: tuple[float, float, float, float, float, float]
    image_position_patient: list[tuple[float, float, float]]
    sop_instance_uids: list[list[str]]
    series_of_slice: list[int]
    #: Of each slice and phase, where the phases of a slice are of several series.
    series_of_image: list[list[int]] | None = None
    frame_numbers: list[list[int]] | None


class CineReference(BaseModel):
    """Where a cine comes from. Slices and phases count from 0."""

    model_config = ConfigDict(frozen=True)

    layout: Literal["prato-label/cine/1"] = Field(alias="schema")
    study: str
    patient: str
    phases: int = Field(gt=0)
    slices: int = Field(gt=0)
    affine_ras_mm: list[list[float]]
    dicom: DicomOrigin
    #: Of each phase, as ``prato.dicom.origin.sidecar.hash_phases``; cines that were imported by older versions have none.
    voxels_sha256: list[str] | None = None

    @model_validator(mode="after")
    def _check_sizes(self) -> CineReference:
        if not is_study_id(self.study):
            raise ValueError("its study's name cannot be a part of a file's")
        origin = self.dicom
        tables = [table for table in (origin.sop_instance_uids, origin.frame_numbers, origin.series_of_image) if table is not None]
        if any(len(table) != self.slices or any(len(row) != self.phases for row in table) for table in tables):
            raise ValueError("it does not have one instance per slice and phase")
        if len(origin.image_position_patient) != self.slices or len(origin.series_of_slice) != self.slices:
            raise ValueError("it does not have one position per slice")
        if self.voxels_sha256 is not None and len(self.voxels_sha256) != self.phases:
            raise ValueError("it does not have one hash per phase")
        series = [origin.series_of_slice, *(origin.series_of_image or ())]
        if not all(0 <= n < len(origin.series_instance_uids) for own in series for n in own):
            raise ValueError("a slice is of a series that it does not list")
        return self

    @classmethod
    def load(cls, path: Path) -> CineReference:
        """The sidecar at ``path``.

        Raises:
            DicomError: it cannot be read, or is no sidecar of an imported cine.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise DicomError(f"{path.name} cannot be read ({error.strerror})") from error
        except ValidationError as error:
            raise DicomError(f"{path.name} is not a sidecar of {SCHEMA} ({first_fault(error)}): import the cine again") from error

    @property
    def invalid_uids(self) -> list[str]:
        """The source's UIDs that break DICOM's rules, those of study, series and frame of reference first."""
        origin = self.dicom
        own = [origin.study_instance_uid, *origin.series_instance_uids, origin.frame_of_reference_uid]
        uids = [*own, *(uid for row in origin.sop_instance_uids for uid in row)]
        return [uid for uid in dict.fromkeys(uids) if uid and not is_valid_uid(uid)]

    def instance_uids(self) -> set[str]:
        """The SOP instance UIDs of all images of the cine."""
        return {uid for row in self.dicom.sop_instance_uids for uid in row if uid}

    def images_of_phase(self, t: int) -> list[tuple[str, str, int | None]]:
        """Series UID, SOP instance UID and (of multi-frame objects) frame number of each slice of phase ``t``."""
        origin = self.dicom
        numbers, of_image = origin.frame_numbers, origin.series_of_image
        series = [of_image[k][t] if of_image else origin.series_of_slice[k] for k in range(self.slices)]
        return [
            (origin.series_instance_uids[series[k]], origin.sop_instance_uids[k][t], numbers[k][t] if numbers else None)
            for k in range(self.slices)
        ]

    def why_other_image(self, image: Volume) -> str | None:
        """Why ``image`` (X, Y, Z) is not on the grid of this cine; None where it is."""
        shape = (self.dicom.columns, self.dicom.rows, self.slices)
        if image.array.shape != shape:
            return f"it has {'x'.join(map(str, image.array.shape))} voxels and the DICOM images {'x'.join(map(str, shape))}"
        corners = np.array(
            [[x * (shape[0] - 1), y * (shape[1] - 1), z * (shape[2] - 1), 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]
        )
        off = float(np.abs((corners @ (image.affine - np.array(self.affine_ras_mm)).T)[:, :3]).max())
        return f"it lies {off:.2f} mm off the DICOM images" if off > _SAME_MM else None


def uid_from_content(*parts: Any) -> str:
    """A valid UID (2.25.…) that is the same for the same ``parts``."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode("utf-8", "replace")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return f"2.25.{uuid.uuid5(_NAMESPACE, digest.hexdigest()).int}"
