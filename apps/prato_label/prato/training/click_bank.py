"""Slices with their labels and with the kind of wrong masks that networks make: what the click refiner learns from."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prato.data.atomic import temporary_folder
from prato.data.cases import TrainingCase
from prato.data.resampling import between_neighbours
from prato.inference.scores import quantise
from prato.pruning.plan import PruningPlan
from prato.runtime.precision import inference
from prato.training.slice_bank import SliceBank


@dataclass(frozen=True)
class ClickBank:
    """Slices, one case after the other, in the middle of a canvas.

    Attributes:
        images: uint8 (N, CANVAS, CANVAS). labels: the same.
        scores: uint8 (V, N, classes, CANVAS, CANVAS), what a network made of spoilt slices, as :func:`quantise` has it.
        first, count: int64 (cases,), of each case's slices.
    """

    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    first: np.ndarray
    count: np.ndarray

    @classmethod
    def from_cases(
        cls,
        cases: Sequence[TrainingCase],
        network: Any,
        plan: PruningPlan | None,
        seed: int,
        on_case: Callable[[], object] = lambda: None,
    ) -> ClickBank:
        """The slices of ``cases``, each case with two drafts by ``network``, which looks at whole stacks in evaluation mode: of the slices
        a little spoilt, and badly."""
        bank = SliceBank.from_cases(cases, torch.device("cpu"))
        random, made = np.random.default_rng(seed), []
        for case in range(len(bank)):
            slices, _ = bank.case(case)
            made.append(torch.stack([_draft(slices, network, plan, random, spoilt) for spoilt in (False, True)]))
            on_case()
        return cls(bank.images.numpy(), bank.labels.numpy(), torch.cat(made, 1).numpy(), bank.first.numpy(), bank.count.numpy())

    def save(self, path: Path) -> None:
        """Write it to an uncompressed ``.npz``, whole or not at all."""
        with temporary_folder(path.parent, f".{path.name}.") as folder:
            np.savez(folder / path.name, images=self.images, labels=self.labels, scores=self.scores, first=self.first, count=self.count)
            os.replace(folder / path.name, path)

    @classmethod
    def load(cls, path: Path) -> ClickBank:
        """What :meth:`save` wrote.

        Raises:
            ValueError: it is no such file, or not all of it; the message is one sentence.
        """
        try:
            with np.load(path) as stored:
                return cls(**{name: stored[name] for name in ("images", "labels", "scores", "first", "count")})
        except (ValueError, LookupError, EOFError, BadZipFile, AttributeError, TypeError) as error:
            raise ValueError(f"{path} is no bank of slices that can be read: delete it, and it is made again.") from error


def _draft(slices: Tensor, network: Any, plan: PruningPlan | None, random: np.random.Generator, spoilt: bool) -> Tensor:
    """uint8 (S, classes, CANVAS, CANVAS): scores that ``network`` gives ``slices`` when they are a little, or badly, spoilt: it knows the
    hearts that it was trained on better than any other."""
    turns, flip, much = int(random.integers(4)) if spoilt else 0, bool(spoilt and random.random() < 0.5), 1.0 if spoilt else 0.4
    seen = _turn(slices, turns, flip)
    seen = F.avg_pool2d(seen[:, None], 3, 1, 1)[:, 0] if random.random() < 0.5 else seen
    lit = ((seen + 1) / 2).clamp(0, 1)
    seen = 2 * lit ** float(2 ** random.uniform(-much, much)) * float(random.uniform(1 - 0.5 * much, 1 + 0.2 * much)) - 1
    seen = seen + float(random.uniform(0, 0.3 * much)) * torch.from_numpy(random.standard_normal(seen.shape).astype(np.float32))
    stack = between_neighbours(seen)
    if random.random() < 0.5:  # a slice between copies of itself: the network knows less of where in the heart it is
        stack = seen[:, None].expand(-1, 3, -1, -1)
    with inference(torch.device("cpu")):
        found = network.predict(stack.contiguous(), network.encode_image(stack, plan), None, plan).logits
    scores = quantise(found.float())
    if flip:
        scores = scores.flip(2)
    return torch.rot90(scores, -turns, (2, 3))


def _turn(slices: Tensor, turns: int, flip: bool) -> Tensor:
    turned = torch.rot90(slices, turns, (1, 2))
    return turned.flip(1) if flip else turned
