"""Training of the locator: coarse slices of whole fields of view, heart or no heart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn

from prato.data.cases import TrainingCase, read_label
from prato.data.nifti import read_volume
from prato.data.stack import slice_axis, to_stack, volume_to_stack
from prato.data.studies import StudyFile
from prato.inference.locator import LOCATOR, Locator
from prato.prompts.box import Box
from prato.training.augmentation import augment_intensity, random_affine, sample_window

_BATCH = 16


def train_locator(cases: Sequence[TrainingCase], steps: int, seed: int, report: Callable[[float], object] = float) -> nn.Module:
    """A locator trained for ``steps`` steps on ``cases`` (loaded at ``LOCATOR.pixel`` mm); on a CPU one seed gives one result.

    ``steps`` is at least 1; ``report`` is called with the loss after every step.
    """
    torch.manual_seed(seed)
    network = LOCATOR.build()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    warm_up = 0.1 if steps > 10 else 0.3  # torch divides by the steps of the warm-up less one
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps, pct_start=warm_up)
    loss = DiceCELoss(sigmoid=True, batch=True)
    network.train()
    for step in range(steps):
        drawn = [_sample(cases, seed, step * _BATCH + n) for n in range(_BATCH)]
        image, heart = (torch.stack(part) for part in zip(*drawn))
        optimiser.zero_grad(set_to_none=True)
        value = loss(network(image), heart)
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        report(float(value.detach()))
    return network.eval()


def _sample(cases: Sequence[TrainingCase], seed: int, n: int) -> tuple[Tensor, Tensor]:
    """Image (3, size, size) and heart (1, size, size): any slice of a case, augmented and shifted by up to 60 mm."""
    rng = np.random.default_rng((seed, n, 2))
    case = cases[int(rng.integers(len(cases)))]
    planes = case.image.shape[0]
    k = int(rng.integers(planes))
    affine = random_affine(rng, case.pixel)
    middle = affine @ (np.array(case.image.shape[1:]) / 2) + rng.uniform(-20, 20, 2)
    order = (-1, 0, 1) if rng.random() < 0.5 else (1, 0, -1)
    image, label = sample_window(case, [min(max(k + s, 0), planes - 1) for s in order], k, affine, np.round(middle), LOCATOR.window)
    return augment_intensity(image, rng), (label > 0).float().unsqueeze(0)


def box_fit(locator: Locator, files: Sequence[StudyFile]) -> str:
    """How well the boxes proposed for the labelled studies ``files`` fit the tight boxes of their labels, in one sentence."""
    overlaps, covers = [], []
    for file in files:
        volume = read_volume(file.image)
        axis = slice_axis(volume.spacing)
        heart = to_stack(read_label(file.label, volume), axis) > 0
        tight = Box.around(heart)
        if tight is None:
            continue
        proposed = locator.propose(volume_to_stack(volume, axis))
        common = proposed.intersection(tight) if proposed else None
        if proposed is None or common is None:
            overlaps.append(0.0)
            covers.append(0.0)
            continue
        overlaps.append(common.voxels / (tight.voxels + proposed.voxels - common.voxels))
        covers.append(float(heart[proposed.slices].sum() / heart.sum()))
    if not overlaps:
        return "No study of a validation patient has a heart in its label: how well the proposed boxes fit is not known."
    missed = sum(overlap == 0 for overlap in overlaps)
    return (
        f"On {len(overlaps)} studies of validation patients the proposed box has a mean IoU of {np.mean(overlaps):.3f} with the tight box "
        f"and holds {100 * np.mean(covers):.1f} % of the heart's voxels on average (least: {100 * min(covers):.1f} %); {missed} missed."
    )
