"""Training batches made on the device that trains: stacks of slices, turned, scaled, bent and re-lit, with the box a labeller might draw.

Everything random of step ``n`` comes from a generator seeded with the run's seed and ``n`` (on a GPU a counter-based one), so that step
``n`` depends on nothing else. No function here waits for the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from prato.models.overview import TOKEN
from prato.training.batch_intensity import bent, blurred, change_some, coarsened, ghosted, mixed, noisy, rescaled
from prato.training.slice_bank import CANVAS, SliceBank

#: Shares of the kinds of boxes: tight by hand, loose, partial, shifted, beside the heart; the rest have none.
_KINDS = (0.40, 0.15, 0.12, 0.08, 0.07)
#: Share of the stacks whose slices are twice as thick and half as many: each is the mean of two.
THICK = 0.12


@dataclass(frozen=True)
class StackBatch:
    """B stacks of S neighbouring slices, apex and base either way round.

    Attributes:
        window: float32 (B, S, 3, edge, edge) in [-1, 2], each slice between its neighbours.
        label: int64 (B, S, edge, edge), of the windows.
        corner: int64 (B, 2), the windows' first pixels on the canvas, multiples of ``TOKEN``.
        overview: float32 (B, S, CANVAS / 2, CANVAS / 2), the whole slices at half the resolution.
        holds_heart: float32 (B, S, CANVAS / TOKEN, CANVAS / TOKEN), 1 for tokens with a pixel of a structure.
        box: float32 (B, 2, 2), start and stop in pixels of the canvas. has_box: bool (B,).
    """

    window: Tensor
    label: Tensor
    corner: Tensor
    overview: Tensor
    holds_heart: Tensor
    box: Tensor
    has_box: Tensor


class BatchSampler(Protocol):
    """Makes the batches of a training run on the device of its ``generator``."""

    generator: torch.Generator

    def batch(self, step: int) -> StackBatch:
        """The batch of ``step``, which depends on nothing else."""


class StackSampler:
    """Draws the batches of a training run from a bank.

    Args:
        stacks: stacks a batch. depth: slices a stack. edge: of the windows, in pixels, a multiple of 32.
        thick: share of the stacks whose slices are twice as thick. degraded: share of those that are as badly acquired as is still read.
    """

    def __init__(self, bank: SliceBank, seed: int, stacks: int, depth: int, edge: int, thick: float = THICK, degraded: float = 0.0) -> None:
        self.bank, self.seed, self.stacks, self.depth, self.edge = bank, seed, stacks, depth, edge
        self.thick, self.degraded = thick, degraded
        device = bank.images.device
        self.generator = torch.Generator(device)
        self._between = bank.between  # made here, where the device may be waited for
        centres = torch.arange(CANVAS, device=device) + 0.5 - CANVAS / 2
        self._mesh = torch.stack(torch.meshgrid(centres, centres, indexing="ij"), -1)  # (H, W, 2), rows then columns
        self._within = torch.arange(edge, device=device)

    def batch(self, step: int) -> StackBatch:
        """The batch of ``step``."""
        self.generator.manual_seed((self.seed * 1_000_003 + step) % 2**63)
        case, planes = self._planes()
        grid = self._grid()
        image, label, footprint = self._warp(case, planes, grid)
        if self.degraded:  # else nothing random is drawn for it
            image = self._degrade(image)
        image = self._intensity(image)
        box, has_box, bounds = self._boxes(footprint)
        corner = self._corners(bounds)
        window = _cut(image, corner, self._within).unfold(1, 3, 1).permute(0, 1, 4, 2, 3)
        return StackBatch(
            window=window * 2 - 1,
            label=_cut(label, corner, self._within),
            corner=corner,
            overview=F.avg_pool2d(image[:, 1:-1], 2) * 2 - 1,
            holds_heart=F.max_pool2d((label > 0).float(), TOKEN),
            box=box,
            has_box=has_box,
        )

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device)

    def _randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.generator.device)

    def _uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * self._rand(*shape)

    def _planes(self) -> tuple[Tensor, Tensor]:
        """int64 (B,) cases, and (B, 2, S + 2) slices of the bank: a stack with a neighbour at either end, each slice the mean of two.

        In thick stacks these are neighbours, else the same. Edge slices repeat; half of the stacks are reversed.
        """
        bank, batch, depth = self.bank, self.stacks, self.depth
        case = (self._rand(batch) * len(bank)).long().clamp_max(len(bank) - 1)
        there = bank.count[case]
        thick = ((self._rand(batch) < self.thick) & (there > 2)).long()
        skipped = thick * (self._rand(batch) < 0.5).long()  # where the first pair begins
        count = (there - skipped) // (1 + thick)
        # a stack longer than the case lies round it, one that is shorter within it, at most one slice beyond its ends
        low, high = (count - depth).clamp_max(-1), (count - depth).clamp_min(0) + 1
        start = low + (self._rand(batch) * (high - low + 1)).long()
        k = start.unsqueeze(1) + torch.arange(-1, depth + 1, device=start.device)
        k = k.clamp_min(0).minimum(count.unsqueeze(1) - 1)
        turned = (self._rand(batch) < 0.5).unsqueeze(1)
        one = (bank.first[case] + skipped).unsqueeze(1) + (1 + thick).unsqueeze(1) * torch.where(turned, k.flip(1), k)
        return case, torch.stack([one, one + thick.unsqueeze(1)], 1)

    def _grid(self) -> Tensor:
        """(B, CANVAS, CANVAS, 2) sampling grid: rotation, scale, handedness, shift, and a smooth elastic field."""
        batch = self.stacks
        angle = self._uniform(-math.pi / 5, math.pi / 5, batch)
        quarter = (self._rand(batch) < 0.25).float() * (self._rand(batch) * 4).floor()
        angle = angle + math.pi / 2 * quarter
        scale = torch.exp(-self._uniform(-0.22, 0.22, batch))
        stretch = torch.exp(self._randn(batch) * 0.04)
        mirror = 1 - 2 * (self._rand(batch) < 0.15).float()
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
        back = torch.stack([torch.stack([cos * stretch, -sin * mirror], -1), torch.stack([sin * stretch, cos * mirror], -1)], 1)
        shift = self._randn(batch, 1, 1, 2) * 8
        nodes = CANVAS // 24
        spread = (self._uniform(-2.5, 2.5, batch, 1, 1, 1)).clamp_min(0)
        field = F.interpolate(self._randn(batch, 2, nodes, nodes) * spread, size=(CANVAS, CANVAS), mode="bicubic", align_corners=True)
        places = self._mesh + field.permute(0, 2, 3, 1)
        places = torch.einsum("bhwc,bdc->bhwd", places, back) + shift
        return (places * (2 / CANVAS)).flip(-1)  # grid_sample wants columns first

    def _warp(self, case: Tensor, planes: Tensor, grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float32 (B, S + 2, H, W) in [0, 1], int64 labels (B, S, H, W), and bool footprints (B, H, W)."""
        one, other = planes.unbind(1)
        pixels = self.bank.images[one].float().add_(self.bank.images[other])
        image = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False) / 510
        one, other = one[:, 1:-1], other[:, 1:-1]
        truth = torch.where((one == other)[:, :, None, None], self.bank.labels[one], self._between[one])
        known = torch.cat([truth, self.bank.footprints[case].unsqueeze(1)], 1).float()
        label = F.grid_sample(known, grid, mode="nearest", padding_mode="zeros", align_corners=False)
        return image, label[:, :-1].long(), label[:, -1] > 0

    def _intensity(self, image: Tensor) -> Tensor:
        """Another scanner: thick slices, lower resolution, blur, contrast, bias field, gamma, noise; each stack in its own way."""
        batch = image.shape[0]

        def some(share: float) -> Tensor:
            return (self._rand(batch, 1, 1, 1) < share).float()

        mix = some(0.15) * self._uniform(0.05, 0.33, batch, 1, 1, 1)
        image = change_some(image, mix, mixed)
        sigma = some(0.25) * self._uniform(0.4, 1.2, batch).view(-1, 1, 1, 1)
        image = change_some(image, sigma, blurred)
        # pixels of 2 to 3 mm: sampled at half the resolution and back
        coarseness = some(0.12) * self._uniform(0.5, 1.0, batch, 1, 1, 1)
        image = change_some(image, coarseness, coarsened)
        # a bias field: a smooth surface of a few nodes, in log scale
        bias = F.interpolate(self._randn(batch, 1, 3, 3) * 0.35, size=image.shape[2:], mode="bicubic", align_corners=True)
        image = image * torch.exp(some(0.35) * bias.clamp(-0.9, 0.9))
        image = image * torch.exp(some(0.4) * self._randn(batch, 1, 1, 1) * 0.2) + some(0.3) * self._randn(batch, 1, 1, 1) * 0.06
        gamma = torch.exp(some(0.4) * self._uniform(-0.75, 0.75, batch, 1, 1, 1))
        image = image.clamp_min(1e-4) ** gamma
        noise = some(0.35) * self._uniform(0.0, 0.07, batch, 1, 1, 1)
        return (image + noise * torch.randn(image.shape, generator=self.generator, device=image.device)).clamp(0.0, 1.5)

    def _degrade(self, image: Tensor) -> Tensor:
        """Some stacks with ghosts, heavy blur, heavy noise or a strong gamma, one of them each, and normalised again."""
        batch = image.shape[0]
        chosen = (self._rand(batch, 1, 1, 1) < self.degraded).float()
        kind, amount = (self._rand(batch, 1, 1, 1) * 4).floor(), self._rand(batch, 1, 1, 1)
        ghosts, blur, noise, gamma = (chosen * (kind == n) for n in range(4))
        image = change_some(image, ghosts * (0.1 + 0.9 * amount), ghosted, (self._randn(batch, 2, 2) * 8).round().long())
        image = change_some(image, blur * (1.2 + 3.3 * amount), partial(blurred, reach=10))
        coarse = self._randn(*image.shape[:2], CANVAS * 3 // 4, CANVAS * 3 // 4)  # of pixels as acquired, which are larger than those here
        grain = F.interpolate(coarse, size=image.shape[2:], mode="bilinear", align_corners=False)
        image = change_some(image, noise * (0.05 + 0.25 * amount), noisy, grain)
        up = torch.where(self._rand(batch, 1, 1, 1) < 0.6, 1, -1)
        image = change_some(image, gamma * torch.exp(up * (0.7 + 0.8 * amount)), bent)
        return change_some(image, chosen, rescaled)

    def _boxes(self, footprint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The prompts, as ``StackBatch`` has them, and the heart's own bounds (B, 2, 2) in pixels; a stack without heart has no box."""
        batch = footprint.shape[0]
        bounds, present = _bounds(footprint)
        low, high = bounds[:, 0], bounds[:, 1]
        size = high - low
        kind = self._rand(batch)
        limits = [sum(_KINDS[: n + 1]) for n in range(len(_KINDS))]
        tight = torch.stack([low + size * self._randn(batch, 2) * 0.04, high + size * self._randn(batch, 2) * 0.04], 1)
        grow, lean = self._uniform(0.0, 1.0, batch, 2), self._uniform(-0.5, 0.5, batch, 2)
        loose = torch.stack([low - size * grow * (0.5 + lean), high + size * grow * (0.5 - lean)], 1)
        cut = self._uniform(0.1, 0.6, batch, 2)
        axis = (self._rand(batch, 2) < 0.6).float()
        side = (self._rand(batch, 2) < 0.5).float()
        partial = torch.stack([low + size * cut * axis * side, high - size * cut * axis * (1 - side)], 1)
        shift = size * self._uniform(-0.9, 0.9, batch, 2)
        shifted = bounds + shift.unsqueeze(1)
        turn = self._uniform(0, 2 * math.pi, batch)
        away = torch.stack([torch.cos(turn), torch.sin(turn)], -1)
        away = away / away.abs().amax(1, keepdim=True) * size * self._uniform(1.0, 1.5, batch, 1)
        beside = bounds + away.unsqueeze(1)
        box = torch.where((kind < limits[3])[:, None, None], shifted, beside)
        for limit, boxes in ((limits[2], partial), (limits[1], loose), (limits[0], tight)):
            box = torch.where((kind < limit)[:, None, None], boxes, box)
        box = torch.stack([box[:, 0].minimum(box[:, 1] - TOKEN), box[:, 1]], 1).clamp(0, CANVAS)
        inside = (box[:, 1] - box[:, 0]).amin(1) >= TOKEN / 2
        return box, present & (kind < limits[4]) & inside, bounds

    def _corners(self, bounds: Tensor) -> Tensor:
        """int64 (B, 2): windows near the heart, two in three round its middle, and some anywhere; on the tokens' grid."""
        batch, most = bounds.shape[0], CANVAS - self.edge
        middle = bounds.mean(1) - self.edge / 2
        near = middle + self._uniform(-20, 20, batch, 2)
        far = middle + self._uniform(-0.6, 0.6, batch, 2) * self.edge
        chance = self._rand(batch, 1)
        corner = torch.where(chance < 0.65, near, torch.where(chance < 0.88, far, self._rand(batch, 2) * most))
        return (corner / TOKEN).round().long().mul(TOKEN).clamp(0, most - most % TOKEN)


def _bounds(present: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds (B, 2, 2) of what is True in bool (B, H, W), or the middle where nothing is; and bool (B,), whether anything is."""
    lows, highs = [], []
    for axis in (2, 1):
        line = present.any(axis).float()
        length = line.shape[1]
        lows.append(line.argmax(1))
        highs.append(length - line.flip(1).argmax(1))
    bounds = torch.stack([torch.stack(lows, -1), torch.stack(highs, -1)], 1).float()
    some = present.flatten(1).any(1)
    size = float(present.shape[1])
    centre = torch.stack([bounds.new_full((len(bounds), 2), 0.375 * size), bounds.new_full((len(bounds), 2), 0.625 * size)], 1)
    return torch.where(some[:, None, None], bounds, centre), some


def _cut(image: Tensor, corner: Tensor, within: Tensor) -> Tensor:
    """(B, K, H, W) -> (B, K, edge, edge), from ``corner`` (B, 2) on."""
    rows, columns = corner[:, :1] + within, corner[:, 1:] + within
    batch = torch.arange(image.shape[0], device=image.device)[:, None, None]
    return image.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
