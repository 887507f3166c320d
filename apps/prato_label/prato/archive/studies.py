"""Which studies are to be labelled, and with which boxes."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prato.data.studies.folder import find_files, is_study_id, printed, split_name

logger = logging.getLogger(__name__)
_BOUNDS = ("i0", "i1", "j0", "j1", "k0", "k1")


class ArchiveError(ValueError):
    """Studies, boxes or a run's folder that cannot be used; the message is one sentence."""


@dataclass(frozen=True)
class Job:
    """One study to label: its id, its image's absolute path, and its ``roi`` as in ``docs/protocol/infer.md`` (None: proposed)."""

    study: str
    image: str
    roi: list[Any] | dict[str, Any] | None = None


def read_jobs(studies: Path, boxes: Path | None) -> list[Job]:
    """The studies of a folder (its NIfTI files) or of a list, sorted by id, each with its boxes.

    Args:
        studies: a folder; or a text file with an image's path a line, or a ``.csv`` with a column ``image`` and, where file names are not
            unique, a column ``id``. Paths are relative to the list.
        boxes: a ``.json`` object, id -> roi, or a ``.csv`` with the columns id, i0, i1, j0, j1, k0, k1 (several rows: several boxes).

    Raises:
        ArchiveError: one of the files cannot be read, holds something else, names an id twice or none, or a box for no study.
    """
    images: dict[str, Path] = {}
    for study, image in _in_folder(studies) if studies.is_dir() else _in_list(studies):
        if not is_study_id(study) or study.startswith("."):
            raise ArchiveError(f"{study!a:.60} cannot be a study's id: use printable text without slashes, and no dot at its beginning.")
        if study in images:
            raise ArchiveError(
                f"Two images are called {study} ({images[study]} and {image}): give each an id of its own in the column id of a .csv list."
            )
        images[study] = image.absolute()
    if not images:
        raise ArchiveError(f"{studies} holds no studies: it must be a folder of .nii.gz images, or a list of images.")
    rois = _boxes(boxes) if boxes else {}
    stray = sorted(set(rois) - set(images))
    if stray:
        raise ArchiveError(f"{boxes} has a box for {stray[0]}, which is no study here: name studies by their ids.")
    return [Job(study, str(images[study]), rois.get(study)) for study in sorted(images)]


def _in_folder(folder: Path) -> Iterator[tuple[str, Path]]:
    found = find_files(folder)
    for sentence in found.left_out.values():
        logger.warning("%s", sentence)
    yield from found.files.items()


def _in_list(path: Path) -> Iterator[tuple[str, Path]]:
    text = _text(path, "a folder of studies, or a list of images")
    if path.suffix == ".csv":
        for row in _rows(path, text, ("image",)):
            study, image = _listed_image(path, row["image"])
            yield row.get("id") or study, image
    else:
        yield from (_listed_image(path, line.strip()) for line in text.splitlines() if line.strip())


def _listed_image(path: Path, name: str) -> tuple[str, Path]:
    """The id and the path of the image that the list at ``path`` calls ``name``."""
    image = path.parent / name
    parts = split_name(image.name)
    if parts is None:
        raise ArchiveError(f"{path} is no list of studies, as {printed(name):.60} is no image: name a .nii.gz or .nii file on each line.")
    return parts[0], image


def _boxes(path: Path) -> Mapping[str, list[Any] | dict[str, Any]]:
    text = _text(path, "a file of boxes")
    if path.suffix == ".csv":
        rois: dict[str, list[Any]] = {}
        for row in _rows(path, text, ("id", *_BOUNDS)):
            try:
                rois.setdefault(row["id"], []).append([float(row[name]) for name in _BOUNDS])
            except ValueError:
                raise ArchiveError(f"{path} has a box for {row['id']} with a non-numeric bound: give {', '.join(_BOUNDS)}.") from None
        return rois
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(roi, (list, dict)) for roi in found.values()):
        raise ArchiveError(f"{path} is not a file of boxes: it must be a JSON object, study id -> [i0,i1,j0,j1,k0,k1], or a .csv.")
    return found


def _text(path: Path, wanted: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise ArchiveError(f"{path} cannot be read: it must be {wanted}.") from None


def _rows(path: Path, text: str, columns: Iterable[str]) -> Iterator[dict[str, str]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    missing = [name for name in columns if name not in (reader.fieldnames or [])]
    if missing:
        raise ArchiveError(f"{path} has no column {missing[0]}: its first line must name the columns {', '.join(columns)}.")
    for row in reader:
        if any(not row[name] for name in columns):
            raise ArchiveError(f"{path} has a line without {', '.join(columns)} (line {reader.line_num}): fill it in or take it out.")
        yield row
