"""A model fine-tuned on labelled studies, and held close to what it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prato.data.cases import TrainingCase
from prato.evaluation.validation import slice_dice
from prato.models import PromptedNetwork
from prato.models.checkpoint import ModelSpec
from prato.training.progress import TrainingProgress
from prato.training.trainer import Budget, Progress, Settings, Trainer

#: Far below the rate for a network that starts from nothing: at 3e-4, AdamW's first steps undo more than a short training brings back.
RATE = 1.5e-4
BATCH = 8
#: Share of the fine-tuned weights in the candidate. Fixed, not chosen by the patients who then decide whether it is published: they would
#: be asked four times and answer with the luckiest. scripts/simulate/forgetting.py measured it.
SHARE = 0.5
#: How often in a training, and on how many studies at most, the growing model is looked at. It is shown to people and decides nothing.
_LOOKS, _LOOKED_AT = 3, 8
_SAVE_EVERY_S = 15.0


@dataclass(frozen=True)
class TrainingParameters:
    """A training as asked for.

    Attributes:
        max_epochs, max_steps: whichever is reached first ends it. An epoch shows as many slices as the training patients have.
        val_split: share of the patients that are held back to compare models on; patients already dealt stay where they are.
        seed: everything random follows from it.
        device: a torch device.
    """

    max_epochs: int = 20
    max_steps: int = 120
    val_split: float = 0.2
    seed: int = 1
    device: str = "cpu"


def planned(cases: Sequence[TrainingCase], asked: TrainingParameters) -> tuple[int, int]:
    """Epochs and steps that a training on ``cases`` takes."""
    an_epoch = -(-sum(case.slices[1] - case.slices[0] for case in cases) // BATCH)
    steps = min(asked.max_epochs * an_epoch, asked.max_steps)
    return -(-steps // an_epoch), steps


def fine_tuned(
    network: PromptedNetwork,
    spec: ModelSpec,
    asked: TrainingParameters,
    training: Sequence[TrainingCase],
    validation: Sequence[TrainingCase],
    progress: TrainingProgress,
    state_file: Path,
    run: dict[str, Any],
    go_on: Callable[[], bool],
) -> nn.Module:
    """``network`` trained for as many steps as ``progress`` expects, then blended with its old self.

    Args:
        state_file: kept every 15 seconds and when stopped; a training with the same ``run`` goes on from it, with the same result.
        go_on: asked after every step.

    Returns:
        The network in evaluation mode.

    Raises:
        Stopped: ``go_on`` said no.
    """
    start = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(asked.seed)
    device, steps = torch.device(asked.device), progress.steps
    settings = Settings(BATCH, RATE, spec.window, asked.seed)
    trainer = FrozenStatistics(network, spec.pruning_plan(), settings, device, {**run, "steps": steps})
    try:
        trainer.resume(state_file)
    except ValueError:
        state_file.unlink()  # of other labels, another model or other parameters

    def dice(model: PromptedNetwork) -> dict[str, float]:
        return slice_dice(model, trainer.plan, validation[:_LOOKED_AT], spec.window, device)

    def report(done: Progress) -> bool:
        progress.step(done.step, done.loss)
        going = go_on()
        if going and done.step < steps and done.step * _LOOKS // steps > (done.step - 1) * _LOOKS // steps:
            progress.validation(dice(trainer.averaged))
        return going

    trained = trainer.fit(training, Budget(steps=steps), report, state_file, _SAVE_EVERY_S)
    if trainer.step < steps:
        raise Stopped
    blend(start, trained, SHARE)
    progress.validation(dice(trained))
    return trained


class FrozenStatistics(Trainer):
    """Batch normalisation keeps its statistics: those of a handful of new images would soon stand for all images."""

    def prepare(self) -> None:
        super().prepare()
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def blend(start: Mapping[str, Tensor], tuned: nn.Module, share: float) -> None:
    """Give ``tuned`` the weights ``share`` of the way (0..1) from those of ``start`` to its own; what counts or indexes stays its own."""
    tuned.load_state_dict(
        {
            name: torch.lerp(start[name].to(value), value, share) if value.is_floating_point() else value
            for name, value in tuned.state_dict().items()
        }
    )


class Stopped(Exception):
    """The training was stopped before its end; what it had reached is stored."""
