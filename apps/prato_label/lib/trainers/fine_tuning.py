"""A model fine-tuned on labelled studies, and held close to what it was."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from lib.trainers.blending import best_blend
from lib.trainers.material import Material
from lib.trainers.parameters import TrainingParameters
from lib.trainers.progress import TrainingProgress
from prato.checkpoint import ModelSpec
from prato.data.cases import TrainingCase
from prato.training import Budget, Progress, PromptedNetwork, Settings, Trainer
from prato.validation import slice_dice

#: Far below the rate for a network that starts from nothing: at 3e-4, AdamW's first steps undo more than a short training brings back.
RATE = 1.5e-4
_BATCH = 8
#: How often in a training, and on how many studies at most, the growing model is looked at.
_LOOKS, _LOOKED_AT = 3, 8


def planned(cases: Sequence[TrainingCase], asked: TrainingParameters) -> tuple[int, int]:
    """Epochs and steps that a training on ``cases`` takes."""
    an_epoch = -(-sum(case.slices[1] - case.slices[0] for case in cases) // _BATCH)
    steps = min(asked.max_epochs * an_epoch, asked.max_steps)
    return -(-steps // an_epoch), steps


def fine_tuned(
    network: PromptedNetwork, spec: ModelSpec, asked: TrainingParameters, material: Material, progress: TrainingProgress
) -> tuple[nn.Module, float]:
    """``network`` trained for as many steps as ``progress`` expects, then blended with its old self as validation patients like it best.

    Returns:
        The network in evaluation mode, and the share (0..1) of fine-tuned weights in it.
    """
    start = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(asked.seed)
    device, steps = torch.device(asked.device), progress.steps
    trainer = Trainer(network, spec.pruning_plan(), Settings(_BATCH, RATE, spec.window, asked.seed), device)

    def dice(model: PromptedNetwork) -> dict[str, float]:
        return slice_dice(model, trainer.plan, material.validation[:_LOOKED_AT], spec.window, device)

    def report(done: Progress) -> bool:
        progress.step(done.step, done.loss)
        if done.step < steps and done.step * _LOOKS // steps > (done.step - 1) * _LOOKS // steps:
            progress.validation(dice(trainer.averaged))
        return True

    trained = trainer.fit(material.training, Budget(steps=steps), report)
    share = best_blend(start, trained, lambda model: dice(model)["mean"])
    progress.validation(dice(trained))
    return trained, share
