"""Training of the click refiner with simulated labellers, in rounds: each click corrects what the refiner made of the click before."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prato.data.structures import NUM_CLASSES
from prato.models.checkpoint import channels_last
from prato.refinement.refiner_input import FADE, NEWEST, TRUST, fading
from prato.runtime.precision import autocast
from prato.training.click_bank import ClickBank
from prato.training.click_sessions import ClickSampler
from prato.training.state import load_state, save_state

#: Pixels round a stroke within which it matters what becomes of the mask, and how much it does farther off.
NEAR, BEYOND = 30.0, 0.1
#: Pixels that a small and a large wrong part both have beside those they are of: a click on a small one is worth learning from, too.
EVEN = 30.0
_SAVE_EVERY_S = 60.0


@dataclass(frozen=True)
class ClickRecipe:
    """How to train: for ``steps``, ``batch`` sessions at once, in crops of ``edge`` pixels.

    ``rate`` is AdamW's peak, ``average`` the decay of the weights' running average.
    """

    steps: int
    batch: int = 12
    edge: int = 80
    rate: float = 2e-3
    average: float = 0.998
    seed: int = 0


class ClickTrainer:
    """Trains ``network`` on ``bank``.

    Attributes:
        step, spent: steps and seconds so far. loss: running mean. averaged: the weights' running average, as a state dict.
    """

    def __init__(self, network: nn.Module, bank: ClickBank, recipe: ClickRecipe) -> None:
        self.network, self.recipe = channels_last(network.train()), recipe
        self.sampler = ClickSampler(bank, recipe.seed, recipe.batch, recipe.edge)
        self._optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=0.01)
        self._fade = torch.from_numpy(fading((recipe.edge, recipe.edge)))
        self.averaged: dict[str, Tensor] = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.step, self.spent, self.loss = 0, 0.0, 0.0

    def fit(self, state_file: Path | None = None, report: Callable[[ClickTrainer], object] = lambda _: None) -> None:
        """Train until the recipe's steps are taken; the state is kept in ``state_file``, from which the next call goes on, with other
        sessions than those that were seen before.

        Raises:
            ValueError: ``state_file`` is there, and no state that can be read, or that of a training of another kind.
        """
        if state_file is not None:
            self._resume(state_file)
        began = saved = time.monotonic()
        while self.step < self.recipe.steps:
            self.take_step()
            now = time.monotonic()
            self.spent, began = self.spent + min(now - began, 30.0), now  # a process that was stopped has not trained
            report(self)
            if state_file is not None and now - saved > _SAVE_EVERY_S:
                self._store(state_file)
                saved = now
        if state_file is not None:
            self._store(state_file)

    def take_step(self) -> None:
        """One step on the next click of every session."""
        share = self.step / self.recipe.steps
        for group in self._optimiser.param_groups:
            group["lr"] = self.recipe.rate * (min(1.0, (self.step + 1) / 100) * (0.02 + 0.49 * (1 + math.cos(math.pi * share))))
        samples = self.sampler.batch()
        inputs = torch.from_numpy(np.stack([sample.inputs for sample in samples]))
        truth = torch.from_numpy(np.stack([sample.truth for sample in samples])).long()
        mask = F.one_hot(torch.from_numpy(np.stack([sample.mask for sample in samples])).long(), NUM_CLASSES).movedim(-1, 1)
        with autocast(inputs.device):
            change = self.network(inputs.contiguous(memory_format=torch.channels_last))
        scores = TRUST * mask + self._fade * change.float()
        sizes = torch.tensor([sample.wrong for sample in samples])[:, None, None]
        weight = self._fade * _near(inputs[:, NEWEST]) / (EVEN + sizes)
        loss = (F.cross_entropy(scores, truth, reduction="none") * weight).sum() / weight.sum()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimiser.step()
        for sample, refined in zip(samples, scores.detach().argmax(1).to(torch.uint8).numpy()):
            sample.answer(refined)
        self._average()
        self.step += 1
        self.loss += (float(loss.detach()) - self.loss) * max(0.01, 1 / self.step)

    @torch.no_grad()
    def _average(self) -> None:
        weight = 1 - min(self.recipe.average, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.averaged[name].lerp_(value, weight)
            else:
                self.averaged[name].copy_(value)

    def _store(self, path: Path) -> None:
        state: dict[str, Any] = {"step": self.step, "spent": self.spent, "loss": self.loss, "averaged": self.averaged}
        state |= {"network": self.network.state_dict(), "optimiser": self._optimiser.state_dict()}
        save_state(path, {**state, "run": self._run()})

    def _run(self) -> dict[str, Any]:
        """What must be the same for a training to go on, which may take more steps than was planned."""
        return {**asdict(self.recipe), "steps": None, "slices": len(self.sampler.bank.images)}

    def _resume(self, path: Path) -> None:
        state = load_state(path, self._run(), torch.device("cpu"))
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.averaged, self.step, self.spent, self.loss = state["averaged"], state["step"], state["spent"], state["loss"]
        self.sampler.restart(self.recipe.seed, self.step)


def _near(trace: Tensor) -> Tensor:
    """Weights of pixels (B, h, w): those near the new stroke, whose ``trace`` that is, decide what a click is worth."""
    far = trace < math.exp(-0.5 * (NEAR / FADE) ** 2)
    return torch.where(far & (trace.amax((1, 2), keepdim=True) > 0), BEYOND, 1.0)
