"""MONAI Label's train task: from submitted labels to a model that is at least as good as the one that answers now."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from lib.infers.devices import device_named, offered_devices
from prato.data.studies.folder import ManifestError, StudyFile, find_labelled_studies, load_manifest, patient_of, split_name
from prato.data.studies.splits import SplitError
from prato.inference.request import RequestError
from prato.labelling.trusted import find_trusted_phases
from prato.models.checkpoint import CheckpointError
from prato.retraining.comparison import NothingComparedError
from prato.retraining.model_store import ModelStore, StoreError
from prato.retraining.round import TrainingOrder, round_folder, train_round
from prato.retraining.training_data import TooFewPatientsError, assign_split, load_stored_split
from prato.training.fine_tuning import TrainingParameters
from prato.training.progress import load_progress

#: Environment variable: a studies folder on which each training measures what it forgets.
BASE_STUDIES = "PRATO_LABEL_BASE_STUDIES"
#: Added by MONAI Label and its clients on a request's way to the task.
_IGNORED = {"model", "client_id", "gpus", "multi_gpu", "local_rank"}
_LIMITS = {"max_epochs": (1, 10_000), "max_steps": (1, 1_000_000), "val_split": (0.05, 0.5), "seed": (0, 2**31 - 1)}
_REFUSALS = (RequestError, TooFewPatientsError, NothingComparedError, ManifestError, SplitError, CheckpointError, StoreError)


class PratoTrainer(TrainTask):
    """Fine-tunes the model file ``model`` on the datastore's final labels and publishes the result if it is at least as good.

    Everything else that it writes lies beside the model, in ``<name>/`` and ``versions/<name>/``.
    """

    def __init__(self, name: str, model: Path) -> None:
        super().__init__(f"Fine-tunes {name} on the submitted labels; published only if at least as good on held-out patients")
        self.model = model
        self.store = ModelStore(model)

    def config(self) -> dict[str, Any]:
        return training_options()

    def stats(self) -> dict[str, Any]:
        return load_progress(round_folder(self.model) / "stats.json")

    def order(self, params: Mapping[str, Any], datastore: Datastore) -> TrainingOrder:
        """What the process that trains is to do for ``params``. Reads names, headers and records, no images.

        Raises:
            HTTPException: 400 with one sentence: bad parameters, too few labels, or files that cannot be used.
        """
        # training all models at once hands every job the parameters of all, each in an object of its own
        flat = {name: value for name, value in params.items() if not isinstance(value, dict)}
        try:
            parameters = parse_training_parameters(flat)
            if not self.model.is_file():
                raise CheckpointError(f"There is no {self.model.name} to start from: restore the shipped one in the app's model folder.")
            files = find_labelled_files(datastore)
            split = load_stored_split(files)[1] if files else None
            assign_split(split, (file.patient for file in find_trusted_phases(files)[0]), parameters.val_split, parameters.seed)
            return TrainingOrder(model=self.model.absolute(), parameters=parameters, files=files, base=_base_studies())
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
    if not Path(folder).is_dir() or not find_labelled_studies(folder):
        raise RequestError(f"{BASE_STUDIES} names {folder}, which holds no labelled studies: labels belong in its folder labels/final.")
    return Path(folder).absolute()


def find_labelled_files(datastore: Datastore) -> list[StudyFile]:
    """The studies with a final label, sorted by name.

    Raises:
        ManifestError: the folder's manifest cannot be used.
    """
    pairs = [(Path(entry["image"]), Path(entry["label"])) for entry in datastore.datalist()]
    manifests = {folder: load_manifest(folder) for folder in {image.parent for image, _ in pairs}}
    found = []
    for image, label in pairs:
        study = (split_name(image.name) or (image.name, ""))[0]
        found.append(StudyFile(study, patient_of(study, manifests[image.parent]), image, label))
    return sorted(found, key=lambda file: file.study)


def training_options() -> dict[str, Any]:
    """The options and defaults that clients show."""
    return {**asdict(TrainingParameters()), "device": offered_devices()}


def parse_training_parameters(request: Mapping[str, Any]) -> TrainingParameters:
    """Read ``request``; numbers may come as text, and what is empty is the default.

    Raises:
        RequestError: an unknown name, or a value out of its range.
    """
    names = ("device", *_LIMITS)
    unknown = [name for name in request if name not in (*names, *_IGNORED)]
    if unknown:
        raise RequestError(f"{unknown[0]!r:.60} is not a parameter of training: use {', '.join(names)}.")
    numbers = {name: _parse_number(name, request[name]) for name in _LIMITS if request.get(name) not in (None, "")}
    return TrainingParameters(**numbers, device=device_named(request.get("device")))


def _parse_number(name: str, value: Any) -> Any:
    low, high = _LIMITS[name]
    is_whole = isinstance(low, int)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high or (is_whole and number != int(number)):
        raise RequestError(f"{name} must be a {'whole ' if is_whole else ''}number from {low} to {high}, not {value!r:.60}.")
    return int(number) if is_whole else number
