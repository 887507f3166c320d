"""Splits by patient, written to a file: a patient's ED and ES frame are never on both sides."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from prato.data.atomic import write_bytes
from prato.data.studies.folder import compose


class Split(BaseModel):
    """Patients for training and for validation, and the seed that assigned them."""

    model_config = ConfigDict(extra="forbid")

    seed: int
    train: list[Annotated[str, AfterValidator(compose)]]
    validation: list[Annotated[str, AfterValidator(compose)]]

    def find_unassigned(self, patients: Iterable[str]) -> list[str]:
        """Those of ``patients`` who are on neither side, sorted: they may have come after the split was made."""
        return sorted(set(patients).difference(self.train, self.validation))


class SplitError(ValueError):
    """A split file that cannot be used; the message is one sentence."""


def shuffle_key(seed: object, name: str) -> str:
    """What names are sorted by for an order that ``seed`` shuffles; two of them keep it, whichever others come or go."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def split_patients(patients: Iterable[str], validation_share: float, seed: int, groups: Mapping[str, str | None] | None = None) -> Split:
    """Assign ``patients``: ``validation_share`` of each disease group (where known) to validation, at least one to each side.

    The order is by a hash of seed and name, so it does not depend on the order in which they are given.

    Raises:
        ValueError: fewer than two patients.
    """
    everyone = sorted(set(patients))
    if len(everyone) < 2:
        raise ValueError(f"A split needs at least two patients, not {len(everyone)}.")
    by_group: dict[str, list[str]] = defaultdict(list)
    for patient in everyone:
        by_group[str((groups or {}).get(patient))].append(patient)
    validation: list[str] = []
    for members in by_group.values():
        validation += sorted(members, key=lambda name: shuffle_key(seed, name))[: round(len(members) * validation_share)]
    if not validation:
        validation = sorted(everyone, key=lambda name: shuffle_key(seed, name))[:1]
    if len(validation) == len(everyone):
        validation = validation[:-1]
    return Split(seed=seed, train=sorted(set(everyone) - set(validation)), validation=sorted(validation))


def split_folds(patients: Iterable[str], count: int, seed: int) -> list[Split]:
    """``patients`` for cross-validation: each is in the validation of one of ``count`` folds (of as many as there are patients at most).

    The order is by a hash of seed and name, as in ``split_patients``.

    Raises:
        ValueError: fewer than two patients.
    """
    everyone = sorted(set(patients), key=lambda name: shuffle_key(seed, name))
    if len(everyone) < 2:
        raise ValueError(f"A split needs at least two patients, not {len(everyone)}.")
    folds = [set(everyone[n::count]) for n in range(min(count, len(everyone)))]
    return [Split(seed=seed, train=sorted({*everyone} - fold), validation=sorted(fold)) for fold in folds]


def save_split(path: str | os.PathLike[str], split: Split) -> None:
    """Write ``split`` as JSON."""
    write_bytes(path, (json.dumps(split.model_dump(), indent=1) + "\n").encode())


def load_split(path: str | os.PathLike[str]) -> Split:
    """Read a split file.

    Raises:
        SplitError: missing, not a split file, or a patient on both sides.
    """
    try:
        split = Split.model_validate_json(Path(path).read_bytes())
    except (OSError, ValidationError) as error:
        raise SplitError(
            f"{path} is not a split file with seed, train and validation: scripts/train.py without --split writes one."
        ) from error
    both = sorted(set(split.train) & set(split.validation))
    if both:
        raise SplitError(f"{path} has {both[0]} on both sides: a patient belongs to training or to validation.")
    return split
