"""MONAI Label's train task: from submitted labels to a model that is at least as good as the one that answers now."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from lib.trainers.fine_tuning import RATE, fine_tuned, planned
from lib.trainers.material import gathered
from lib.trainers.parameters import TrainingParameters, shown_config, training_parameters
from lib.trainers.patients import TooFewPatientsError, dealt, labelled_files, stored_split
from lib.trainers.progress import TrainingProgress, stored_progress
from lib.trainers.publishing import publish
from prato.checkpoint import CheckpointError, load_model, save_model
from prato.data.cases import StudyFile
from prato.data.manifest import ManifestError
from prato.data.splits import SplitError
from prato.evaluation import evaluate_cases
from prato.pipeline import Pipeline
from prato.request import RequestError

logger = logging.getLogger(__name__)

_REFUSALS = (RequestError, TooFewPatientsError, ManifestError, SplitError, CheckpointError)


class PratoTrainer(TrainTask):
    """Fine-tunes the model file ``model`` on the datastore's final labels and publishes the result if it earns it.

    Everything else that it writes lies beside the model, in ``<name>/`` and ``versions/<name>/``.
    """

    def __init__(self, name: str, model: Path) -> None:
        super().__init__(f"Fine-tunes {name} on the submitted labels; published only if at least as good on held-back patients")
        self.model = model
        self.stats_file = model.parent / name / "stats.json"
        self.versions = model.parent / "versions" / name

    def config(self) -> dict[str, Any]:
        return shown_config()

    def stats(self) -> dict[str, Any]:
        return stored_progress(self.stats_file)

    def refusal(self, datastore: Datastore, params: Mapping[str, Any]) -> str | None:
        """Why a training with ``params`` would not start, in one sentence; None if it would. Looks at names, not into images."""
        try:
            asked = training_parameters(params)
            if not self.model.is_file():
                raise CheckpointError(f"There is no {self.model.name} to start from: restore the shipped one in the app's model folder.")
            files = labelled_files(datastore)
            split = stored_split(files)[1] if files else None
            dealt(split, (file.patient for file in files), asked.val_split, asked.seed)
        except _REFUSALS as error:
            return str(error)
        return None

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train, compare, publish.

        Returns:
            ``published``; ``dice_before`` and ``dice_after``, means over the validation patients' studies and structures (tight boxes);
            ``model_version_before`` and ``model_version_after``, the same if nothing was published; ``share_of_new_weights``, see
            ``best_blend``; ``patients`` by side; ``cases``, Dice before and after by study; ``left_out``, reasons by study.

        Raises:
            HTTPException: 400 with one sentence where ``refusal`` has one, or where too few labels turn out to be usable.
        """
        # training all models at once hands every job the parameters of all, each in an object of its own
        params = {name: value for name, value in request.items() if not isinstance(value, dict)}
        reason = self.refusal(datastore, params)
        if reason:
            raise HTTPException(400, reason)
        try:
            return self._run(training_parameters(params), datastore)
        except _REFUSALS as error:
            raise HTTPException(400, str(error)) from error

    def _run(self, asked: TrainingParameters, datastore: Datastore) -> dict[str, Any]:
        network, spec, version = load_model(self.model)
        material = gathered(datastore, spec.pixel, asked.val_split, asked.seed)
        patients = material.patients()
        before = _dice(self.model, material.compared, asked.device)
        epochs, steps = planned(material.training, asked)
        progress = TrainingProgress(self.stats_file, epochs, steps, fmean(before.values()))
        trained, share = fine_tuned(network, spec, asked, material, progress)
        about = {
            **{"started_from": version, "seed": asked.seed, "steps": steps, "rate": RATE, "share_of_new_weights": share},
            "patients": {side: len(names) for side, names in patients.items()},
        }
        folder = self.versions / "candidate"
        shutil.rmtree(folder, ignore_errors=True)  # of a training that was killed
        folder.mkdir(parents=True)
        try:
            candidate = folder / self.model.name
            candidate_version = save_model(candidate, trained, spec.model_copy(update={"training": about}))
            after = _dice(candidate, material.compared, asked.device)
            published = fmean(after.values()) >= fmean(before.values())
            if published:
                publish(candidate, self.model, self.versions, version)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        result = {
            "published": published,
            "dice_before": round(fmean(before.values()), 4),
            "dice_after": round(fmean(after.values()), 4),
            "model_version_before": version,
            "model_version_after": candidate_version if published else version,
            "share_of_new_weights": share,
            "patients": patients,
            "cases": {study: {"before": round(before[study], 4), "after": round(after[study], 4)} for study in before},
            "left_out": material.left_out,
        }
        progress.done(result)
        return result


def _dice(model: Path, files: list[StudyFile], device: str) -> dict[str, float]:
    """Mean Dice over the structures by study, as the server would answer tight boxes with ``model``."""
    return {row["study"]: row["mean_dice"] for row in evaluate_cases(Pipeline(model, None, device), files)}
