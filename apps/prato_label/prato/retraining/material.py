"""What a training trains and compares on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prato.data.cases import StudyFile, TrainingCase, load_training_case
from prato.data.nifti import VolumeError
from prato.data.splits import save_split
from prato.retraining.patients import TooFewPatientsError, dealt, stored_split

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
