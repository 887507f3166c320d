"""The labelled studies of a folder that a measurement is about."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prato.data.studies.folder import StudyFile, find_labelled_studies
from prato.data.studies.splits import load_split


def require_labelled_studies(folder: Path, split: Path | None, count: int | None = None) -> list[StudyFile]:
    """The studies of ``folder`` with a final label, sorted by id.

    Args:
        split: split file, whose validation patients alone are wanted; None for all.
        count: of so many patients at most, the first by name.

    Raises:
        ValueError: there is none, or ``split`` is no split file.
    """
    files = find_labelled_studies(folder)
    wanted = {each.patient for each in files} if split is None else {*load_split(split).validation}
    patients = sorted(wanted.intersection(each.patient for each in files))[:count]
    if not patients:
        who = "" if split is None else f" of the validation patients of {split}"
        raise ValueError(f"{folder} has no labelled studies{who} to measure: labels belong in its folder labels/final.")
    return [each for each in files if each.patient in patients]


def group_by_patient(files: Iterable[StudyFile]) -> dict[str, list[StudyFile]]:
    """``files`` by patient, in the order of their names."""
    found: dict[str, list[StudyFile]] = {}
    for each in files:
        found.setdefault(each.patient, []).append(each)
    return dict(sorted(found.items()))
