"""The mean of the weights of several fine-tunings of one network: it costs no more to run than one of them, and often beats the best.

As in model soups (Wortsman et al., arXiv 2203.05482), to which the network that they begin with belongs, as in WiSE-FT (arXiv 2109.01903).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prato.training.slice_bank import SliceBank
from scripts.research.queue_networks import Judge, start_network
from scripts.research.queue_weights import keep_weights, load_weights, read_points

State = dict[str, Tensor]

START = "start"
"""Stands in ``mean_of`` for the network that an entry begins with."""


@dataclass(frozen=True)
class FineTunings:
    """What several trainings have left: their weights, and what they took together.

    Attributes:
        states: of each its state dict, floating point in float32.
        recipe: of the first, but with the ``steps`` of all. seconds: of all.
    """

    states: list[State]
    recipe: dict[str, Any]
    seconds: float

    @classmethod
    def load(cls, folders: Sequence[Path]) -> FineTunings:
        """From the folders that the training queue left them in.

        Raises:
            ValueError: they do not take as many slices a step each, which the steps of all could not tell.
        """
        stored = [load_weights(folder) for folder in folders]
        recipes = [each["recipe"] for each in stored]
        if len({(recipe["stacks"], recipe["depth"]) for recipe in recipes}) > 1:
            raise ValueError(
                f"{', '.join(folder.name for folder in folders)} cannot be averaged: they take other numbers of slices a step."
            )
        lasts = [read_points(folder)[-1] for folder in folders]
        states = [{name: _widened(value) for name, value in each["weights"].items()} for each in stored]
        total = sum(recipe["steps"] for recipe in recipes)
        return cls(states, {**recipes[0], "steps": total}, sum(last["seconds"] for last in lasts))


def mean_state(states: Sequence[State]) -> State:
    """The mean of state dicts with the same names and shapes; what is no floating point number is the first one's."""
    first = states[0]
    return {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in first.items()
    }


def averaged_trainings(entry: dict[str, Any]) -> list[str]:
    """The trainings that ``entry`` is the mean of, besides what they began with."""
    return [name for name in entry.get("mean_of", ()) if name != START]


def average_trainings(entry: dict[str, Any], bank: SliceBank, out: Path) -> None:
    """The mean of what ``entry`` names: what trainings have ended with, and as often as :data:`START` is named what they began with."""
    names = averaged_trainings(entry)
    found = FineTunings.load([out / name for name in names])
    begun = [start_network(entry, out).state_dict()] * (len(entry["mean_of"]) - len(names))
    weights = mean_state([*begun, *found.states])
    slices = found.recipe["steps"] * found.recipe["stacks"] * found.recipe["depth"]
    row = {"step": found.recipe["steps"], "slices": slices, "seconds": round(found.seconds, 1)}
    row |= {"slices_per_second": round(slices / found.seconds), **Judge(entry, bank.images.device).validate(weights, bank)}
    (out / entry["name"] / "curve.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    print(entry["name"], json.dumps(row), flush=True)
    keep_weights(weights, entry, found.recipe, out / entry["name"])


def _widened(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
