"""All labels of a studies folder."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from prato.labelling.files import HISTORY, SUFFIX
from prato.labelling.version import UnknownVersionError
from prato.labelling.versions import LabelVersions


def labelled_names(studies: str | os.PathLike[str], tag: str = "final") -> list[str]:
    """The studies that have, or once had, a label with ``tag``, sorted."""
    stored = (name for name in _names(Path(studies) / "labels" / tag) if name[0] != "." and name.endswith((SUFFIX, ".nii")))
    kept = (name for name in _names(Path(studies) / HISTORY / tag) if name[0] != ".")
    return sorted({*(name.removesuffix(".gz").removesuffix(".nii") for name in stored), *kept})


def repair(studies: str | os.PathLike[str]) -> None:
    """Complete or drop what a killed process left half done, in the labels of all studies and tags."""
    for tag in _names(Path(studies) / HISTORY):
        for study in _names(Path(studies) / HISTORY / tag):
            with suppress(UnknownVersionError):  # somebody else's folder
                LabelVersions(studies, study, tag).repair()


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []
