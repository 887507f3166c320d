"""The sidecar of a cine: its times, and which DICOM instance each of its voxels came from, so that DICOM SEG can refer to them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from prato.data.studies.folder import split_name
from prato.dicom.cines.order import OrderedCine
from prato.dicom.reading.headers import Frame, without_warnings

SCHEMA = "prato-label/cine/1"
_VALID_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*")
#: What may differ between two imports of the same images: what was noted of them, and which of several copies were used.
_OF_COPIES = {"notes"} | {
    f"dicom.{name}"
    for name in (
        "sop_class_uid",
        "series_instance_uids",
        "frame_of_reference_uid",
        "uids_are_valid",
        "sop_instance_uids",
        "series_of_slice",
        "series_of_image",
        "frame_numbers",
    )
}
#: What --keep-identity copies, by DICOM's names.
IDENTITY = (
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "StudyDescription",
    "SeriesDescription",
)


def sidecar_bytes(cine: OrderedCine, array: np.ndarray, patient: str, study: str, notes: list[str], keep_identity: bool) -> bytes:
    """The JSON file of a cine, ``array`` (X, Y, Z, T); docs/dicom.md says what each field is. The same cine gives the same bytes."""
    first = cine.frames[0][0]
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "study": study,
        "patient": patient,
        "phases": len(cine.frames[0]),
        "slices": len(cine.frames),
        "phase_times_ms": None if cine.times_ms is None else np.round(cine.times_ms, 3).tolist(),
        "trigger_times_ms": None if cine.trigger_ms is None else np.round(cine.trigger_ms, 3).tolist(),
        "rr_interval_ms": None if cine.rr_ms is None else round(cine.rr_ms, 3),
        "rr_interval_from": cine.rr_source,
        "phases_sorted_by": cine.order,
        "affine_ras_mm": cine.affine.tolist(),
        "lossy": any(frame.is_lossy for frames in cine.frames for frame in frames),
        "notes": notes,
        "dicom": _dicom(cine, first),
        "voxels_sha256": hash_phases(array),
    }
    if keep_identity:
        content["identity"] = _identity(first)
    return (_dump(content, depth=2) + "\n").encode("utf-8", "replace")


def hash_phases(array: np.ndarray) -> list[str]:
    """Of each phase of ``array`` (X, Y, Z, T), digits that the same values have in any type."""
    return [hashlib.sha256(array[..., t].astype("<f8").tobytes(order="F")).hexdigest()[:16] for t in range(array.shape[3])]


def differences(path: Path, raw: bytes) -> list[str]:
    """In which of its fields, ``"phases"`` or ``"dicom.rows"``, the sidecar ``raw`` says something else than the one at ``path``.

    Hashes of voxels are not missed in sidecars that were written before there were any. A file that is no sidecar differs in ``"schema"``.
    """
    try:
        there, new = json.loads(path.read_bytes()), json.loads(raw)
    except (OSError, ValueError, RecursionError):
        return ["schema"]
    if not isinstance(there, dict) or there.get("schema") != new["schema"] or not isinstance(there.get("dicom"), dict):
        return ["schema"]
    if "voxels_sha256" not in there:
        del new["voxels_sha256"]
    one, other = ({**content, **{f"dicom.{name}": value for name, value in content["dicom"].items()}} for content in (there, new))
    return [name for name in {**one, **other} if name != "dicom" and one.get(name) != other.get(name)]


def is_same_cine(path: Path, raw: bytes) -> bool:
    """Whether ``path`` holds the sidecar ``raw``, be it that copies of the images, under other UIDs, were imported then."""
    return set(differences(path, raw)) <= _OF_COPIES


def note_copies(path: Path, raw: bytes) -> list[str]:
    """A note for a cine whose sidecar at ``path`` names other copies of its images than ``raw``; none where both name the same."""
    if "dicom.sop_instance_uids" not in differences(path, raw):
        return []
    image = path.with_suffix(".nii.gz").name
    return [
        "It is there already, from copies of these images with other UIDs, to which exports of its labels refer. For exports that refer to "
        f"these images, move {image} and {path.name} away and import again: its labels fit."
    ]


def tell_differences(path: Path, raw: bytes) -> str:
    """What the cine of the sidecar at ``path`` has and that of ``raw`` has not, in brackets; nothing where ``path`` cannot be read."""
    found = differences(path, raw)
    if "schema" in found:
        return ""
    there, new = json.loads(path.read_bytes()), json.loads(raw)
    if {"slices", "phases"} & {*found}:
        return f" ({there.get('slices')} slices of {there.get('phases')} phases, and now {new['slices']} of {new['phases']})"
    if "voxels_sha256" in found or not found:
        return " (other voxels)"
    return f" (other values of {', '.join(found)})"


def remove_sidecar(image: Path) -> None:
    """Remove the sidecar of a cine whose ``image`` was removed; another file of that name is left alone.

    Raises:
        OSError: it cannot be removed.
    """
    path = image.with_name(f"{(split_name(image.name) or (image.stem, ''))[0]}.json")
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return
    if isinstance(content, dict) and content.get("schema") == SCHEMA:
        path.unlink(missing_ok=True)


def is_valid_uid(uid: str) -> bool:
    """Whether ``uid`` keeps to DICOM's rules: at most 64 digits and dots, no component with a leading zero."""
    return len(uid) <= 64 and _VALID_UID.fullmatch(uid) is not None


def _dump(value: Any, depth: int, indent: str = "") -> str:
    """JSON with a line for each field, down to ``depth``: lists of numbers are not taken apart."""
    if not isinstance(value, dict) or depth == 0:
        return json.dumps(value, ensure_ascii=False)
    fields = [f"{indent} {json.dumps(name)}: {_dump(one, depth - 1, indent + ' ')}" for name, one in value.items()]
    return "{\n" + ",\n".join(fields) + f"\n{indent}}}"


def _dicom(cine: OrderedCine, first: Frame) -> dict[str, Any]:
    series = list(dict.fromkeys(frame.series for frames in cine.frames for frame in frames))
    instances = [[frame.sop_instance for frame in frames] for frames in cine.frames]
    uids = {first.study, first.frame_of_reference, *series, *(uid for own in instances for uid in own)} - {""}
    is_multiframe = any(frame.number for frames in cine.frames for frame in frames)
    of_image = [[series.index(frame.series) for frame in frames] for frames in cine.frames]
    content = {
        "sop_class_uid": first.sop_class,
        "study_instance_uid": first.study,
        "series_instance_uids": series,
        "frame_of_reference_uid": first.frame_of_reference,
        "uids_are_valid": all(map(is_valid_uid, uids)),
        "rows": first.rows,
        "columns": first.columns,
        "pixel_spacing_mm": list(first.spacing),
        "slice_thickness_mm": first.thickness,
        "image_orientation_patient": list(first.orientation),
        "image_position_patient": [list(frames[0].position) for frames in cine.frames],
        "sop_instance_uids": instances,
        "series_of_slice": [own[0] for own in of_image],
        "frame_numbers": [[frame.number + 1 for frame in frames] for frames in cine.frames] if is_multiframe else None,
    }
    return content | ({"series_of_image": of_image} if any(len(set(own)) > 1 for own in of_image) else {})


def _identity(frame: Frame) -> dict[str, str]:
    with frame.file.open() as stream, without_warnings():
        dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
        return {name: str(dataset.get(name, "") or "") for name in IDENTITY}
