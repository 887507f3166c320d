"""What is recorded beside a label file of the names of its values: by this app, or by a stock MONAI Label server."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from prato.data.file_identity import FileStamp, file_stamp
from prato.data.labels.names import LABEL_INFO
from prato.data.nifti import gzip_bytes
from prato.data.studies.folder import split_name

#: Folder of the versions of labels, in a studies folder. Not below "labels", where MONAI Label takes each folder for a tag.
HISTORY = "label_history"
#: MONAI Label's list of studies.
LIST_NAME = "datastore_v2.json"
#: In a studies folder, what a process locks that changes what belongs to several studies.
LOCK_NAME = ".lock"


def recorded_label_info(label: Path) -> Any:
    """The names of the values of the file ``label``, as ``structure_numbers`` reads them; None where nothing is recorded.

    Of a label that this app has stored, the values are our own. Of one that was found in the folder, the names are those that the record of
    that very file has, or the list of studies, as a stock MONAI Label server writes it.

    Args:
        label: ``<studies>/labels/<tag>/<study>.nii.gz`` (or ``.nii``); of a file elsewhere, nothing is recorded.
    """
    tag, folder = label.parent.name, label.parent.parent
    if folder.name != "labels":
        return None
    (study, ending), studies = split_name(label.name) or (label.name, ""), folder.parent
    history = studies / HISTORY / tag / study
    listed = _listed_info(studies / LIST_NAME, study, tag, ending)
    if not history.is_dir() and not isinstance(listed.get("sha256"), str):
        return listed.get("label_info")
    digest = _sha256(label)
    if digest is None:
        return None
    record = _last_record(history)
    if record.get("sha256") == digest:
        return LABEL_INFO if record.get("origin") != "found" else _object(record.get("params")).get("label_info")
    return listed.get("label_info") if listed.get("sha256") in (None, digest) else None


def recorded_image_info(studies: str | os.PathLike[str], study: str) -> dict[str, Any]:
    """What MONAI Label's list in the folder ``studies`` says of the image of ``study``; nothing where there is no list, or none of it."""
    return _object(_object(_listed_study(Path(studies) / LIST_NAME, study).get("image")).get("info"))


def recorded_proposal_model(label: Path) -> tuple[str, str] | None:
    """The model that proposed the label in the file ``label``, and its version, as the list of studies says; None of any other file, and
    of one that was changed since, or whose phases may come from several models.

    Args:
        label: ``<studies>/labels/original/<study>.nii.gz`` (or ``.nii``).
    """
    study, ending = split_name(label.name) or (label.name, "")
    if label.parent.name != "original" or label.parent.parent.name != "labels":
        return None
    info = _listed_info(label.parents[2] / LIST_NAME, study, "original", ending)
    version = info.get("model_version") or _object(info.get("params")).get("model_version")
    if not info.get("model") or info.get("phases") is not None:
        return None
    digest = _sha256(label)
    is_it = digest is not None and info.get("sha256") in (None, digest)
    return (str(info["model"]), str(version or "unknown")) if is_it else None


def is_of_another_image(label: Path) -> bool:
    """Whether the list of studies says that the image of the proposal in the file ``label`` was replaced since; as above."""
    study, ending = split_name(label.name) or (label.name, "")
    return _listed_info(label.parents[2] / LIST_NAME, study, "original", ending).get("fits") is False


def _last_record(history: Path) -> dict[str, Any]:
    """The record of the last version in ``history``; nothing where there is none."""
    names = [name for name in os.listdir(history) if name.endswith(".json")] if history.is_dir() else []
    return _read_object(history / max(names, key=lambda name: (len(name), name))) if names else {}


def _listed_info(path: Path, study: str, tag: str, ending: str) -> dict[str, Any]:
    """What the list of studies at ``path`` says of a label; nothing where there is none, or it is of a file with another ending."""
    entry = _object(_object(_listed_study(path, study).get("labels")).get(tag))
    return _object(entry.get("info")) if entry.get("ext", ending) == ending else {}


def _listed_study(path: Path, study: str) -> dict[str, Any]:
    """The entry of ``study`` in the list of studies at ``path``; nothing where there is none."""
    try:
        stamp = file_stamp(path)
        listed = {} if stamp is None else _read_list(path, stamp)
    except OSError:
        return {}
    return _object(_object(listed.get("objects")).get(study))


@lru_cache(maxsize=4)
def _read_list(path: Path, stamp: FileStamp) -> dict[str, Any]:
    """The list at ``path``; ``stamp`` changes when it does. An OSError passes, so that nothing is remembered of it."""
    return _parse_object(path.read_bytes())


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return _parse_object(path.read_bytes())
    except OSError:
        return {}


def _parse_object(data: bytes) -> dict[str, Any]:
    try:
        return _object(json.loads(data))
    except (ValueError, RecursionError):
        return {}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _sha256(label: Path) -> str | None:
    """Of the label as a ``.nii.gz`` file, as records have it; None where it was removed a moment ago: whoever reads it is told so."""
    try:
        data = label.read_bytes()
    except OSError:
        return None
    if label.name.endswith(".nii"):
        data = gzip_bytes(data)
    return hashlib.sha256(data).hexdigest()
