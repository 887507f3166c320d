"""The labeller who makes no mistake, and knows how many voxels a mask still needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from prato.data.cases import read_label
from prato.data.nifti import read_volume
from prato.data.structures import STRUCTURES
from prato.data.studies.folder import StudyFile
from prato.evaluation.metrics import structure_dice
from prato.inference.image_stack import ImageStack
from prato.inference.predictor import Predictor
from prato.prompts.box import Box, BoxPrompt


@dataclass(frozen=True)
class Verdict:
    """What a model's mask for a tight box is worth.

    Attributes:
        dice: by structure. changed: voxels in which the mask differs from the expert label.
    """

    dice: Mapping[str, float]
    changed: int


class Oracle:
    """Knows the expert labels of ``files``, and keeps the images in memory: every round looks at them again."""

    def __init__(self, files: Iterable[StudyFile]) -> None:
        self.files = {file.study: file for file in files}
        self._read: dict[str, tuple[ImageStack, np.ndarray]] = {}

    def studies(self, patient: str) -> list[str]:
        """Those of ``patient``."""
        return [file.study for file in self.files.values() if file.patient == patient]

    def stack(self, study: str) -> ImageStack:
        """The image of ``study``."""
        return self._known(study)[0]

    def drawn(self, study: str) -> int:
        """Voxels of the heart: all have to be drawn where there is no model yet."""
        return int(np.count_nonzero(self._known(study)[1]))

    def verdict(self, predictor: Predictor, study: str) -> Verdict:
        """What ``predictor`` makes of ``study`` when somebody draws a tight box."""
        stack, truth = self._known(study)
        predictor.set_image(stack)
        mask = predictor.predict([BoxPrompt(Box.around(truth > 0) or Box.whole(truth.shape))]).mask
        return Verdict(structure_dice(mask, truth), int(np.count_nonzero(mask != truth)))

    def _known(self, study: str) -> tuple[ImageStack, np.ndarray]:
        if study not in self._read:
            volume = read_volume(self.files[study].image)
            self._read[study] = ImageStack(volume), read_label(self.files[study].label, volume)
        return self._read[study]


def mean_dice(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """By structure and their "mean", over ``verdicts``."""
    found = list(verdicts)
    dice = {name: fmean(verdict.dice[name] for verdict in found) for name in STRUCTURES}
    return {name: round(value, 4) for name, value in {**dice, "mean": fmean(dice.values())}.items()}
