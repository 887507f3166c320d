"""One round: load the labels, measure the current model, fine-tune, measure the candidate, publish it or say why not."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from prato.data.studies.folder import StudyFile, find_labelled_studies
from prato.labelling.trusted import find_trusted_phases
from prato.models.checkpoint import ModelSpec, load_model, save_model
from prato.retraining.comparison import CaseDice, Comparison, compare, measure_dice, of_both, require_compared
from prato.retraining.file_changes import FileChanges
from prato.retraining.model_records import ModelRecord
from prato.retraining.model_store import ModelStore, ReplacedError, StoreError
from prato.retraining.training_data import TrainingData, load_training_data
from prato.training.fine_tuning import BLEND_SHARE, FineTuning, TrainingParameters, TrainingStopped, choose_rate, fine_tune, schedule
from prato.training.progress import TrainingProgress, complete_progress


class TrainingOrder(BaseModel):
    """One round, as it goes from the server to the process that trains.

    Attributes:
        model: the model file to retrain. parameters: how. job: whose round it is, by its id.
        files: the labelled studies. base: a studies folder whose labels show what is forgotten; None to leave that unmeasured.
    """

    model_config = ConfigDict(extra="forbid")

    model: Path
    parameters: TrainingParameters
    files: list[StudyFile]
    base: Path | None = None
    job: str = ""


def round_folder(model: Path) -> Path:
    """Where rounds keep ``stats.json`` and, until they end, their states: beside the model file, under its name."""
    return model.parent / model.stem


def studies_key(studies: str | Path) -> str:
    """What tells the studies folder or address ``studies`` from others, in names of files that servers of several keep side by side."""
    return hashlib.sha256(os.fsencode(studies)).hexdigest()[:8]


def _state_file(order: TrainingOrder) -> Path:
    """Of the studies folder of ``order``: what was stopped there goes on although labels of another one were trained on meanwhile."""
    return round_folder(order.model) / f"state_{studies_key(order.files[0].image.parent) if order.files else 'none'}.pt"


class _Parts:
    """``seconds`` that the parts of a round took, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    def end(self, name: str) -> None:
        """The part ``name``, which began where the last one ended, is over."""
        now = time.monotonic()
        self.seconds[name], self._began = round(now - self._began, 1), now


def train_round(order: TrainingOrder, should_continue: Callable[[], bool]) -> dict[str, Any]:
    """Train, compare, publish; a round that was stopped or killed resumes where it was if labels, model and parameters are the same.

    Args:
        should_continue: called between steps and studies; the round stops when it returns False.

    Returns:
        ``published`` and the ``reason``, in words; ``dice_before`` and ``dice_after``, means over the validation patients and structures
        (tight boxes), with the 95 % ``interval`` of the change (None for fewer than three patients); the same by structure under
        ``structures`` and ``interval_by_structure``, and by study under ``cases``; ``base``, mean Dice before and after on the base
        studies, None without any; ``model_version_before`` and ``model_version_after``, the same if nothing was published;
        ``job``, as ordered; ``share_of_new_weights``, ``patients`` by side, ``labels`` (SHA-256 by study) and ``left_out`` (reasons by
        study); ``seed``, ``steps``, ``seconds`` and, by part of the round, ``parts_s``.

    Raises:
        TrainingStopped: ``should_continue`` returned False.
        TooFewPatientsError, NothingComparedError, SplitError, CheckpointError, StoreError: as their modules say.
    """

    with _only_round(order.model):
        return _train_round(order, should_continue)


