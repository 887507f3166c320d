"""A quick look at a network that is trained on windows: Dice of whole stacks at the network's resolution, without leaving the device."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from prato.data.resampling import between_neighbours
from prato.models.overview import TOKEN
from prato.training.slice_bank import CANVAS, SliceBank

#: "tight": a window round the box of the expert's label; "none": where the relevance finds the heart.
Prompting = Literal["tight", "none"]


@torch.inference_mode()
def window_dice(network: Any, bank: SliceBank, prompting: Prompting = "tight", edge: int = 128) -> Tensor:
    """Dice (cases, structures) of ``network``, in evaluation mode, on the cases of ``bank``; with a box, on the slices that it spans. A
    structure that neither label nor mask has counts 1, as in :mod:`prato.evaluation`."""
    rows = []
    for case in range(len(bank)):
        image, label = bank.case(case)
        box = bounds_of(bank.footprints[case] > 0)
        overview = F.avg_pool2d(image.unsqueeze(1), 2).squeeze(1)
        has_box = torch.tensor([prompting == "tight"], device=image.device)
        middle = box.mean(0)
        if prompting == "none":
            relevant = network.heart_relevance(network.overview(overview.unsqueeze(0)), box.unsqueeze(0), has_box)[0]
            found = (relevant > 0).any(0)
            middle = bounds_of(found).mean(0) * TOKEN if bool(found.any()) else torch.full_like(middle, CANVAS / 2)
        corner = ((middle - edge / 2) / TOKEN).round().long().mul(TOKEN).clamp(0, CANVAS - edge)
        rows_, columns = (slice(int(c), int(c) + edge) for c in corner)
        window = between_neighbours(image)[:, :, rows_, columns].unsqueeze(0)
        logits, _ = network.train_windows(window, corner.unsqueeze(0), overview.unsqueeze(0), box.unsqueeze(0), has_box)
        mask = torch.zeros_like(label)
        mask[:, rows_, columns] = logits.float().argmax(1)
        if prompting == "tight":
            mask[~(label > 0).flatten(1).any(1)] = 0
        ours, theirs = (torch.stack([values == s for s in range(1, logits.shape[1])]).flatten(1) for values in (mask, label))
        total = ours.sum(1) + theirs.sum(1)
        rows.append(torch.where(total > 0, 2 * (ours & theirs).sum(1) / total.clamp_min(1), 1.0))
    return torch.stack(rows)


def bounds_of(present: Tensor) -> Tensor:
    """float32 (2, 2), start and stop of what is True in bool (H, W)."""
    where = present.nonzero()
    return torch.stack([where.amin(0), where.amax(0) + 1]).float()
