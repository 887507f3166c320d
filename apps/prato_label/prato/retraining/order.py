"""What a round of retraining is asked to do, as it goes from the server to the process that trains."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from prato.data.cases import StudyFile


@dataclass(frozen=True)
class TrainingParameters:
    """A training as asked for.

    Attributes:
        max_epochs, max_steps: whichever is reached first ends it. An epoch shows as many slices as the training patients have.
        val_split: share of the patients that are held back to compare models on; patients already dealt stay where they are.
        seed: everything random follows from it.
        device: a torch device.
    """

    max_epochs: int = 20
    max_steps: int = 120
    val_split: float = 0.2
    seed: int = 1
    device: str = "cpu"


class TrainingOrder(BaseModel):
    """One round.

    Attributes:
        model: the model file to retrain. asked: how.
        files: the labelled studies. base: a studies folder whose labels show what is forgotten; None to leave that unmeasured.
    """

    model_config = ConfigDict(extra="forbid")

    model: Path
    asked: TrainingParameters
    files: list[StudyFile]
    base: Path | None = None


def label_checksums(files: list[StudyFile]) -> dict[str, str]:
    """The SHA-256 of each study's label file.

    Raises:
        OSError: a label is gone.
    """
    return {file.study: hashlib.sha256(file.label.read_bytes()).hexdigest() for file in files}
