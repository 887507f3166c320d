"""A quick look at a network while it trains: Dice on the slices of some cases, in windows round tight boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prato.data.cases import TrainingCase
from prato.data.resampling import stack_neighbours
from prato.data.structures import NUM_CLASSES, STRUCTURES
from prato.inference.window import Window
from prato.models.base import PrunableNetwork
from prato.models.checkpoint import Centre
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.plan import PruningPlan


@torch.no_grad()
def slice_dice(
    network: PrunableNetwork,
    plan: PruningPlan | None,
    cases: Sequence[TrainingCase],
    window: int,
    device: torch.device,
    centre: Centre = "box",
) -> dict[str, float]:
    """Dice by structure, each the mean over ``cases`` of the volume Dice at the network's resolution; "mean" is over structures."""
    was_training = network.training
    network.eval()
    rows = [_case_dice(network, plan, case, window, device, centre) for case in cases]
    network.train(was_training)
    mean = torch.stack(rows).mean(0)
    result = {name: float(mean[value - 1]) for name, value in STRUCTURES.items()}
    return {**{k: round(v, 4) for k, v in result.items()}, "mean": round(float(mean.mean()), 4)}


def heart_slices(case: TrainingCase, size: int, centre: Centre = "box") -> tuple[Window, Tensor]:
    """The window of ``size`` pixels round the middle of the heart or image, and in it the slices with some heart: (K, 3, size, size)."""
    low, high = case.footprint.amin(0), case.footprint.amax(0) + 1
    if centre == "image":
        low, high = torch.zeros(2), torch.tensor(case.image.shape[1:])
    corner = (int((low[0] + high[0] - size) // 2), int((low[1] + high[1] - size) // 2))
    shape = (case.image.shape[1], case.image.shape[2])
    place = Window(shape, shape, corner, size)
    return place, stack_neighbours(place.cut(case.image.float()), range(*case.slices))


def _case_dice(
    network: PrunableNetwork, plan: PruningPlan | None, case: TrainingCase, size: int, device: torch.device, centre: Centre
) -> Tensor:
    place, image = heart_slices(case, size, centre)
    low, high = case.footprint.amin(0), case.footprint.amax(0) + 1
    label = (place.cut(case.label[case.slices[0] : case.slices[1]].float() - 1) + 1).long()
    box = [[float(low[a]) - place.corner[a] for a in (0, 1)], [float(high[a]) - place.corner[a] for a in (0, 1)]]
    prompts = PromptBatch.of(BoxPrompt, [[box]] * len(image), (size, size))
    predicted = network.segment(image.to(device), prompts, plan).logits.argmax(1).cpu()
    dice = []
    for value in range(1, NUM_CLASSES):
        ours, theirs = predicted == value, label == value
        both = ours.sum() + theirs.sum()
        dice.append(2.0 * (ours & theirs).sum() / both if both else torch.tensor(1.0))  # rightly absent
    return torch.stack(dice)
