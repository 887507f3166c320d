"""One round: load the labels, measure the current model, fine-tune, measure the candidate, publish it or say why not."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict

from prato.data.cases import StudyFile, labelled_studies
from prato.models.checkpoint import ModelSpec, load_model, save_model
from prato.retraining.comparison import CaseDice, Comparison, case_dice, compared
from prato.retraining.model_store import ModelStore, ReplacedError
from prato.retraining.training_data import Material, gathered
from prato.training.fine_tuning import RATE, SHARE, Stopped, TrainingParameters, fine_tuned, planned
from prato.training.progress import TrainingProgress


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


def round_folder(model: Path) -> Path:
    """Where a round keeps ``stats.json`` and, until it ends, ``state.pt``: beside the model file, under its name."""
    return model.parent / model.stem


def train_round(order: TrainingOrder, go_on: Callable[[], bool]) -> dict[str, Any]:
    """Train, compare, publish; what was stopped or killed goes on where it was if labels, model and parameters are the same.

    Args:
        go_on: asked between steps and studies; the round stops when it says False.

    Returns:
        ``published`` and the ``reason``, in words; ``dice_before`` and ``dice_after``, means over the validation patients and structures
        (tight boxes), with the 95 % ``interval`` of the change (None for fewer than three patients); the same by structure under
        ``structures`` and ``interval_by_structure``, and by study under ``cases``; ``base``, mean Dice before and after on the base
        studies, None without any; ``model_version_before`` and ``model_version_after``, the same if nothing was published;
        ``share_of_new_weights``, ``patients`` by side, ``labels`` (SHA-256 by study) and ``left_out`` (reasons by study); ``seed``,
        ``steps``, ``seconds``.

    Raises:
        Stopped: on request. TooFewPatientsError, SplitError, CheckpointError, StoreError: as their modules say.
    """

    def check() -> None:
        if not go_on():
            raise Stopped

    began, asked, store, folder = time.monotonic(), order.asked, ModelStore(order.model), round_folder(order.model)
    tidy_after(order.model)  # by which the model that answers has its record, too, before anything takes its place
    network, spec, version = load_model(order.model)
    labels = label_checksums(order.files)
    material = gathered(order.files, spec.pixel, asked.val_split, asked.seed, check)
    before, base_before = _dice(order, order.model, material, check)
    epochs, steps = planned(material.training, asked)
    patients = {file.study: file.patient for file in material.compared}
    progress = TrainingProgress(folder / "stats.json", epochs, steps, compared(before, before, patients, 0).before["mean"])
    run = {"model": version, "labels": hashlib.sha256(json.dumps([labels, material.patients()]).encode()).hexdigest(), **asdict(asked)}
    trained = fine_tuned(network, spec, asked, material.training, material.validation, progress, folder / "state.pt", run, go_on)
    candidate = folder / f"candidate{order.model.suffix}"
    candidate_version = save_model(candidate, trained, _described(spec, order, version, steps, material))
    after, base_after = _dice(order, candidate, material, check)
    found = compared(before, after, patients, asked.seed)
    result = {
        "dice_before": round(found.before["mean"], 4),
        "dice_after": round(found.after["mean"], 4),
        **found.report(),
        "base": None if base_before is None or base_after is None else {"before": _mean(base_before), "after": _mean(base_after)},
        "share_of_new_weights": SHARE,
        "patients": material.patients(),
        "labels": {study: labels[study] for study in labels if study not in material.left_out},
        "left_out": material.left_out,
        "cases": {study: {"before": _rounded(before[study]), "after": _rounded(after[study])} for study in before},
        **{"seed": asked.seed, "steps": steps, "seconds": round(time.monotonic() - began, 1)},
    }
    published, reason = _judged(store, candidate, candidate_version, version, found, result)
    (folder / "state.pt").unlink(missing_ok=True)
    candidate.unlink()
    result |= {"published": published, "reason": reason}
    result |= {"model_version_before": version, "model_version_after": candidate_version if published else version}
    progress.done(result)
    return result


def _judged(store: ModelStore, candidate: Path, version: str, parent: str, found: Comparison, result: dict[str, Any]) -> tuple[bool, str]:
    """Publish ``candidate`` if nothing speaks against it; either way there is a record of it."""
    data = candidate.read_bytes()
    if found.worse:
        reason = f"{found.worse} fell: {found.sentence()}"
    else:
        try:
            store.publish(data, parent, found.sentence(), result)
        except ReplacedError as error:
            reason = str(error)
        else:
            return True, found.sentence()
    store.refuse(version, parent, reason, result)
    return False, reason


def _dice(order: TrainingOrder, model: Path, material: Material, check: Callable[[], None]) -> tuple[CaseDice, CaseDice | None]:
    """Dice of ``model`` on the patients held back, and on the base studies."""
    own = case_dice(model, material.compared, order.asked.device, check)
    return own, case_dice(model, labelled_studies(order.base), order.asked.device, check) if order.base else None


def _described(spec: ModelSpec, order: TrainingOrder, version: str, steps: int, material: Material) -> ModelSpec:
    about = {
        **{"started_from": version, "seed": order.asked.seed, "steps": steps, "rate": RATE, "share_of_new_weights": SHARE},
        "patients": {side: len(names) for side, names in material.patients().items()},
    }
    return spec.model_copy(update={"training": about})


def tidy_after(model: Path) -> None:
    """Clear away the half-written files of a killed process, and finish or forget what it was about to publish."""
    folder = round_folder(model)
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.tmp"):
        left.unlink()
    ModelStore(model).recover()


def _mean(dice: CaseDice) -> float:
    return round(fmean(row["mean"] for row in dice.values()), 4)


def _rounded(row: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in row.items()}
