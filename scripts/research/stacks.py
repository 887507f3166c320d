"""Volumes and networks as they are measured where little is installed: packed slices, and what a training queue left.

Needs torch, MONAI, numpy and scipy alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import scripts.research.baselines.unet  # noqa: F401 - registers networks
from prato.data.resampling import between_neighbours
from prato.evaluation.box_conditions import BoxCondition, perturb_box, seeded_rng
from prato.evaluation.metrics import structure_dice
from prato.models import overview_swin_unetr, overview_unet  # noqa: F401 - register networks
from prato.models.registry import build_model
from prato.prompts.box import Box
from prato.runtime.devices import default_device, device_name, find_device
from prato.runtime.region import Region
from prato.training.slice_bank import SliceBank, load_packed
from scripts.common.arguments import positive_int, read_sides, table_file
from scripts.common.provenance import origin
from scripts.common.results import Row
from scripts.research.queue_weights import read_weights

#: Sides of images are multiples of so many pixels.
IMAGE_STEP = 16


@dataclass(frozen=True)
class Stack:
    """One volume: float32 ``image`` (Z, 3, H, W), each slice between its neighbours, and uint8 ``label`` (Z, H, W)."""

    name: str
    image: Tensor
    label: Tensor

    def draw(self, condition: BoxCondition) -> Box | None:
        """The box (rows, columns, slices) that a labeller draws under ``condition``; the same for the same stack."""
        tight = Box.around((self.label > 0).permute(1, 2, 0).cpu().numpy())
        assert tight is not None
        return perturb_box(tight, (*self.label.shape[1:], len(self.label)), condition, seeded_rng(condition.value, self.name))


def load_stacks(bank: SliceBank) -> list[Stack]:
    """The stacks of ``bank``, without the canvas round them but for what makes their sides multiples of 16."""
    stacks = []
    for case in range(len(bank)):
        first, count = int(bank.first[case]), int(bank.count[case])
        pixels, label = bank.images[first : first + count], bank.labels[first : first + count]
        inner = Region.from_mask((pixels > 0) | (label > 0))
        sides = []
        for a, b, n in zip(inner.start, inner.stop, inner.size):
            length = min(-(-(b - a) // IMAGE_STEP) * IMAGE_STEP, n)
            start = min(max(a - (length - (b - a)) // 2, 0), n - length)
            sides.append(slice(start, start + length))
        image = pixels[:, sides[0], sides[1]].float() / 127.5 - 1
        stacks.append(Stack(f"{bank.patients[case]}:{case}", between_neighbours(image), label[:, sides[0], sides[1]]))
    return stacks


def choose_evenly(stacks: Sequence[Stack], count: int | None) -> list[Stack]:
    """``count`` of the stacks, evenly chosen so that both phases of a heart are among them; all without a number."""
    chosen = np.linspace(0, len(stacks) - 1, min(count or len(stacks), len(stacks))).round().astype(int)
    return [stacks[n] for n in chosen]


def first_slices(stack: Stack, count: int) -> Stack:
    """The ``count`` slices in the middle of a stack, or all and its last ones again until there are so many."""
    start = max((len(stack.label) - count) // 2, 0)
    planes = (torch.arange(count) + start).clamp_max(len(stack.label) - 1)
    return Stack(stack.name, stack.image[planes], stack.label[planes])


def dice_of(mask: np.ndarray, stack: Stack) -> dict[str, float]:
    """Dice by structure of ``mask`` (H, W, Z)."""
    return structure_dice(mask, stack.label.permute(1, 2, 0).cpu().numpy())


@dataclass(frozen=True)
class Trained:
    """A training of the queue that has ended: its network in evaluation mode, its entry, and how many slices it saw."""

    network: Any
    entry: dict[str, Any]
    slices: int
    seed: int


def load_trained(folder: Path, device: torch.device) -> Trained:
    """The training that ``folder`` is of, as :func:`~scripts.research.queue_weights.read_weights` finds it.

    Raises:
        FileNotFoundError: there is none. ValueError: it trained a row of the paper's tables, whose networks take no stacks.
    """
    stored = read_weights(folder)
    entry, recipe = stored["entry"], stored["recipe"]
    if "row" in entry:
        raise ValueError(f"{folder.name} is a row of the paper's tables: name trainings of scripts/research/training_queue/queue.yaml.")
    network = build_model(entry["network"], **entry["arguments"])
    network.load_state_dict(stored["weights"])
    network = network.to(device).to(memory_format=torch.channels_last).eval()
    return Trained(network, entry, recipe["steps"] * recipe["stacks"] * recipe["depth"], recipe["seed"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every measurement of trainings on packed volumes is told."""
    parser.add_argument("--packed", type=Path, required=True, help="file that scripts/research/pack_stacks.py wrote")
    parser.add_argument(
        "--split", type=Path, default=Path("docs/results/acdc_split.json"), help="split file: its validation patients are measured"
    )
    parser.add_argument("--queue-out", type=Path, default=Path("out/queue"), help="the queue's --out; weights that are shipped need none")
    parser.add_argument("--out", type=table_file, required=True, help="CSV file; rows of other trainings and devices stay")
    parser.add_argument("--volumes", type=positive_int, help="maximum number of volumes, evenly chosen")
    parser.add_argument("--threads", type=positive_int, default=1, help="CPU threads")
    parser.add_argument("--device", default=default_device(), help="what the network runs on")
    parser.add_argument("--commit", help="commit that the rows name, where there is no checkout")


def begin(given: argparse.Namespace) -> tuple[list[Stack], torch.device, Row]:
    """The volumes to measure, the device to do it on, and what all rows say of how they were made.

    Raises:
        ValueError, OSError: the packed slices or the split cannot be used.
    """
    torch.set_num_threads(given.threads)
    device = find_device(given.device)
    bank = load_packed(given.packed, device, read_sides(given.split, ["validation"])["validation"])
    made: Row = {"threads": given.threads, **origin(device_name(device), given.commit)}
    return choose_evenly(load_stacks(bank), given.volumes), device, made
