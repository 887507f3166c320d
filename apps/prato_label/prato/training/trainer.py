"""Training of one network on labelled cases: seeded, resumable, stoppable, on CPU or GPU."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, Subset

from prato.data.atomic import remove_leftovers
from prato.data.cases import TrainingCase
from prato.models.base import PrunableNetwork
from prato.models.checkpoint import Centre, channels_last
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.plan import PruningPlan
from prato.pruning.record import PrunedOutput
from prato.runtime.precision import autocast
from prato.training.augmentation import SliceDataset
from prato.training.distributed import ALONE, Ranks
from prato.training.losses import PratoLoss
from prato.training.state import load_state, save_state

#: Decay a step of the running average of weights that training returns.
_EMA_DECAY = 0.995


@dataclass(frozen=True)
class Budget:
    """How long to train: ``steps`` optimiser steps, or ``minutes`` of wall time spent training (resumed parts add up). One of the two.

    Raises:
        ValueError: neither or both are given, or the one given is not positive and finite.
    """

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None) or not 0 < (self.steps or self.minutes or 0) < math.inf:
            raise ValueError("Give a training budget either in steps or in minutes, above zero and finite.")

    def fraction_spent(self, step: int, seconds: float) -> float:
        """Share of the budget used, 0..1."""
        return min(1.0, step / self.steps if self.steps else seconds / (60.0 * (self.minutes or 1.0)))


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        batch: slices a step. rate: peak learning rate of AdamW (warm-up over 3 % of the budget, then cosine to zero).
        window: window edge in pixels. seed: everything random follows from it. workers: processes that make samples; 0 for none.
        centre: what windows are centred on.
        levels: whether a network with a plan also learns the levels that a request may choose, instead of its plan alone.
        dense_first: share of the budget, from its start, in which no token leaves: a network that segments nothing yet has nothing to
            rank tokens by. For fresh weights; 0 to start from trained ones.
    """

    batch: int = 8
    rate: float = 1e-3
    window: int = 128
    seed: int = 0
    workers: int = 0
    centre: Centre = "box"
    levels: bool = True
    dense_first: float = 0.0


@dataclass(frozen=True)
class Progress:
    """Where training stands: ``step`` done, ``share`` of the budget (0..1), running mean ``loss``, ``seconds`` spent training."""

    step: int
    share: float
    loss: float
    seconds: float


