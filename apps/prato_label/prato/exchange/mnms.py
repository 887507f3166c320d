"""M&Ms (Campello et al., TMI 2021): a 4D cine and a 4D label for each subject, and a table that says which phases are ED and ES.

Source: https://www.ub.edu/mnms/. The table counts phases from 0; the label is drawn in these two phases alone.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from prato.data.atomic import write_bytes
from prato.data.cine import read_cine, write_cine
from prato.data.image_files import writable
from prato.data.labels.check import read_label_volume
from prato.data.nifti import VolumeError
from prato.data.studies.folder import Study, is_study_id
from prato.data.wording import counted
from prato.exchange.cases import Case, FolderError, Reader, name_label
from prato.exchange.final_labels import FinalLabels
from prato.exchange.layouts import Convention, Phases, by_subject, find_folders, register_layout
from prato.labelling.phases import phase_count

_IMAGE, _LABEL = "{}_sa.nii.gz", "{}_sa_gt.nii.gz"
_SUBJECT, _ED, _ES = "External code", "ED", "ES"
#: What else the table may say of a subject: diagnosis, height in cm, weight in kg.
_GROUP, _HEIGHT, _WEIGHT = "Pathology", "Height", "Weight"


class MnMs:
    """The layout of the first M&Ms challenge."""

    name = "M&Ms"
    about = "a folder for each subject: A0S9V9_sa.nii.gz and A0S9V9_sa_gt.nii.gz, both 4D, and a .csv with ED and ES"

    def find(self, source: Path, convention: Convention, phases: Phases) -> list[Reader]:
        """A reader for each subject: its two phases by the table, all phases, or the cine."""
        folders = find_folders(source, [_IMAGE])
        table = _read_table(source)
        missing = [f"The table of {source} has no line for {subject}." for subject in folders if subject not in table]
        if missing:
            raise FolderError(missing)
        return [partial(_read, source, subject, folder, table[subject], convention, phases) for subject, folder in folders.items()]

    def write(self, labels: FinalLabels, studies: Iterable[str], target: Path, values: np.ndarray) -> list[str]:
        """The cine of each subject, or the subject's studies as its phases, in the order of their frames, and the table."""
        written, rows = [], []
        for subject, every in by_subject(labels, studies).items():
            of_cine = [name for name in every if labels.files[name].phase is not None]
            own = max(of_cine, [name for name in every if name not in of_cine], key=len)
            words = f"Of {subject!a:.60}, a cine and single images have labels, and M&Ms takes one kind: the other has at least as many."
            labels.left_out.update(dict.fromkeys({*every}.difference(own), words))
            found = _whole_cine(labels, own) or _frames(labels, own)
            if not is_study_id(subject):
                found = "the name cannot be that of a folder."
            if isinstance(found, str):
                labels.left_out.update(dict.fromkeys(own, f"Of {subject!a:.60}, {found}"))
                continue
            (target / subject).mkdir()
            write_cine(target / subject / _IMAGE.format(subject), writable(found.image), found.affine, found.step_ms)
            write_cine(target / subject / _LABEL.format(subject), values[found.mask], found.affine, found.step_ms)
            about = labels.about[own[0]]
            body = {_HEIGHT: about.height_cm or "", _WEIGHT: about.weight_kg or ""}
            rows.append({_SUBJECT: subject, _ED: found.ed, _ES: found.es, _GROUP: about.group or "", **body})
            written += own
        if rows:
            text = io.StringIO()
            table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
            write_bytes(target / "dataset_information.csv", text.getvalue().encode())
        return written


def _read_table(source: Path) -> dict[str, Mapping[str, str]]:
    """The lines of the one table in ``source`` that has the columns of M&Ms, by subject."""
    found = []
    for name in sorted(os.listdir(source)):
        if name.endswith(".csv") and not name.startswith("."):
            try:
                rows = list(csv.DictReader(io.StringIO((source / name).read_text(encoding="utf-8-sig"))))
            except (OSError, UnicodeDecodeError, csv.Error):
                continue
            if rows and {_SUBJECT, _ED, _ES} <= rows[0].keys():
                found.append((name, rows))
    if len(found) != 1:
        many = f"has {len(found)} tables ({', '.join(name for name, _ in found)})" if found else "has no table (.csv)"
        raise FolderError(
            [f"{source} {many} with the columns {_SUBJECT}, {_ED} and {_ES}: M&Ms has one beside the folders of its subjects."]
        )
    return {str(row[_SUBJECT]).strip(): row for row in found[0][1]}


