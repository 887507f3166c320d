"""On which side each labelled patient is, for good."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from prato.data.cases import StudyFile
from prato.data.splits import Split, load_split

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
