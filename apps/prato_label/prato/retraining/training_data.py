"""What a round trains and compares on: the labelled studies, each patient on one side for good."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prato.data.cases import StudyFile, TrainingCase, load_training_case
from prato.data.nifti import VolumeError
from prato.data.splits import Split, load_split, save_split

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Material:
    """The usable labelled studies, by side.

    Attributes:
        training, validation: studies of training and validation patients, loaded.
        compared: the files of ``validation``.
        left_out: the reason, by study, for labels that cannot be used.
    """

    training: list[TrainingCase]
    validation: list[TrainingCase]
    compared: list[StudyFile]
    left_out: dict[str, str]

    def patients(self) -> dict[str, list[str]]:
        """The patients of each side."""
        return {
            "train": sorted({case.patient for case in self.training}),
            "validation": sorted({case.patient for case in self.validation}),
        }


def gathered(files: Sequence[StudyFile], pixel: float, share: float, seed: int, each: Callable[[], object]) -> Material:
    """Load the labelled studies at ``pixel`` mm, and deal new patients to a side (written down before anything is trained).

    Args:
        each: called after every study; may raise.

    Raises:
        TooFewPatientsError, SplitError: as ``dealt`` and ``stored_split``.
    """
    usable: list[tuple[StudyFile, TrainingCase]] = []
    left_out = {}
    for file in files:
        try:
            case = load_training_case(file, pixel)
        except VolumeError as error:
            left_out[file.study] = str(error)
        else:
            if case is None:
                left_out[file.study] = f"The label for {file.study} is empty."
            else:
                usable.append((file, case))
        each()
    for study, reason in left_out.items():
        logger.warning("%s is left out: %s", study, reason)
    if not usable:
        raise TooFewPatientsError("None of the final labels can be used: " + " ".join(left_out.values()))
    path, split = stored_split(file for file, _ in usable)
    split = dealt(split, (file.patient for file, _ in usable), share, seed)
    save_split(path, split)
    held_back = set(split.validation)
    return Material(
        training=[case for file, case in usable if file.patient not in held_back],
        validation=[case for file, case in usable if file.patient in held_back],
        compared=[file for file, _ in usable if file.patient in held_back],
        left_out=left_out,
    )


#: Beside the images: the split belongs to the patients, not to a model, so that all models are compared on the same ones.
SPLIT_NAME = "training_split.json"


class TooFewPatientsError(ValueError):
    """Not enough labelled patients to train and to compare; the message is one sentence."""


def stored_split(files: Iterable[StudyFile]) -> tuple[Path, Split | None]:
    """Where the split of ``files`` (at least one) is kept, and the split, None before the first training.

    Raises:
        SplitError: the split file cannot be used.
    """
    path = next(iter(files)).image.parent / SPLIT_NAME
    return path, load_split(path) if path.exists() else None


def dealt(split: Split | None, patients: Iterable[str], share: float, seed: int) -> Split:
    """``split`` with all of ``patients`` on one of its sides: who is on a side stays there; newcomers come in an order that ``seed``
    shuffles and fill up the validation side to ``share`` of ``patients``, after both sides have one.

    Raises:
        TooFewPatientsError: ``patients`` are fewer than two, or all on one side.
    """
    everyone = set(patients)
    if len(everyone) < 2:
        have = f"the labels are of {next(iter(everyone))} alone" if everyone else "there are no labels yet"
        raise TooFewPatientsError(f"Training needs final labels of at least 2 patients, one of them to compare models on: {have}.")
    train, validation = set(split.train if split else ()), set(split.validation if split else ())
    for patient in sorted(everyone - train - validation, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()):
        held_back = len(validation & everyone)
        to_validation = held_back == 0 or (train & everyone and held_back + 1 <= round(share * len(everyone)))
        (validation if to_validation else train).add(patient)
    for side, other in ((train, "validation"), (validation, "training")):
        if not side & everyone:
            raise TooFewPatientsError(
                f"All {len(everyone)} labelled patients are on the {other} side of {SPLIT_NAME}: label one more patient."
            )
    return Split(seed=split.seed if split else seed, train=sorted(train), validation=sorted(validation))
