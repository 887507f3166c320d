"""What a round trains and compares on: the labelled studies, each patient on one side for good."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from prato.data.cases import ReadCases, TrainingCase, read_training_cases
from prato.data.studies.folder import StudyFile
from prato.data.studies.label_records import LOCK_NAME
from prato.data.studies.splits import Split, load_split, save_split, shuffle_key
from prato.labelling.trusted import find_trusted_phases
from prato.retraining.file_changes import FileChanges

logger = logging.getLogger(__name__)
#: Beside the images: the split belongs to the patients, not to a model, so that all models are compared on the same ones.
SPLIT_NAME = "training_split.json"
#: How often a study is read that is replaced each time while it is read.
_READINGS = 3


class TooFewPatientsError(ValueError):
    """Not enough labelled patients to train and to compare; the message is one sentence."""


@dataclass(frozen=True)
class TrainingData:
    """The usable labelled studies, by side.

    Attributes:
        training, validation: studies, and phases of cines, of training and validation patients, loaded.
        validation_files: the files of ``validation``.
        labels: the SHA-256 of the label file of each, by name.
        left_out: the reason, by name, for labels that cannot be used.
    """

    training: list[TrainingCase]
    validation: list[TrainingCase]
    validation_files: list[StudyFile]
    labels: dict[str, str]
    left_out: dict[str, str]

    def patients(self) -> dict[str, list[str]]:
        """The patients of each side."""
        return {
            "train": sorted({case.patient for case in self.training}),
            "validation": sorted({case.patient for case in self.validation}),
        }


def load_training_data(
    studies: FileChanges, pixel: float, validation_share: float, seed: int, on_study: Callable[[], object]
) -> TrainingData:
    """Load the labelled studies and phases at ``pixel`` mm, and assign new patients to a side (written to disk before anything is trained).

    A label that is submitted in the middle of it is read again: its record, its checksum and its voxels belong together.

    Args:
        studies: the labelled studies, looked after since before anything was read of them.
        on_study: called after every study; may raise.

    Raises:
        TooFewPatientsError, SplitError: as ``assign_split`` and ``load_stored_split``.
    """
    usable, left_out = _load_unchanged(studies, pixel, on_study)
    for study, reason in left_out.items():
        logger.warning("%s is left out: %s", study, reason)
    if not usable:
        raise TooFewPatientsError("None of the final labels can be used: " + " ".join(left_out.values()))
    split = _store_split([file for file, _ in usable], validation_share, seed)
    validation = set(split.validation)
    return TrainingData(
        training=[case for file, case in usable if file.patient not in validation],
        validation=[case for file, case in usable if file.patient in validation],
        validation_files=[file for file, _ in usable if file.patient in validation],
        labels={file.name: checksum for file, _ in usable if (checksum := studies.label_checksum(file))},
        left_out=left_out,
    )


def _load_unchanged(
    studies: FileChanges, pixel: float, on_study: Callable[[], object]
) -> tuple[list[tuple[StudyFile, TrainingCase]], dict[str, str]]:
    """The usable cases of ``studies``, and by name why others are left out; what was replaced while it was read is read again."""
    read: dict[str, ReadCases] = {}
    pending = studies.files
    for _ in range(_READINGS):
        for file in pending:
            files, untrusted = find_trusted_phases([file])
            found = read_training_cases(files, pixel, on_study)
            read[file.study] = found._replace(left_out={**found.left_out, **untrusted})
        pending = studies.renew()
        if not pending:
            break
    overtaken = {
        file.study: f"{file.study} was replaced while it was being read: the next training will use what is there then." for file in pending
    }
    final = [read[file.study] for file in studies.files if file.study not in overtaken]
    cases, reasons = [case for one in final for case in one.loaded], {name: why for one in final for name, why in one.left_out.items()}
    usable, left_out = ReadCases(cases, reasons, any(one.contradicted for one in final)).usable()
    return usable, {**studies.absent, **left_out, **overtaken}


def _store_split(files: list[StudyFile], validation_share: float, seed: int) -> Split:
    """The stored split of ``files`` with their new patients on a side, which is stored, too."""
    with FileLock(files[0].image.parent / LOCK_NAME):  # another server may begin a training on the same folder, and newcomers have one side
        path, split = load_stored_split(files)
        split = assign_split(split, (file.patient for file in files), validation_share, seed)
        save_split(path, split)
    return split


def load_stored_split(files: Iterable[StudyFile]) -> tuple[Path, Split | None]:
    """Where the split of ``files`` (at least one) is kept, and the split, None before the first training.

    Raises:
        SplitError: the split file cannot be used.
    """
    path = next(iter(files)).image.parent / SPLIT_NAME
    return path, load_split(path) if path.exists() else None


def assign_split(split: Split | None, patients: Iterable[str], validation_share: float, seed: int) -> Split:
    """``split`` with each of ``patients`` on one of its sides.

    Patients who are on a side stay there; newcomers come in an order that ``seed`` shuffles and fill up the validation side to
    ``validation_share`` of ``patients``, after both sides have one.

    Raises:
        TooFewPatientsError: ``patients`` are fewer than two, or all on one side.
    """
    everyone = set(patients)
    if len(everyone) < 2:
        have = f"there are only labels of {next(iter(everyone))}" if everyone else "there are no labels yet"
        raise TooFewPatientsError(f"Training needs final labels of at least 2 patients, one of them to compare models on: {have}.")
    train, validation = set(split.train if split else ()), set(split.validation if split else ())
    for patient in sorted(everyone - train - validation, key=lambda name: shuffle_key(seed, name)):
        held_out = len(validation & everyone)
        to_validation = held_out == 0 or (train & everyone and held_out + 1 <= round(validation_share * len(everyone)))
        (validation if to_validation else train).add(patient)
    for side, other in ((train, "validation"), (validation, "training")):
        if not side & everyone:
            raise TooFewPatientsError(
                f"All {len(everyone)} labelled patients are on the {other} side of {SPLIT_NAME}: label one more patient."
            )
    return Split(seed=split.seed if split else seed, train=sorted(train), validation=sorted(validation))
