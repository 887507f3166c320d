"""The rows of the paper's tables on the trainer that makes its batches on the device: whole slices or views of the box, and their losses.

Needs torch and MONAI alone, as scripts/research/train_queue.py does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prato.data.resampling import between_neighbours
from prato.models import segformer, swin_unetr, transunet  # noqa: F401 - registers networks
from prato.models.registry import build_model
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.plan import PruningPlan
from prato.training.batch_augmentation import StackBatch, StackSampler
from prato.training.losses import PratoLoss
from prato.training.slice_bank import CANVAS, SliceBank
from prato.training.stack_trainer import Recipe
from prato.training.window_dice import bounds_of
from scripts.research.baselines.loss import BaselineLoss
from scripts.research.baselines.method import Teacher


@dataclass
class PaperRow:
    """One row of the queue, with all that it needs to train.

    Attributes:
        network: as ``build_model`` takes it, with its ``arguments``.
        edge: of what it sees, in pixels. boxes: how many boxes long its view is; 0 where it sees the whole image.
        field: edge of the whole image in pixels of the bank. colours: whether images are three colours, not slices between neighbours.
        plan: of method prato, as it is stored. engine: the project's recipe. dense_first: share of training in which no token leaves.
    """

    network: str
    arguments: Mapping[str, Any]
    edge: int
    boxes: float = 0.0
    field: float = CANVAS
    colours: bool = False
    plan: Mapping[str, Any] | None = None
    engine: bool = False
    dense_first: float = 0.0
    is_baseline: bool = False

    def build(self) -> Any:
        """The network, with fresh weights or for trained ones."""
        arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in self.arguments.items()}
        return build_model(self.network, **arguments)

    def sampler(self, bank: SliceBank, seed: int, batch: int) -> StackSampler:
        """Batches of single slices, or images, each whole on the canvas and with a box."""
        return (_ColourSampler if self.colours else _BoxedSampler)(bank, seed, batch, 1, CANVAS)

    def view(self, box: Tensor) -> tuple[Tensor, Tensor]:
        """Start and stop (B, 2) of what the network sees, in pixels of the canvas, for ``box`` (B, 2, 2)."""
        if not self.boxes:
            middle, half = torch.full_like(box[:, 0], CANVAS / 2), torch.full_like(box[:, 0], self.field / 2)
        else:
            middle, half = box.mean(1), self.boxes * (box[:, 1] - box[:, 0]).clamp_min(1.0) / 2
        return middle - half, middle + half

    def see(self, image: Tensor, label: Tensor, box: Tensor) -> tuple[Tensor, Tensor, PromptBatch]:
        """What the network is shown of ``image`` (B, 3, CANVAS, CANVAS), its ``label`` (B, CANVAS, CANVAS), and the box in it."""
        start, stop = self.view(box)
        steps = (torch.arange(self.edge, device=image.device) + 0.5) / self.edge
        places = start.unsqueeze(2) + (stop - start).unsqueeze(2) * steps  # (B, 2, edge)
        grid = torch.stack(torch.broadcast_tensors(places[:, 1, None, :], places[:, 0, :, None]), -1) * (2 / CANVAS) - 1
        seen = F.grid_sample(image + 1, grid, mode="bilinear", padding_mode="zeros", align_corners=False) - 1
        there = F.grid_sample(label.unsqueeze(1).float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
        inside = ((box - start.unsqueeze(1)) * self.edge / (stop - start).unsqueeze(1)).clamp(0, self.edge)
        low = inside[:, 0].clamp_max(self.edge - 1.0)
        inside = torch.stack([low, torch.maximum(inside[:, 1], low + 1)], 1)
        seen = seen.contiguous(memory_format=torch.channels_last)
        return seen, there[:, 0].long(), PromptBatch.one_each(BoxPrompt, inside, (self.edge, self.edge))

    def pruning_plan(self) -> PruningPlan | None:
        """The plan as an object."""
        return None if self.plan is None else PruningPlan.from_dict(self.plan)


class RowLoss:
    """The loss of a batch for a row, called by ``StackTrainer``.

    Args:
        recipe: of the training. teacher: whom a method learns from that needs one.

    Attributes:
        step: steps done; to be set where a training goes on.
    """

    def __init__(self, row: PaperRow, network: Any, recipe: Recipe, teacher: Teacher | None = None) -> None:
        self.row, self.network, self.recipe = row, network, recipe
        self.loss: Any = BaselineLoss() if row.is_baseline else PratoLoss() if row.engine else PratoLoss(supervision=0.0)
        self.step = 0
        if teacher is not None:
            network.method.teach(teacher)

    def __call__(self, batch: StackBatch) -> tuple[Tensor, Tensor, Tensor]:
        row, share = self.row, self.step / self.recipe.steps
        method = getattr(self.network, "method", None)
        if method is not None:
            method.set_progress(share)
        image, label, prompts = row.see(batch.window[:, 0], batch.label[:, 0], batch.box)
        device = image.device.type
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)  # what a network draws depends on seed and step alone
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            output = self.network.segment(image, prompts, self._plan(share))
        output = replace(output, logits=output.logits.float())
        self.step += 1
        total = self.loss(output, label)
        return total, total, torch.zeros_like(total)

    def _plan(self, share: float) -> PruningPlan | None:
        plan = self.row.pruning_plan()
        if plan is None or share < self.row.dense_first:
            return None
        if not self.row.engine:
            return plan
        choice = float(torch.rand((), generator=torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.step)))
        return plan.with_random_override(choice)


@torch.inference_mode()
def row_dice(row: PaperRow, network: Any, bank: SliceBank) -> Tensor:
    """Dice (cases, structures) of ``network``, in evaluation mode, under tight boxes, on what it sees of the cases of ``bank``."""
    rows = []
    for case in range(len(bank)):
        image, label = bank.case(case)
        if row.colours:
            image, label = image.unsqueeze(0), label[:1]
        else:
            image = between_neighbours(image)
            has_heart = (label > 0).flatten(1).any(1)  # a box spans no other slices
            image, label = image[has_heart], label[has_heart]
        box = bounds_of(bank.footprints[case] > 0).expand(len(image), -1, -1)
        seen, there, prompts = row.see(image, label, box)
        mask = network.segment(seen, prompts, row.pruning_plan()).logits.float().nan_to_num().argmax(1)
        classes = range(1, row.arguments["out_channels"])
        ours, theirs = (torch.stack([values == n for n in classes]).flatten(1) for values in (mask, there))
        rows.append(2 * (ours & theirs).sum(1) / (ours.sum(1) + theirs.sum(1)).clamp_min(1))
    return torch.stack(rows)


class _BoxedSampler(StackSampler):
    """Every sample has a box: a tight one where none would be drawn."""

    def _boxes(self, footprint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        box, has_box, bounds = super()._boxes(footprint)
        return torch.where(has_box[:, None, None], box, bounds), torch.ones_like(has_box), bounds


class _ColourSampler(_BoxedSampler):
    """Cases are images, their slices red, green and blue."""

    def _planes(self) -> tuple[Tensor, Tensor]:
        case = (self._rand(self.stacks) * len(self.bank)).long().clamp_max(len(self.bank) - 1)
        one = self.bank.first[case].unsqueeze(1) + torch.arange(3, device=case.device)
        return case, torch.stack([one, one], 1)
