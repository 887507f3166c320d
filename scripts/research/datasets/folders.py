"""What an experiment is trained and tested on: its data, split, as samples and as test cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import Dataset

from prato.data.cases import TrainingCase, load_training_case
from prato.data.studies import StudyFile, find_labelled_studies, load_manifest
from prato.training.augmentation import SliceDataset
from scripts.research.datasets.acdc import CUT_MM, heart_cases
from scripts.research.datasets.base import EvalCase
from scripts.research.datasets.isic import NATIVE, LesionSamples, lesion_cases, lesion_names, training_lesion
from scripts.research.datasets.splits import PaperSplit, written_split
from scripts.research.experiments.networks import FIELD_MM
from scripts.research.experiments.schema import Experiment, ExperimentError

#: Told how many of how many files are read.
Loading = Callable[[int, int], object]


@dataclass
class Material:
    """The two data sets where they lie; what was read stays for the experiments that follow.

    Attributes:
        folders: by the experiments' ``data``: a studies folder as scripts/import_acdc.py makes it, and ISIC's.
        splits: the folder of split_acdc.json and split_isic.json.
    """

    folders: dict[str, Path]
    splits: Path
    _training: dict[Any, list[TrainingCase]] = field(default_factory=dict)

    def split(self, experiment: Experiment) -> PaperSplit:
        """The split, dealt and written when it is asked for first.

        Raises:
            ExperimentError: the data are not there, or others than the split was dealt for.
        """
        folder, path = self.folders[experiment.data], self.splits / f"split_{experiment.data}.json"
        if experiment.data == "isic":
            return written_split(path, lesion_names(folder, experiment.images))
        files = self._studies()
        manifest = load_manifest(folder)
        groups = {s.patient: s.group for s in manifest.studies.values()} if manifest else {}
        return written_split(path, (f.patient for f in files), groups)

    def samples(self, experiment: Experiment, loading: Loading = lambda done, total: None) -> Dataset:
        """What the trainer draws from.

        Raises:
            ExperimentError, VolumeError: data that cannot be used.
        """
        cases, boxes = self._cases(experiment, loading), experiment.boxes
        if experiment.data == "isic":
            return LesionSamples(cases, experiment.edge, experiment.seed, boxes)
        return SliceDataset(cases, [experiment.edge], experiment.seed, experiment.budget.batch, 2**40, "image", boxes, elastic=False)

    def tests(self, experiment: Experiment, side: Literal["test", "validation"] = "test") -> list[EvalCase]:
        """The test side, with boxes as the experiment has them; or the validation side, for what is to be chosen.

        Raises:
            ExperimentError, VolumeError: data that cannot be used.
        """
        split, view = self.split(experiment), (experiment.image, experiment.edge, experiment.boxes)
        names = split.test if side == "test" else split.validation
        if experiment.data == "isic":
            return lesion_cases(self.folders["isic"], names, experiment.box, *view)
        files = [f for f in self._studies() if f.patient in names]
        return heart_cases(files, experiment.box, FIELD_MM / experiment.image, *view)

    def _studies(self) -> list[StudyFile]:
        files = find_labelled_studies(self.folders["acdc"])
        if not files:
            raise ExperimentError(f"{self.folders['acdc']} has no labelled studies: make them with scripts/import_acdc.py, or name them.")
        return files

    def _cases(self, experiment: Experiment, loading: Loading) -> list[TrainingCase]:
        fine = experiment.boxes > 0
        key = experiment.data, experiment.image, experiment.images, fine
        if key not in self._training:
            names = self.split(experiment).train
            sources: Sequence[Any]
            if experiment.data == "isic":
                folder, edge = self.folders["isic"], NATIVE if fine else experiment.image
                sources, read = names, lambda name: training_lesion(folder, name, edge)
            else:
                pixel = CUT_MM if fine else FIELD_MM / experiment.image
                sources, read = [f for f in self._studies() if f.patient in names], lambda each: load_training_case(each, pixel)
            found = []
            for done, source in enumerate(sources, start=1):
                found.append(read(source))
                loading(done, len(sources))
            self._training[key] = [case for case in found if case is not None]
        return self._training[key]
