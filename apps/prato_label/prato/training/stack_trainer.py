"""Training on stacks of slices at the speed of the device: batches made there, no step that waits for it, on a GPU one CUDA graph."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prato.runtime.fused_conv_bn import fold_frozen_norms
from prato.training.batch_augmentation import THICK, BatchSampler, StackBatch, StackSampler
from prato.training.slice_bank import SliceBank
from prato.training.state import load_state, save_state

#: Steps before a graph is captured: allocations settle.
_WARM_UP_STEPS = 3
#: Decay a step of the running means of the losses.
_LOSS_DECAY = 0.98


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        steps: optimiser steps. stacks: stacks a step. depth: slices a stack. edge: of the windows in pixels.
        rate: peak learning rate of AdamW; warm-up over ``warm_up`` of the steps, then cosine to zero. weight_decay: of matrices.
        relevance: weight of the cross-entropy of the relevance against "the token holds a structure".
        average: decay a step of the running average of weights that training returns. seed: everything random follows from it.
        precision: "bfloat16" or "float32".
        frozen_norm: batch normalisation keeps its statistics, for fine-tuning on a handful of images.
        thick: share of the stacks whose slices are twice as thick. degraded: share of those with ghosts, heavy blur, noise or gamma.
    """

    steps: int
    stacks: int = 16
    depth: int = 8
    edge: int = 128
    rate: float = 1e-3
    warm_up: float = 0.03
    weight_decay: float = 0.02
    relevance: float = 0.2
    average: float = 0.999
    seed: int = 0
    precision: str = "bfloat16"
    frozen_norm: bool = False
    thick: float = THICK
    degraded: float = 0.0

    @property
    def slices(self) -> int:
        """Slices a step."""
        return self.stacks * self.depth


