"""Folders of other programs and data sets, by name: how their cases are found, and how final labels are written as one of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from prato.data.labels.names import LabelError
from prato.data.structures import STRUCTURES, structure_from_name
from prato.data.studies.folder import examination_of
from prato.exchange.cases import FolderError, Reader
from prato.exchange.final_labels import FinalLabels, Progress
from prato.exchange.nnunet import require_empty
from prato.exchange.staging import move_into_place, staging_folder
from prato.runtime.registry import Registry, import_modules

Phases = Literal["ed,es", "all", "cine"]
#: Value -> structure; None where the user has named no convention.
Convention = Mapping[str, str] | None


class Layout(Protocol):
    """One way to lay out images and masks in a folder.

    Attributes:
        name: of the data set, for manifests. about: one line for users.
    """

    @property
    def name(self) -> str: ...

    @property
    def about(self) -> str: ...

    def find(self, source: Path, convention: Convention, phases: Phases) -> list[Reader]:
        """A reader for each subject of ``source``.

        Raises:
            FolderError: it is no such folder.
        """
        ...

    def write(self, labels: FinalLabels, studies: Iterable[str], target: Path, values: np.ndarray) -> list[str]:
        """Write ``studies`` to the empty folder ``target``; returns those that have a place in the layout.

        Args:
            labels: reads them; its ``left_out`` takes the reason for each of the others. values: our value -> the value to be written.
        """
        ...


_LAYOUTS: Registry[Layout] = Registry("layouts")


def register_layout(key: str, layout: Layout) -> None:
    """Make ``layout`` known under ``key``, by which users ask for it.

    Raises:
        ValueError: another layout is registered by that name.
    """
    _LAYOUTS.register(key)(layout)


def layouts() -> Mapping[str, Layout]:
    """All known layouts, by key: the modules of this package register theirs."""
    import prato.exchange

    import_modules(prato.exchange)
    return _LAYOUTS


def find_layout(key: str) -> Layout:
    """The layout of that name.

    Raises:
        FolderError: there is none.
    """
    if key not in layouts():
        raise FolderError([f"{key!r:.40} is not a known layout: use {', '.join(layouts())}."])
    return layouts()[key]


def export_folder(
    labels: FinalLabels, target: Path, layout: Layout, convention: Mapping[str, str], progress: Progress = lambda studies, _: studies
) -> list[str]:
    """Write the studies of ``labels`` to the new or empty folder ``target``; returns the exported studies.

    Raises:
        FolderError: ``target`` is not empty, or no label can be exported; nothing has been written.
        LabelError: the convention names no value for a structure; nothing has been written.
        OSError: ``target`` cannot be written to; nothing has been written.
    """
    require_empty(target)
    values = _values(convention)
    studies = labels.usable(progress)
    with staging_folder(target) as staged:
        written = layout.write(labels, progress(studies, "writing"), staged, values)
        if not written:
            raise FolderError(["None of the final labels can be exported.", *labels.left_out.values()])
        move_into_place(staged, target, sorted(path.name for path in staged.iterdir()))
    return written


def by_subject(labels: FinalLabels, studies: Iterable[str]) -> dict[str, list[str]]:
    """The ``studies`` of each subject, by frame: a subject is a patient or, of one who was examined several times, an examination."""
    found: dict[str, dict[str, list[str]]] = {}
    for study in sorted(studies, key=lambda study: (labels.about[study].frame or 0, study)):
        patient = labels.about[study].patient
        found.setdefault(patient, {}).setdefault(examination_of(study, patient), []).append(study)
    subjects: dict[str, list[str]] = {}
    for patient, examinations in sorted(found.items()):
        for examination, own in sorted(examinations.items()):
            subjects.setdefault(patient if len(examinations) == 1 else examination, []).extend(own)
    return subjects


def find_folders(source: Path, wanted: Sequence[str]) -> dict[str, Path]:
    """The folders in ``source``, at any depth, with a file named like one of ``wanted``, in which ``{}`` is the folder's own name.

    Raises:
        FolderError: none, or two of one name.
    """
    if not source.is_dir():
        raise FolderError([f"{source} is not a folder."])
    found: dict[str, Path] = {}
    for folder in [source, *sorted(path for path in source.rglob("*") if path.is_dir())]:
        own = Path(os.path.abspath(folder)).name  # of ".", too
        if any((folder / name.format(own)).is_file() for name in wanted):
            if own in found:
                raise FolderError([f"{own} exists twice below {source}: keep only one of the two."])
            found[own] = folder
    if not found:
        raise FolderError([f"{source} holds no folder with a file {' or '.join(name.format('NAME') for name in wanted)}."])
    return found


def _values(convention: Mapping[str, str]) -> np.ndarray:
    """Our value -> the convention's, as an array to look up in."""
    numbers = {structure_from_name(text): int(value) for value, text in convention.items()}
    missing = [name for name in STRUCTURES if name not in numbers]
    if missing:
        raise LabelError(f"The convention names no value for {missing[0]}.")
    values = [0, *(numbers[name] for name in STRUCTURES)]
    for value in values[1:]:
        if not 0 < value < 2**16:
            raise LabelError(f"The convention has the value {value}, but masks hold only 1 to 65535, and 0 for the background.")
    return np.array(values, np.uint8 if max(values) < 256 else np.uint16)