def _train_round(order: TrainingOrder, should_continue: Callable[[], bool]) -> dict[str, Any]:
    def check() -> None:
        if not should_continue():
            raise TrainingStopped

    start, parts = time.monotonic(), _Parts()
    parameters, store, folder = order.parameters, ModelStore(order.model), round_folder(order.model)
    _recover(order.model)  # so that the model that answers has its record, too, before anything takes its place
    network, spec, version = load_model(order.model)
    studies = FileChanges(order.files, check)
    base = FileChanges(find_labelled_studies(order.base) if order.base and order.base.is_dir() else (), check)
    data = load_training_data(studies, spec.pixel, parameters.val_split, parameters.seed, check)
    base_files = find_trusted_phases(base.files)[0]
    parts.end("load")
    before, base_before = (measure_dice(order.model, files, parameters.device, check) for files in (data.validation_files, base_files))
    require_compared(before)
    parts.end("measure before")
    epochs, steps = schedule(data.training, parameters)
    patients = {file.name: file.patient for file in data.validation_files}
    dice = compare(before, before, patients, 0).before["mean"]
    progress = TrainingProgress(folder / "stats.json", epochs, steps, dice, order.job)
    labels = hashlib.sha256(json.dumps([data.labels, data.patients()]).encode()).hexdigest()
    run = {"model": version, "labels": labels, **asdict(parameters)}
    rate = choose_rate(network, spec, data.training, parameters.device)
    check()
    sides, state = (data.training, data.validation), _state_file(order)
    trained = fine_tune(network, FineTuning(spec, parameters, *sides, rate, progress, state, run, should_continue))
    candidate = folder / f"candidate{order.model.suffix}"
    candidate_version = save_model(candidate, trained, _candidate_spec(spec, order, version, steps, rate, data))
    parts.end("train")
    after, base_after = (measure_dice(candidate, files, parameters.device, check) for files in (data.validation_files, base_files))
    before, after = of_both(before, after, studies.unchanged(data.validation_files))
    base_before, base_after = of_both(base_before, base_after, base.unchanged(base_files))
    require_compared(before)
    changed = {
        each: f"{each} was replaced or removed during this training: it is left out of the comparison." for each in patients.keys() - before
    }
    parts.end("measure after")
    comparison = compare(before, after, patients, parameters.seed)
    result = {
        "dice_before": round(comparison.before["mean"], 4),
        "dice_after": round(comparison.after["mean"], 4),
        **comparison.to_json(),
        "base": {"before": _mean(base_before), "after": _mean(base_after)} if base_before else None,
        "job": order.job,
        "share_of_new_weights": BLEND_SHARE,
        "patients": data.patients(),
        "labels": {name: checksum for name, checksum in data.labels.items() if name not in changed},
        "left_out": {**data.left_out, **changed},
        "cases": {study: {"before": _rounded(before[study]), "after": _rounded(after[study])} for study in before},
        **{"seed": parameters.seed, "steps": steps, "seconds": round(time.monotonic() - start, 1), "parts_s": parts.seconds},
    }
    result = _result_of(_publish_or_refuse(store, candidate, candidate_version, version, comparison, result))
    state.unlink(missing_ok=True)
    candidate.unlink()
    progress.report_result(result)
    return result


def recover_round(model: Path, job: str = "") -> dict[str, Any] | None:
    """Remove the half-written files of a killed process, and finish or give up what it was about to publish.

    Where another server trains that model now, its files are its own, and nothing is done.

    Returns:
        What the round of ``job`` came to, as :func:`train_round` does, where it had come to its end and could not say so; else None.
    """
    with suppress(StoreError), _only_round(model):
        _recover(model)
        if result := _find_result(model, job):
            with suppress(OSError):
                complete_progress(round_folder(model) / "stats.json", result)
    return _find_result(model, job)


@contextmanager
def _only_round(model: Path) -> Iterator[None]:
    """One round of ``model`` at a time, whatever servers use its folder; a killed process holds nothing.

    Raises:
        StoreError: there is another one.
    """
    folder = round_folder(model)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StoreError(f"{model.stem} is being trained by another server with the same models: wait until it has finished.") from None
    try:
        yield
    finally:
        lock.release()


def _recover(model: Path) -> None:
    folder = round_folder(model)
    for temporary in folder.glob(".*.tmp"):
        temporary.unlink()
    ModelStore(model).recover()


def _publish_or_refuse(
    store: ModelStore, candidate: Path, version: str, parent: str, comparison: Comparison, result: dict[str, Any]
) -> ModelRecord:
    """Publish ``candidate`` if nothing speaks against it; either way there is a record of it."""
    data = candidate.read_bytes()
    if comparison.regression:
        reason = f"{comparison.regression} fell: {comparison.summary()}"
    else:
        try:
            return store.publish(data, parent, comparison.summary(), result)
        except ReplacedError as error:
            reason = str(error)
    return store.refuse(version, parent, reason, result)


def _find_result(model: Path, job: str) -> dict[str, Any] | None:
    """What the round of ``job`` came to, where there is a record of it that can be read."""
    with suppress(StoreError, OSError):
        return next((_result_of(record) for record in ModelStore(model).history() if job and record.training.get("job") == job), None)
    return None


def _result_of(record: ModelRecord) -> dict[str, Any]:
    """What :func:`train_round` returns of the round that ``record`` is of."""
    after = record.version if record.published else record.parent
    found = {**record.training, "published": record.published, "reason": record.reason}
    return {**found, "model_version_before": record.parent, "model_version_after": after}


def _candidate_spec(spec: ModelSpec, order: TrainingOrder, version: str, steps: int, rate: float, data: TrainingData) -> ModelSpec:
    parameters = asdict(order.parameters)
    training = {
        **{"started_from": version, "seed": parameters["seed"], "steps": steps, "rate": rate, "share_of_new_weights": BLEND_SHARE},
        **{"device": parameters["device"], "command": f"POST /train/{order.model.stem} {json.dumps(parameters)}"},
        "patients": {side: len(names) for side, names in data.patients().items()},
    }
    return spec.model_copy(update={"training": training})


def _mean(dice: CaseDice) -> float:
    return round(fmean(row["mean"] for row in dice.values()), 4)


def _rounded(row: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in row.items()}
