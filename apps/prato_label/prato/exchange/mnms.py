"""M&Ms (Campello et al., TMI 2021): a 4D cine and a 4D label for each subject, and a table that says which phases are ED and ES.

Source: https://www.ub.edu/mnms/. The table counts phases from 0; the label is drawn in these two phases alone.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from prato.data.atomic import write_bytes
from prato.data.cine import write_cine
from prato.data.image_files import writable
from prato.data.nifti import Volume, VolumeError, read_image, volume_from_image
from prato.data.studies import Study, is_study_id
from prato.exchange.cases import Case, FolderError, Reader, name_label
from prato.exchange.final_labels import FinalLabels
from prato.exchange.layouts import Convention, Phases, by_patient, find_folders, register_layout

_IMAGE, _LABEL = "{}_sa.nii.gz", "{}_sa_gt.nii.gz"
_SUBJECT, _ED, _ES, _GROUP = "External code", "ED", "ES", "Pathology"


class MnMs:
    """The layout of the first M&Ms challenge."""

    name = "M&Ms"
    about = "a folder for each subject: A0S9V9_sa.nii.gz and A0S9V9_sa_gt.nii.gz, both 4D, and a .csv with ED and ES"

    def find(self, source: Path, convention: Convention, phases: Phases) -> list[Reader]:
        """A reader for each subject: its two phases by the table, or all phases."""
        folders = find_folders(source, [_IMAGE])
        table = _read_table(source)
        missing = [f"The table of {source} has no line for {subject}." for subject in folders if subject not in table]
        if missing:
            raise FolderError(missing)
        return [partial(_read, source, subject, folder, table[subject], convention, phases) for subject, folder in folders.items()]

    def write(self, labels: FinalLabels, studies: Iterable[str], target: Path, values: np.ndarray) -> list[str]:
        """The studies of each patient as the phases of one cine, in the order of their frames, and the table."""
        written, rows = [], []
        for subject, own in by_patient(labels, studies).items():
            about, finals = [labels.about[study] for study in own], [labels.read(study) for study in own]
            reason = _why_no_cine(subject, about, [final.image for final in finals])
            if reason is not None:
                labels.left_out.update(dict.fromkeys(own, reason))
                continue
            (target / subject).mkdir()
            affine = finals[0].image.affine
            image = np.stack([writable(final.image.array) for final in finals], axis=3)
            write_cine(target / subject / _IMAGE.format(subject), image, affine)
            write_cine(target / subject / _LABEL.format(subject), np.stack([values[final.label] for final in finals], axis=3), affine)
            phases = [one.phase for one in about]
            rows.append({_SUBJECT: subject, _ED: phases.index("ED"), _ES: phases.index("ES"), _GROUP: about[0].group or ""})
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
    image = _read_4d(image_path)
    label = _read_4d(label_path) if label_path.is_file() else None
    count = image.shape[3]
    if label is not None and label.shape != image.shape:
        theirs, ours = ("x".join(map(str, i.shape)) for i in (label, image))
        raise VolumeError(f"{label_path.name} has {theirs} voxels and its image {ours}: copy both again.")
    try:
        ed, es = (int(float(row[name])) for name in (_ED, _ES))
    except (TypeError, ValueError, OverflowError):
        raise VolumeError(f"The table gives {subject} no phases {_ED} and {_ES}, counted from 0.") from None
    if not (0 <= ed < count and 0 <= es < count and ed != es):
        raise VolumeError(f"The table says ED {ed}, ES {es} of {subject}, which has the phases 0 to {count - 1}.")
    drawn = [] if label is None else [t for t in range(count) if np.any(label.dataobj[..., t])]
    if phases == "ed,es" and not {*drawn} <= {ed, es}:
        raise VolumeError(
            f"{label_path.name} is drawn in the phases {drawn}, and the table says ED {ed}, ES {es}: import all, with --phases all."
        )
    for t in range(count) if phases == "all" else sorted((ed, es)):
        phase = "ED" if t == ed else "ES" if t == es else None
        study = Study(patient=subject, frame=t + 1, phase=phase, group=(row.get(_GROUP) or "").strip() or None)  # type: ignore[arg-type]
        volume, mask, path = _phase(image, t, image_path.name), None, image_path
        if label is not None and t in drawn:
            path = label_path
            mask = name_label(volume, _phase(label, t, label_path.name), f"Phase {t} of {label_path.name}", convention)
        yield Case(f"{subject}_frame{t + 1:02d}", study, volume, mask, path.relative_to(source).as_posix())


def _read_4d(path: Path) -> nib.Nifti1Image:
    image = read_image(path)
    if len(image.shape) != 4:
        raise VolumeError(f"{path.name} is {len(image.shape)}D, and a cine of M&Ms is 4D: copy it again.")
    return image


def _phase(image: nib.Nifti1Image, t: int, name: str) -> Volume:
    """Phase ``t`` with the voxels as stored."""
    one = image.slicer[..., t]
    one.extra.update(image.extra)
    volume = volume_from_image(one, f"Phase {t} of {name}", any_orientation=True)
    array = np.asanyarray(image.dataobj[..., t])
    return Volume(array.astype(array.dtype.newbyteorder("="), copy=False), volume.affine, volume.header, volume.warnings)


def _why_no_cine(subject: str, about: list[Study], images: list[Volume]) -> str | None:
    """Why the studies of one patient cannot be the phases of one cine of M&Ms; None where they can."""
    if sorted(study.phase for study in about if study.phase) != ["ED", "ES"]:
        return f"{subject} has no ED and ES by the folder's manifest.json, or two of them, and M&Ms needs one of each."
    if not is_study_id(subject):
        return f"{subject!a:.60} is a patient's name that no folder can have."
    first = images[0]
    for image in images:
        same = (image.array.shape, image.array.dtype) == (first.array.shape, first.array.dtype)
        if not same or not np.allclose(image.affine, first.affine, atol=1e-3):
            return f"The studies of {subject} differ in grid or kind of numbers, and cannot be phases of one cine."
    return None


register_layout("mnms", MnMs())