class Trainer:
    """Trains ``network`` for slices in windows; ``plan`` None trains it dense.

    With a plan and ``settings.levels``, six steps in ten use the plan as it is and the others the levels that a request may choose ("off",
    25, 50, 75 %), so that one set of weights serves them all. Before that, for ``settings.dense_first`` of the budget, no step prunes.

    Args:
        run: what else distinguishes this run from others (JSON values by name); a state is resumed only by the run that stored it.
        ranks: the processes that train together. Their number is not part of the run: but for dropout, the result is the same up to
            rounding.
        loss: of a network's output and its label; None for :class:`PratoLoss`.

    Raises:
        ValueError: the batch cannot be divided evenly among the processes.
    """

    def __init__(
        self,
        network: PrunableNetwork,
        plan: PruningPlan | None,
        settings: Settings,
        device: torch.device,
        run: Mapping[str, Any] | None = None,
        ranks: Ranks = ALONE,
        loss: nn.Module | None = None,
    ) -> None:
        self.ranks, self.local_batch_size = ranks, ranks.local_batch_size(settings.batch)
        self.network: PrunableNetwork = channels_last(ranks.convert_sync_batchnorm(network.to(device)))
        self.plan, self.settings, self.device = plan, settings, device
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(_EMA_DECAY), use_buffers=True)
        decayed = [p for p in self.network.parameters() if p.requires_grad and p.ndim > 1]
        free = [p for p in self.network.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.02}, {"params": free, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.rate)
        self.loss = PratoLoss() if loss is None else loss
        self.step, self.seconds, self.mean_loss = 0, 0.0, math.nan
        recorded = {name: value for name, value in asdict(settings).items() if name != "workers"}
        identity = {"network": type(network).__name__, "plan": plan and plan.to_dict(), **recorded, **(run or {})}
        self.run: dict[str, Any] = json.loads(json.dumps(identity))  # as it is read back: lists for tuples

    @property
    def averaged(self) -> PrunableNetwork:
        """The running average of the network's weights, as a network."""
        return cast(PrunableNetwork, self.average.module)

    def resume(self, state_file: Path) -> None:
        """Resume from the state that a killed run of the same kind left in ``state_file``; without such a file, start at the beginning.

        Raises:
            ValueError: not a state, or the state of another run; the trainer is then as it was.
        """
        state = load_state(state_file, self.run, self.device)
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds, self.mean_loss = state["step"], state["seconds"], state["mean_loss"]

    def fit(
        self,
        source: Sequence[TrainingCase] | Dataset,
        budget: Budget,
        report: Callable[[Progress], bool] = lambda progress: True,
        state_file: Path | None = None,
        save_every_s: float = 60.0,
    ) -> PrunableNetwork:
        """Train until the budget is spent or ``report``, called after every step, says False.

        Args:
            source: at least one case; or a dataset that gives sample ``n`` as :class:`SliceDataset` does, endlessly and from ``n`` alone.
            report: called on the first process alone.
            state_file: where the first process keeps the state, every ``save_every_s`` seconds and at the end, for :meth:`resume`.

        Returns:
            The averaged network, in evaluation mode.
        """
        settings = self.settings
        if state_file is not None and self.ranks.is_first:
            remove_leftovers(state_file)  # of a kill in the middle of :meth:`_save_state`
        samples = source if isinstance(source, Dataset) else self._slice_dataset(source)
        # each process takes its share of every batch, so that together they see what one would see
        indices = range(self.step * settings.batch + self.ranks.rank, 2**40, self.ranks.size)
        loader = DataLoader(Subset(samples, indices), batch_size=self.local_batch_size, num_workers=settings.workers)
        last_save = time.monotonic()
        self.set_train_mode()
        batches = iter(loader)
        while (share := budget.fraction_spent(self.step, self.seconds)) < 1.0:
            start = time.monotonic()
            self._train_step(next(batches), share)
            self.seconds = self.ranks.broadcast_from_first(self.seconds + time.monotonic() - start, self.device)
            progress = Progress(self.step, budget.fraction_spent(self.step, self.seconds), self.mean_loss, self.seconds)
            should_continue = bool(self.ranks.broadcast_from_first(not self.ranks.is_first or report(progress), self.device))
            self.set_train_mode()
            is_due = not should_continue or progress.share >= 1.0 or time.monotonic() - last_save > save_every_s
            if state_file is not None and self.ranks.is_first and is_due:
                self._save_state(state_file)
                last_save = time.monotonic()
            if not should_continue:
                break
        return self.averaged.eval()

    def _slice_dataset(self, cases: Sequence[TrainingCase]) -> SliceDataset:
        settings = self.settings
        return SliceDataset(cases, settings.window, settings.seed, 2**40, settings.centre)

    def set_train_mode(self) -> None:
        """Put the network into training mode; called before every step."""
        self.network.train()

    def compute_loss(self, output: PrunedOutput, label: Tensor, image: Tensor, prompts: PromptBatch) -> Tensor:
        """The loss of a step: of the ``output`` for ``image`` (B, channels, H, W) with ``prompts`` and its ``label`` (B, H, W)."""
        loss: Tensor = self.loss(output, label)
        return loss

    def _train_step(self, batch: dict[str, Tensor], share: float) -> None:
        rate = self.settings.rate * min(share / 0.03 + 0.02, 1.0) * (0.5 + 0.5 * math.cos(math.pi * share))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        image, label = batch["image"].to(self.device), batch["label"].to(self.device)
        image = image.contiguous(memory_format=torch.channels_last)
        prompts = PromptBatch.of(BoxPrompt, [[box.tolist()] for box in batch["box"]], image.shape[2:])
        # what a network draws (dropout, noise) depends on seed and step alone, so that a resumed run draws what an uninterrupted one would
        torch.manual_seed(self.settings.seed * 1_000_003 + self.step)
        with autocast(self.device):
            output = self.network.segment(image, prompts, self._plan_of_step(share))
        output = replace(output, logits=output.logits.float())
        loss = self.compute_loss(*self.ranks.gather_batch(output, label), image, prompts)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.ranks.all_reduce_gradients(self.network.parameters())
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        # an average that starts quick enough to forget the first steps
        self.average.multi_avg_fn = get_ema_multi_avg_fn(min(_EMA_DECAY, (1 + self.step) / (10 + self.step)))
        self.average.update_parameters(self.network)
        # numbers that index or count have no mean: torch rounds theirs towards zero
        for averaged, own in zip(self.averaged.buffers(), self.network.buffers()):
            if not own.is_floating_point():
                averaged.copy_(own)
        self.step += 1
        value = float(loss.detach())
        self.mean_loss = value if math.isnan(self.mean_loss) else 0.98 * self.mean_loss + 0.02 * value

    def _plan_of_step(self, share: float) -> PruningPlan | None:
        if share < self.settings.dense_first:
            return None
        if self.plan is None or not self.settings.levels:
            return self.plan
        choice = np.random.default_rng((self.settings.seed, self.step, 1)).random()
        return self.plan.with_random_override(choice)

    def _save_state(self, path: Path) -> None:
        state: dict[str, Any] = {
            "run": self.run,
            "step": self.step,
            "seconds": self.seconds,
            "mean_loss": self.mean_loss,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        save_state(path, state)