def segmentation_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Dice over the batch plus cross-entropy: MONAI's DiceCELoss(batch=True, include_background=False), in one pass over the logits.

    Args:
        logits: float32 (N, classes, H, W). label: int64 (N, H, W).
    """
    probability = logits.softmax(1)
    target = F.one_hot(label, logits.shape[1]).movedim(-1, 1).to(probability.dtype)
    axes = (0, 2, 3)
    overlap, total = (probability * target).sum(axes), probability.sum(axes) + target.sum(axes)
    dice = 1 - (2 * overlap + 1e-5) / (total + 1e-5)
    return dice[1:].mean() + F.cross_entropy(logits, label)


class StackTrainer:
    """Trains ``network`` on a bank, or on what another sampler makes.

    Args:
        loss: of a batch, what is minimised and two losses that are told; None for that of a network's ``train_windows``, see
            :meth:`prato.models.overview_network.OverviewNetwork.train_windows`, which may give None in the place of relevance.
        capture: on a GPU, whether steps are captured as a CUDA graph and replayed.
        run: what else distinguishes this run from others (JSON values by name); a state is resumed only by the run that stored it.

    Attributes:
        step: steps done. seconds: spent training, with reports and the writing of states: on a GPU steps are waited for there alone.
    """

    def __init__(
        self,
        network: Any,
        bank: SliceBank | BatchSampler,
        recipe: Recipe,
        *,
        loss: Callable[[StackBatch], tuple[Tensor, Tensor, Tensor]] | None = None,
        capture: bool = True,
        run: Mapping[str, Any] | None = None,
    ) -> None:
        stacks = (recipe.seed, recipe.stacks, recipe.depth, recipe.edge, recipe.thick, recipe.degraded)
        self.sampler: BatchSampler = StackSampler(bank, *stacks) if isinstance(bank, SliceBank) else bank
        self.device, self.recipe = self.sampler.generator.device, recipe
        self.network: Any = network.to(self.device).to(memory_format=torch.channels_last).train()
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                is_trained = module.weight is None or module.weight.requires_grad
                module.train(is_trained and not recipe.frozen_norm)
        if recipe.frozen_norm:
            fold_frozen_norms(self.network)
        self.run: dict[str, Any] = json.loads(json.dumps({"recipe": asdict(recipe), **(run or {})}))
        self.step, self.seconds = 0, 0.0
        self._losses = torch.zeros(2, device=self.device)
        self._loss = self._window_losses if loss is None else loss
        self._call: Callable[..., Any] = getattr(self.network, "train_windows", self.network)
        self._capture = capture and self.device.type == "cuda"
        self._trained = [p for p in self.network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in self._trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in self._trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._rate = torch.tensor(0.0, device=self.device)
        self._optimiser = torch.optim.AdamW(groups, lr=self._rate, fused=True, capturable=self._capture)
        buffers = [b for b in self.network.buffers() if b.is_floating_point()]
        self._current: list[Tensor] = [*(p.detach() for p in self._trained), *buffers]
        self._average: list[Tensor] = [value.clone() for value in self._current]
        self._weight = torch.tensor(0.0, device=self.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._warm_ups = 0
        self._static: StackBatch | None = None

    def fit(
        self,
        report: Callable[[StackTrainer], bool] = lambda trainer: True,
        state_file: Path | None = None,
        save_every_s: float = 60.0,
        is_over: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the end of the recipe.

        Args:
            report: called after every step; training stops when it returns False.
            state_file: where the state is kept, every ``save_every_s`` seconds and when training stops, for :meth:`resume`.
            is_over: asked after every step; training stops when it returns True.

        Returns:
            Whether the end was reached.
        """
        saved = began = time.monotonic()
        while self.step < self.recipe.steps:
            self.take_step()
            now = time.monotonic()
            self.seconds, began = self.seconds + now - began, now
            going_on = report(self) and not is_over()
            if state_file is not None and (not going_on or now - saved > save_every_s):
                self._store(state_file)
                saved = now
            if not going_on:
                return self.step >= self.recipe.steps
        return True

    def take_step(self) -> None:
        """One step."""
        recipe, share = self.recipe, self.step / self.recipe.steps
        self._rate.fill_(recipe.rate * min(share / recipe.warm_up + 0.01, 1.0) * (0.5 + 0.5 * math.cos(math.pi * share)))
        # an average that starts quick enough to forget the first steps
        self._weight.fill_(1 - min(recipe.average, (1 + self.step) / (10 + self.step)))
        batch = self.sampler.batch(self.step)
        if self._capture:
            self._replay(batch)
        else:
            self._update(batch)
        self.step += 1

    def update_weights(self) -> None:
        """What a step does once its gradients are there: clip them, move the weights, and the running average after them."""
        nn.utils.clip_grad_norm_(self._trained, 1.0, foreach=True)
        self._optimiser.step()
        with torch.no_grad():
            change = torch._foreach_sub(self._current, self._average)
            torch._foreach_mul_(change, self._weight)
            torch._foreach_add_(self._average, change)

    @property
    def losses(self) -> tuple[float, float]:
        """Running means of the losses of segmentation and of relevance; waits for the device."""
        segmentation, relevance = (self._losses / (1 - _LOSS_DECAY ** max(self.step, 1))).tolist()
        return segmentation, relevance

    @torch.no_grad()
    def averaged(self) -> dict[str, Tensor]:
        """The running average of the weights, as a state dict."""
        state = dict(self.network.state_dict(keep_vars=True))
        owners = [*self._trained, *(b for b in self.network.buffers() if b.is_floating_point())]
        averages = {id(owner): value for owner, value in zip(owners, self._average)}
        latest: dict[str, Any] = {name: averages.get(id(value), value) for name, value in state.items()}
        return {name: value.detach().clone() for name, value in latest.items()}

    def resume(self, state_file: Path) -> None:
        """Go on from the state in ``state_file``; without such a file, start at the beginning.

        Raises:
            ValueError: not a state, or the state of another run; the trainer is then as it was.
        """
        state = load_state(state_file, self.run, self.device)
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        for group in self._optimiser.param_groups:  # loading puts a copy in the place of the rate that steps set
            group["lr"] = self._rate
        for own, stored_average in zip(self._average, state["average"]):
            own.copy_(stored_average)
        self._losses.copy_(state["losses"])
        self.step, self.seconds = state["step"], state["seconds"]

    def _window_losses(self, batch: StackBatch) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            logits, relevance = self._call(batch.window, batch.corner, batch.overview, batch.box, batch.has_box)
        loss = segmentation_loss(logits.float(), batch.label.flatten(0, 1))
        total, term = loss, torch.zeros_like(loss)
        if relevance is not None:
            term = F.binary_cross_entropy_with_logits(relevance, batch.holds_heart)
            total = loss + self.recipe.relevance * term
        return total, loss, term

    def _update(self, batch: StackBatch) -> None:
        total, loss, term = self._loss(batch)
        self._optimiser.zero_grad(set_to_none=not self._capture)
        total.backward()
        self.update_weights()
        self._losses.lerp_(torch.stack([loss.detach(), term.detach()]).float(), 1 - _LOSS_DECAY)

    def _replay(self, batch: StackBatch) -> None:
        if self._static is None:
            self._static = StackBatch(*(getattr(batch, field.name).clone() for field in fields(StackBatch)))
        for field in fields(StackBatch):
            getattr(self._static, field.name).copy_(getattr(batch, field.name))
        if self._warm_ups < _WARM_UP_STEPS:  # also where a training goes on
            self._warm_ups += 1
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._update(self._static)
            torch.cuda.current_stream().wait_stream(stream)
            return
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._update(self._static)
        self._graph.replay()

    def _store(self, path: Path) -> None:
        state = {
            "run": self.run,
            "step": self.step,
            "seconds": self.seconds,
            "losses": self._losses,
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "average": self._average,
        }
        save_state(path, state)
