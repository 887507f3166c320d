"""MONAI Label's train task: from submitted labels to a model that is at least as good as the one that answers now."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from lib.trainers.labelled import labelled_files
from lib.trainers.parameters import shown_config, training_parameters
from prato.data.cases import labelled_studies
from prato.data.manifest import ManifestError
from prato.data.splits import SplitError
from prato.models.checkpoint import CheckpointError
from prato.prompts.request import RequestError
from prato.retraining.model_store import ModelStore
from prato.retraining.order import TrainingOrder
from prato.retraining.patients import TooFewPatientsError, dealt, stored_split
from prato.retraining.progress import stored_progress
from prato.retraining.records import StoreError
from prato.retraining.round import round_folder, train_round

#: A studies folder on which each training is to measure what it forgets.
BASE_STUDIES = "PRATO_LABEL_BASE_STUDIES"
_REFUSALS = (RequestError, TooFewPatientsError, ManifestError, SplitError, CheckpointError, StoreError)


class PratoTrainer(TrainTask):
    """Fine-tunes the model file ``model`` on the datastore's final labels and publishes the result if it earns it.

    Everything else that it writes lies beside the model, in ``<name>/`` and ``versions/<name>/``.
    """

    def __init__(self, name: str, model: Path) -> None:
        super().__init__(f"Fine-tunes {name} on the submitted labels; published only if at least as good on held-back patients")
        self.model = model
        self.store = ModelStore(model)

    def config(self) -> dict[str, Any]:
        return shown_config()

    def stats(self) -> dict[str, Any]:
        return stored_progress(round_folder(self.model) / "stats.json")

    def order(self, params: Mapping[str, Any], datastore: Datastore) -> TrainingOrder:
        """What the process that trains is to do for ``params``. Looks at names, not into images.

        Raises:
            HTTPException: 400 with one sentence: parameters that cannot be, too few labels, or files that cannot be used.
        """
        # training all models at once hands every job the parameters of all, each in an object of its own
        flat = {name: value for name, value in params.items() if not isinstance(value, dict)}
        try:
            asked = training_parameters(flat)
            if not self.model.is_file():
                raise CheckpointError(f"There is no {self.model.name} to start from: restore the shipped one in the app's model folder.")
            files = labelled_files(datastore)
            split = stored_split(files)[1] if files else None
            dealt(split, (file.patient for file in files), asked.val_split, asked.seed)
            return TrainingOrder(model=self.model.absolute(), asked=asked, files=files, base=_base_studies())
        except _REFUSALS as error:
            raise HTTPException(400, str(error)) from error

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train here and now, see ``train_round``.

        Raises:
            HTTPException: 400 as ``order``, or where too few labels turn out to be usable.
        """
        order = self.order(request, datastore)
        try:
            return train_round(order, lambda: True)
        except _REFUSALS as error:
            raise HTTPException(400, str(error)) from error


def _base_studies() -> Path | None:
    folder = os.environ.get(BASE_STUDIES)
    if not folder:
        return None
    if not labelled_studies(folder):
        raise RequestError(f"{BASE_STUDIES} names {folder}, which holds no labelled studies: labels belong in its folder labels/final.")
    return Path(folder).absolute()