def _read(source: Path, subject: str, folder: Path, row: Mapping[str, str], convention: Convention, phases: Phases) -> Iterator[Case]:
    image_path, label_path = folder / _IMAGE.format(subject), folder / _LABEL.format(subject)
    cine, name = read_cine(image_path), label_path.relative_to(source).as_posix()
    try:
        ed, es = (int(float(row[column])) for column in (_ED, _ES))
    except (TypeError, ValueError, OverflowError):
        raise VolumeError(f"The table gives {subject} no phases {_ED} and {_ES}, counted from 0.") from None
    if not (0 <= ed < len(cine) and 0 <= es < len(cine) and ed != es):
        raise VolumeError(f"The table says ED {ed}, ES {es} of {subject}, which has the phases 0 to {len(cine) - 1}.")
    mask = None
    if label_path.is_file():
        stored = read_label_volume(label_path, name)
        if phase_count(stored.array) != len(cine):
            raise VolumeError(f"{name} has {counted(phase_count(stored.array), 'phase')} and its image {len(cine)}: copy both again.")
        mask = name_label(cine.grid(), stored, name, convention)
    drawn = [] if mask is None else [t for t in range(len(cine)) if mask[..., t].any()]
    if phases == "ed,es" and not {*drawn} <= {ed, es}:
        raise VolumeError(f"{name} is drawn in the phases {drawn}, and the table says ED {ed}, ES {es}: import all, with --phases all.")
    array = np.asanyarray(cine.image.dataobj)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    body = {"height_cm": _positive(row.get(_HEIGHT)), "weight_kg": _positive(row.get(_WEIGHT))}
    about = {"patient": subject, "group": (row.get(_GROUP) or "").strip() or None, **body}
    origin = name if label_path.is_file() else image_path.relative_to(source).as_posix()
    if phases == "cine":
        study, step = Study.model_validate({**about, "ed": ed, "es": es}), None if cine.times_ms is None else float(cine.times_ms[1])
        yield Case(f"{subject}_4d", study, replace(cine.phase(0), array=array), mask, origin, step)
        return
    for t in range(len(cine)) if phases == "all" else sorted((ed, es)):
        study = Study.model_validate({**about, "frame": t + 1, "phase": "ED" if t == ed else "ES" if t == es else None})
        label = mask[..., t] if mask is not None and t in drawn else None
        yield Case(f"{subject}_frame{t + 1:02d}", study, replace(cine.phase(t), array=array[..., t]), label, origin)


def _positive(cell: str | None) -> float | None:
    """The number in ``cell``; None where it is empty, or says that the number is not known."""
    try:
        value = float(cell or 0)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


@dataclass(frozen=True)
class _Subject:
    """What is written of one subject: ``image`` and ``mask`` are (X, Y, Z, T), ``ed`` and ``es`` count from 0."""

    image: np.ndarray
    mask: np.ndarray
    affine: np.ndarray
    ed: int
    es: int
    step_ms: float | None = None


def _whole_cine(labels: FinalLabels, own: Sequence[str]) -> _Subject | str | None:
    """Of a subject whose labels are all phases of one cine, that cine; or why it cannot be written; None for other subjects."""
    files = [labels.files[name] for name in own]
    if len({file.image for file in files}) > 1 or files[0].phase is None:
        return None
    about, cine = labels.cines[files[0].study], labels.read_cine(files[0])
    if about.ed is None or about.es is None:
        return "nobody has marked ED and ES of its cine, nor does the folder's manifest.json give them, and M&Ms needs both."
    image = np.asanyarray(cine.image.dataobj)
    mask = np.zeros(image.shape, np.uint8)
    for name, file in zip(own, files):
        mask[..., file.phase] = labels.read(name).label
    step = None if cine.times_ms is None else float(cine.times_ms[1])
    return _Subject(image, mask, cine.phase(0).affine, about.ed, about.es, step)


def _frames(labels: FinalLabels, own: Sequence[str]) -> _Subject | str:
    """The studies of one subject as the phases of one cine; or why they cannot be."""
    phases = [labels.about[name].phase for name in own]
    if sorted(phase for phase in phases if phase) != ["ED", "ES"]:
        return "the folder's manifest.json gives no ED and ES, or two of them, and M&Ms needs one of each."
    finals = [labels.read(name) for name in own]
    first = finals[0].image
    for image in (final.image for final in finals):
        same = (image.array.shape, image.array.dtype) == (first.array.shape, first.array.dtype)
        if not same or not np.allclose(image.affine, first.affine, atol=1e-3):
            return "its studies differ in grid or kind of numbers, and cannot be phases of one cine."
    images, masks = (np.stack(arrays, axis=3) for arrays in ([f.image.array for f in finals], [f.label for f in finals]))
    return _Subject(images, masks, first.affine, phases.index("ED"), phases.index("ES"))


register_layout("mnms", MnMs())
