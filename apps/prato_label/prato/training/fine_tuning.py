"""Fine-tunes a model on labelled studies, and keeps it close to what it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prato.data.cases import TrainingCase
from prato.data.structures import STRUCTURES
from prato.evaluation.validation import slice_dice
from prato.models.base import PrunableNetwork
from prato.models.checkpoint import ModelSpec
from prato.runtime.precision import autocast, is_bfloat16_fast
from prato.training.progress import TrainingProgress
from prato.training.slice_bank import SliceBank
from prato.training.stack_trainer import Recipe, StackTrainer
from prato.training.trainer import Budget, Progress, Settings, Trainer
from prato.training.window_dice import window_dice

#: The largest, far below that of a network that starts from nothing: at 3e-4, AdamW's first steps undo more than a short training brings
#: back.
LEARNING_RATE = 1.5e-4
#: Of it, the least that any labels are learned at.
_GENTLE = 0.1
BATCH_SIZE = 8
#: Edge, in pixels, of the windows that a network for stacks is tuned on: those of 128 that it first learned on take half as long again,
#: and teach it no more.
_TUNED_EDGE = 96
#: Share of the fine-tuned weights in the candidate. Fixed, not chosen on the patients who then decide whether it is published: they would
#: be consulted four times and would favour the luckiest. scripts/simulate/forgetting.py measured it.
BLEND_SHARE = 0.5
#: How often in a training the growing model is validated, which is shown to people and decides nothing.
_VALIDATIONS = 3
#: Studies at most on which it is, and by which the rate is chosen.
_MEASURED = 8
_SAVE_EVERY_S = 15.0


class TrainingStopped(Exception):
    """The training was stopped before its end; what it had reached is stored."""


@dataclass(frozen=True)
class TrainingParameters:
    """What a request may choose of a training.

    Attributes:
        max_epochs, max_steps: whichever is reached first ends it. An epoch shows as many slices as the training patients have.
        val_split: share of the patients that are held out to compare models on; patients already assigned stay where they are.
        seed: everything random follows from it.
        device: a torch device.
    """

    max_epochs: int = 20
    max_steps: int = 120
    val_split: float = 0.2
    seed: int = 1
    device: str = "cpu"


@dataclass(frozen=True)
class FineTuning:
    """What a network is fine-tuned on, and how.

    Attributes:
        spec: of the network. training, validation: cases that it learns from, and that its Dice is followed on.
        rate: peak learning rate. progress: says how many steps there are, and is told how far they are.
        state_file: kept every 15 seconds and when stopped; a training with the same ``run`` resumes from it, with the same result.
        should_continue: called after every step.
    """

    spec: ModelSpec
    parameters: TrainingParameters
    training: Sequence[TrainingCase]
    validation: Sequence[TrainingCase]
    rate: float
    progress: TrainingProgress
    state_file: Path
    run: Mapping[str, Any] = field(default_factory=dict)
    should_continue: Callable[[], bool] = lambda: True


class FrozenBatchNormTrainer(Trainer):
    """Batch normalisation keeps its statistics: those of a handful of new images would soon stand for all images."""

    def set_train_mode(self) -> None:
        super().set_train_mode()
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def blend(start: Mapping[str, Tensor], tuned: nn.Module, share: float) -> None:
    """Move the weights of ``tuned`` back towards ``start``, to ``share`` (0..1) of the way; integer buffers stay those of ``tuned``.

    Between the model that was and the model that a few labels made of it: what fine-tuning learns of the new images is kept, while much
    of what it forgets of all others comes back (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
    """
    tuned.load_state_dict(
        {
            name: torch.lerp(start[name].to(value), value, share) if value.is_floating_point() else value
            for name, value in tuned.state_dict().items()
        }
    )


def schedule(cases: Sequence[TrainingCase], parameters: TrainingParameters) -> tuple[int, int]:
    """Epochs and steps that a training on ``cases`` takes."""
    steps_per_epoch = -(-sum(case.slices[1] - case.slices[0] for case in cases) // BATCH_SIZE)
    steps = min(parameters.max_epochs * steps_per_epoch, parameters.max_steps)
    return -(-steps // steps_per_epoch), steps


def choose_rate(network: PrunableNetwork, spec: ModelSpec, training: Sequence[TrainingCase], device: str) -> float:
    """The peak learning rate for ``training``: the further the network is from these labels, the larger.

    Hearts that it knows already are hardly learned from, and at the full rate their few steps blur what many have taught it; hearts of a
    kind that it has never seen need all of it (scripts/simulate/fine_tuning_rates.py measured both). At a Dice of 0.925 a tenth, from 0.7
    down the full rate. Only patients that are trained on are looked at: those held back decide, later, whether the result is published.
    """
    dice = _measure_with(spec, training[:_MEASURED], torch.device(device))(network.to(device).eval())["mean"]
    return LEARNING_RATE * min(max(4 * (1 - dice) - 0.2, _GENTLE), 1.0)


def fine_tune(network: PrunableNetwork, job: FineTuning) -> nn.Module:
    """Train ``network`` for as many steps as the job's progress expects, then blend it with its old self.

    Returns:
        The network in evaluation mode.

    Raises:
        TrainingStopped: ``job.should_continue`` returned False.
    """
    start = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(job.parameters.seed)
    tune = _fit_stacks if job.spec.centre == "stack" else _fit_windows
    job = replace(job, validation=job.validation[:_MEASURED], run={**job.run, "steps": job.progress.steps})
    trained, dice = tune(network, job)
    blend(start, trained, BLEND_SHARE)
    job.progress.report_validation(dice(trained))
    return trained


def _fit_windows(network: PrunableNetwork, job: FineTuning) -> tuple[nn.Module, Callable[[Any], dict[str, float]]]:
    """``network`` trained on windows, and what measures it on the validation cases."""
    device, steps = torch.device(job.parameters.device), job.progress.steps
    settings = Settings(BATCH_SIZE, job.rate, job.spec.window, job.parameters.seed, centre=job.spec.centre)
    trainer = FrozenBatchNormTrainer(network, job.spec.pruning_plan(), settings, device, job.run)
    _resume(trainer, job.state_file)

    dice = _measure_with(job.spec, job.validation, device)
    job.progress.report_validation(dice(trainer.averaged))  # what those that follow compare with: whole volumes have another Dice

    def report(state: Progress) -> bool:
        job.progress.report_step(state.step, state.loss)
        going_on = job.should_continue()
        if going_on and _is_validation_due(state.step, steps):
            job.progress.report_validation(dice(trainer.averaged))
        return going_on

    trained = trainer.fit(job.training, Budget(steps=steps), report, job.state_file, _SAVE_EVERY_S)
    if trainer.step < steps:
        raise TrainingStopped
    return trained, dice


def _fit_stacks(network: Any, job: FineTuning) -> tuple[nn.Module, Callable[[Any], dict[str, float]]]:
    """As :func:`_fit_windows`, for a network that looks at stacks: each step takes one."""
    device, steps = torch.device(job.parameters.device), job.progress.steps
    recipe = Recipe(
        steps=steps,
        stacks=1,
        depth=BATCH_SIZE,
        edge=min(_TUNED_EDGE, job.spec.window),
        rate=job.rate,
        average=0.995,
        seed=job.parameters.seed,
        precision="bfloat16" if is_bfloat16_fast(device) else "float32",
        frozen_norm=True,
    )
    trainer = StackTrainer(network, SliceBank.from_cases(job.training, device), recipe, run=job.run)
    _resume(trainer, job.state_file)
    dice = _measure_with(job.spec, job.validation, device)
    tuned = job.spec.build().to(device)
    tuned.load_state_dict(trainer.averaged())
    job.progress.report_validation(dice(tuned))  # as above

    def report(trainer: StackTrainer) -> bool:
        job.progress.report_step(trainer.step, trainer.losses[0])
        going_on = job.should_continue()
        if going_on and _is_validation_due(trainer.step, steps):
            tuned.load_state_dict(trainer.averaged())
            job.progress.report_validation(dice(tuned))
        return going_on

    trainer.fit(report, state_file=job.state_file, save_every_s=_SAVE_EVERY_S)
    if trainer.step < steps:
        raise TrainingStopped
    tuned.load_state_dict(trainer.averaged())
    return tuned.eval(), dice


def _measure_with(spec: ModelSpec, cases: Sequence[TrainingCase], device: torch.device) -> Callable[[Any], dict[str, float]]:
    """What gives the Dice of a network on ``cases``, by structure and their mean, with tight boxes, as it is trained to look at them."""
    if spec.centre != "stack":
        plan = spec.pruning_plan()
        return lambda model: slice_dice(model, plan, cases, spec.window, device, spec.centre)
    bank = SliceBank.from_cases(cases, device)

    def dice(model: Any) -> dict[str, float]:
        with autocast(device):
            mean = window_dice(model.eval(), bank, edge=spec.window).mean(0)
        found = {name: round(float(mean[value - 1]), 4) for name, value in STRUCTURES.items()}
        return {**found, "mean": round(float(mean.mean()), 4)}

    return dice


def _is_validation_due(step: int, steps: int) -> bool:
    """At equal distances, the last of them left to the end of the training."""
    return step < steps and step * _VALIDATIONS // steps > (step - 1) * _VALIDATIONS // steps


def _resume(trainer: Trainer | StackTrainer, state_file: Path) -> None:
    """Go on where a training of the same kind was stopped; the state of any other one is removed."""
    try:
        trainer.resume(state_file)
    except ValueError:
        state_file.unlink()  # of other labels, another model or other parameters
