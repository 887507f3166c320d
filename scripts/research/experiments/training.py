"""Training of one experiment: the project's trainer for all, with what a method's source asks for besides."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from prato.data.atomic import make_folder, write_bytes
from prato.models.checkpoint import ModelSpec, load_model, read_spec, save_model
from prato.runtime.devices import device_name
from prato.training.losses import PratoLoss
from prato.training.trainer import Budget, Progress, Settings, Trainer
from scripts.research.baselines.loss import BaselineLoss
from scripts.research.baselines.method import TokenMethod
from scripts.research.datasets.base import ExperimentError
from scripts.research.experiments.networks import model_spec
from scripts.research.experiments.schema import Experiment, is_same_experiment

#: The same for every experiment.
_RATE = 1e-3
#: About so many points has a loss curve, and a state is stored so often.
_POINTS, _SAVE_EVERY_S = 50, 30.0


@dataclass(frozen=True)
class ModelFiles:
    """Where the model ``name`` lies below ``folder``, and what a killed training needs."""

    folder: Path
    name: str

    @property
    def model(self) -> Path:
        """The weights."""
        return self.folder / f"{self.name}.safetensors"

    @property
    def state(self) -> Path:
        """The trainer's state."""
        return self.folder / f"{self.name}.state.pt"

    @property
    def curve(self) -> Path:
        """Loss by step, of a training that goes on."""
        return self.folder / f"{self.name}.curve.json"


def load_trained(files: ModelFiles, experiment: Experiment) -> ModelSpec | None:
    """What the model file says of itself; None where there is none.

    Raises:
        ExperimentError: it was trained otherwise than ``experiment`` says.
        CheckpointError: it cannot be used.
    """
    if not files.model.exists():
        return None
    spec = read_spec(files.model)
    if not is_same_experiment(spec.training.get("experiment"), _training_key(experiment)):
        raise ExperimentError(
            f"{files.model} was trained for another plan, seed or budget than {files.name}: delete it or use another --models."
        )
    return spec


def _training_key(experiment: Experiment) -> Experiment:
    """What a model's training depends on: everything but the box that it is measured with."""
    return experiment.model_copy(update={"model_of": None, "box": "tight"})


def train_experiment(
    experiment: Experiment,
    files: ModelFiles,
    teacher: Path | None,
    samples: Dataset,
    device: torch.device,
    made_by: dict[str, Any],
    report: Callable[[Progress], object],
) -> ModelSpec:
    """Train, from fresh weights or where a killed training was, and write the model file.

    Args:
        teacher: model file that a method learns from which needs one.
        made_by: for the model file: commit and command.

    Raises:
        ValueError: the state belongs to another run.
    """
    spec, budget = model_spec(experiment), experiment.budget
    torch.manual_seed(experiment.seed)
    settings = Settings(budget.batch, _RATE, experiment.sight.edge, experiment.seed, centre="image")
    settings = replace(settings, levels=experiment.recipe == "engine", dense_first=experiment.dense_first)
    run = {"experiment": _training_key(experiment).model_dump(mode="json")}
    loss: nn.Module | None = PratoLoss(supervision=0.0) if experiment.recipe == "paper" else None
    loss = BaselineLoss() if experiment.is_baseline else loss
    trainer = Trainer(spec.build(), experiment.pruning_plan(), settings, device, run, loss=loss)
    method: TokenMethod | None = getattr(trainer.network, "method", None)
    if method is not None and teacher is not None:
        method.teach(load_model(teacher)[0].to(device).answer)
    trainer.resume(files.state)
    amount = Budget(budget.steps, budget.minutes)
    if method is not None:
        method.set_progress(amount.fraction_spent(trainer.step, trainer.seconds))
    curve = _Curve(files.curve, trainer.step, amount.fraction_spent(trainer.step, trainer.seconds))

    def after_step(progress: Progress) -> bool:
        if method is not None:
            method.set_progress(progress.share)
        curve.add(progress)
        report(progress)
        return True

    make_folder(files.model.parent)
    trainer.fit(samples, amount, after_step, files.state, _SAVE_EVERY_S)
    spent = {"steps": trainer.step, "minutes": round(trainer.seconds / 60, 2), "batch": budget.batch}
    training = {**run, "spent": spent, "loss_curve": curve.points, "device": device_name(device), **made_by}
    spec = spec.model_copy(update={"training": training})
    save_model(files.model, trainer.averaged, spec)
    for left in (files.state, files.curve):
        left.unlink(missing_ok=True)
    return spec


class _Curve:
    """Mean loss at some fifty of the budget's steps. What was written after the state was stored is written again."""

    def __init__(self, path: Path, step: int, share: float) -> None:
        """Args: step, share: of the budget, from which the training goes on."""
        self.path, self.share = path, share
        rows: list[list[float]] = json.loads(path.read_bytes()) if path.exists() else []
        self.points = [row for row in rows if row[0] <= step]

    def add(self, progress: Progress) -> None:
        before, self.share = self.share, progress.share
        if int(_POINTS * before) < int(_POINTS * progress.share) or progress.step == 1:
            self.points.append([progress.step, round(progress.loss, 4)])
            write_bytes(self.path, json.dumps(self.points).encode())
