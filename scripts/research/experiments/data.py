"""The data sets in their folders: each experiment's split, training samples and test cases; what was read is kept for the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import Dataset

from prato.data.cases import TrainingCase
from scripts.research.datasets.base import EvalCase, OnLoad, SegmentationDataset, dataset_class
from scripts.research.datasets.splits import PaperSplit, load_split
from scripts.research.experiments.schema import Experiment


@dataclass
class ExperimentData:
    """What experiments are trained and tested on.

    Attributes:
        folders: of the data sets, by their registered names.
        splits: the folder of the files split_NAME.json.
    """

    folders: Mapping[str, Path]
    splits: Path
    _training: dict[Any, list[TrainingCase]] = field(default_factory=dict)

    def split(self, experiment: Experiment) -> PaperSplit:
        """The split, assigned and written the first time.

        Raises:
            ExperimentError: the data are not there, or others than the split was made for.
        """
        return load_split(self.splits / f"split_{experiment.data}.json", self._dataset(experiment).groups(experiment.images))

    def training_samples(self, experiment: Experiment, on_load: OnLoad = lambda done, total: None) -> Dataset:
        """What the trainer draws from.

        Raises:
            ExperimentError, VolumeError: data that cannot be used.
        """
        dataset, fine = self._dataset(experiment), experiment.sight.boxes > 0
        key = experiment.data, experiment.image, experiment.images, fine
        if key not in self._training:
            self._training[key] = dataset.training_cases(self.split(experiment).train, experiment.image, fine, on_load)
        return dataset.samples(self._training[key], experiment.sight, experiment.seed, experiment.budget.batch)

    def eval_cases(self, experiment: Experiment, side: Literal["test", "validation"] = "test") -> list[EvalCase]:
        """The test side, with boxes as the experiment has them; or the validation side, for what is to be chosen.

        Raises:
            ExperimentError, VolumeError: data that cannot be used.
        """
        split = self.split(experiment)
        names = split.test if side == "test" else split.validation
        return self._dataset(experiment).eval_cases(names, experiment.box, experiment.sight)

    def _dataset(self, experiment: Experiment) -> SegmentationDataset:
        return dataset_class(experiment.data)(self.folders[experiment.data])
