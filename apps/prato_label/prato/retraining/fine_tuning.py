"""A model fine-tuned on labelled studies, and held close to what it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prato.data.cases import TrainingCase
from prato.evaluation.validation import slice_dice
from prato.models import PromptedNetwork
from prato.models.checkpoint import ModelSpec
from prato.retraining.blending import blend
from prato.retraining.frozen import FrozenStatistics
from prato.retraining.material import Material
from prato.retraining.order import TrainingParameters
from prato.retraining.progress import TrainingProgress
from prato.retraining.stopping import Stopped
from prato.training.trainer import Budget, Progress, Settings

#: Far below the rate for a network that starts from nothing: at 3e-4, AdamW's first steps undo more than a short training brings back.
RATE = 1.5e-4
BATCH = 8
#: Share of the fine-tuned weights in the candidate. Fixed, not chosen by the patients who then decide whether it is published: they would
#: be asked four times and answer with the luckiest. scripts/simulate/forgetting.py measured it.
SHARE = 0.5
#: How often in a training, and on how many studies at most, the growing model is looked at. It is shown to people and decides nothing.
_LOOKS, _LOOKED_AT = 3, 8
_SAVE_EVERY_S = 15.0


def planned(cases: Sequence[TrainingCase], asked: TrainingParameters) -> tuple[int, int]:
    """Epochs and steps that a training on ``cases`` takes."""
    an_epoch = -(-sum(case.slices[1] - case.slices[0] for case in cases) // BATCH)
    steps = min(asked.max_epochs * an_epoch, asked.max_steps)
    return -(-steps // an_epoch), steps


def fine_tuned(
    network: PromptedNetwork,
    spec: ModelSpec,
    asked: TrainingParameters,
    material: Material,
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
        return slice_dice(model, trainer.plan, material.validation[:_LOOKED_AT], spec.window, device)

    def report(done: Progress) -> bool:
        progress.step(done.step, done.loss)
        going = go_on()
        if going and done.step < steps and done.step * _LOOKS // steps > (done.step - 1) * _LOOKS // steps:
            progress.validation(dice(trainer.averaged))
        return going

    trained = trainer.fit(material.training, Budget(steps=steps), report, state_file, _SAVE_EVERY_S)
    if trainer.step < steps:
        raise Stopped
    blend(start, trained, SHARE)
    progress.validation(dice(trained))
    return trained
