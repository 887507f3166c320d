"""Layouts with a folder for each subject, and a file for each phase in it: UK Biobank's (as ukbb_cardiac lays it out), and M&Ms-2.

Source: https://github.com/baiwenjia/ukbb_cardiac, data/prepare_data_ukbb2964.py; https://www.ub.edu/mnms-2/.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from prato.data.image_files import write_exact
from prato.data.nifti import VolumeError
from prato.data.studies.folder import Study, is_study_id
from prato.exchange.cases import Case, FolderError, Reader, read_case
from prato.exchange.final_labels import FinalLabels
from prato.exchange.layouts import Convention, Phases, by_subject, find_folders, register_layout

_PHASES: tuple[str, str] = ("ED", "ES")


@dataclass(frozen=True)
class PhaseFiles:
    """``image`` and ``label`` are names of files, with the subject for ``{0}`` and the phase for ``{1}``."""

    name: str
    about: str
    image: str
    label: str

    def find(self, source: Path, convention: Convention, phases: Phases) -> list[Reader]:
        """A reader for each subject: its end-diastolic and end-systolic image, and the labels that are there."""
        if phases != "ed,es":
            raise FolderError([f"{self.name} has files for ED and ES only: leave --phases out."])
        folders = find_folders(source, [self.image.replace("{1}", phase).replace("{0}", "{}") for phase in _PHASES])
        return [partial(self._read, source, subject, folder, convention) for subject, folder in folders.items()]

    def _read(self, source: Path, subject: str, folder: Path, convention: Convention) -> Iterator[Case]:
        faults = []
        for phase in _PHASES:
            image, label = (folder / name.format(subject, phase) for name in (self.image, self.label))
            if not image.is_file():
                if label.is_file():
                    faults.append(f"{label.relative_to(source)} has no image {image.name}.")
                continue
            try:
                study = Study(patient=subject, phase="ED" if phase == "ED" else "ES")
                case = read_case(f"{subject}_{phase}", study, source, image, label if label.is_file() else None, convention)
            except VolumeError as error:
                faults.append(f"{subject}: {error}")
            else:
                yield case
        if faults:
            raise FolderError(faults)

    def write(self, labels: FinalLabels, studies: Iterable[str], target: Path, values: np.ndarray) -> list[str]:
        """A folder for each subject; studies that are neither ED nor ES, and a subject's second of either, have no place."""
        written, studies = [], list(studies)
        subjects = {study: subject for subject, own in by_subject(labels, studies).items() for study in own}
        for study in studies:
            subject, phase = subjects[study], labels.about[study].phase
            image, label = (target / subject / name.format(subject, phase) for name in (self.image, self.label))
            if phase is None:
                labels.left_out[study] = f"{study} is neither ED nor ES by the folder's manifest.json, and {self.name} has no other phases."
            elif not is_study_id(subject):
                labels.left_out[study] = f"{study} is of the patient {subject!a:.60}, which cannot be a folder's name."
            elif image.exists():
                labels.left_out[study] = f"{study} is a second {phase} of {subject}, but {self.name} has only one."
            else:
                image.parent.mkdir(exist_ok=True)
                final = labels.read(study)
                write_exact(image, final.image.array, final.image.affine)
                write_exact(label, values[final.label], final.image.affine)
                written.append(study)
        return written


register_layout(
    "ukbb",
    PhaseFiles("UK Biobank", "a folder for each subject: sa_ED.nii.gz, label_sa_ED.nii.gz, …", "sa_{1}.nii.gz", "label_sa_{1}.nii.gz"),
)
register_layout(
    "mnms2",
    PhaseFiles(
        "M&Ms-2", "a folder for each subject: 001_SA_ED.nii.gz, 001_SA_ED_gt.nii.gz, …", "{0}_SA_{1}.nii.gz", "{0}_SA_{1}_gt.nii.gz"
    ),
)
