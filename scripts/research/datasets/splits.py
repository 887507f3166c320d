"""The paper's 80:10:10 split, by patient or image, drawn once and written down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from prato.data.atomic import make_folder, write_bytes
from prato.data.studies.splits import split_patients
from scripts.research.datasets.base import ExperimentError

_SEED = 0


class PaperSplit(BaseModel):
    """Patients (ISIC: images) for training, validation and testing, and the seed that they were drawn with."""

    model_config = ConfigDict(extra="forbid")

    seed: int
    train: list[str]
    validation: list[str]
    test: list[str]


def assign_split(groups: Mapping[str, str | None]) -> PaperSplit:
    """Assign a tenth of each group to testing and a tenth to validation, at least one of all.

    Args:
        groups: the group of each patient or image.

    Raises:
        ExperimentError: fewer than three.
    """
    if len(groups) < 3:
        raise ExperimentError(f"A split needs at least three patients or images, not {len(groups)}.")
    tested = split_patients(groups, 0.1, _SEED, groups)
    rest = split_patients(tested.train, 1 / 9, _SEED, groups)
    return PaperSplit(seed=_SEED, train=rest.train, validation=rest.validation, test=tested.validation)


def load_split(path: Path, groups: Mapping[str, str | None]) -> PaperSplit:
    """The split at ``path``; assigned and written where there is none.

    Raises:
        ExperimentError: it is not a split, has a name on two sides, or is a split of others than ``groups``.
    """
    if not path.exists():
        split = assign_split(groups)
        make_folder(path.parent)
        write_bytes(path, (split.model_dump_json(indent=1) + "\n").encode())
        return split
    try:
        split = PaperSplit.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ExperimentError(f"{path} is not a split with seed, train, validation and test: delete it to assign it again.") from error
    listed = split.train + split.validation + split.test
    if len(listed) != len(set(listed)) or set(listed) != set(groups):
        raise ExperimentError(
            f"{path} is the split of other patients or images than there are: name the folder of another, or the same data."
        )
    return split
