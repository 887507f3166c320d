"""Training of one network on labelled cases: seeded, resumable, stoppable, on CPU or GPU."""

from __future__ import annotations

import io
import json
import math
import os
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

from prato.data.atomic import write_bytes
from prato.data.cases import TrainingCase
from prato.inference.window import Centre, window_edges
from prato.models import PromptedNetwork
from prato.models.checkpoint import channels_last
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.plan import PrunedOutput, PruningPlan
from prato.training.augmentation import SliceSamples
from prato.training.distributed import ALONE, Ranks
from prato.training.losses import PratoLoss

#: Decay a step of the running average of weights that training returns.
_AVERAGING = 0.995


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
            raise ValueError("Give a training budget either as steps or as minutes, above zero and finite.")

    def spent(self, step: int, seconds: float) -> float:
        """Share of the budget used, 0..1."""
        return min(1.0, step / self.steps if self.steps else seconds / (60.0 * (self.minutes or 1.0)))


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        batch: slices a step. rate: peak learning rate of AdamW (warm-up over 3 % of the budget, then cosine to zero).
        window: window edge in pixels. seed: everything random follows from it. workers: processes that make samples; 0 for none.
        centre: what windows lie round; round the "image", all are of the largest size.
        levels: whether a network with a plan also learns the levels that a request may ask for, instead of its plan alone.
        dense_first: share of the budget, from its start, in which no token leaves: a network that segments nothing yet has nothing to
            rank tokens by. For fresh weights; 0 to go on from trained ones.
    """

    batch: int = 8
    rate: float = 1e-3
    window: int = 128
    seed: int = 0
    workers: int = 0
    centre: Centre = "box"
    levels: bool = True
    dense_first: float = 0.0

    @property
    def windows(self) -> list[int]:
        """Window edges that training draws from: three in five are the smallest. Far from the heart there is little to learn."""
        if self.centre == "image":
            return [self.window]
        edges = window_edges(self.window)
        return [edges[0]] * 3 + [edges[-1]] * 2


@dataclass(frozen=True)
class Progress:
    """Where training stands: ``step`` done, ``share`` of the budget (0..1), running mean ``loss``, ``seconds`` spent training."""

    step: int
    share: float
    loss: float
    seconds: float


def _bfloat16_pays(device: torch.device) -> bool:
    """GPUs, and CPUs with bfloat16 instructions, train nearly twice as fast in it; elsewhere it is emulated, and slower."""
    return device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())


class Trainer:
    """Trains ``network`` for slices in windows; ``plan`` None trains it dense.

    With a plan and ``settings.levels``, six steps in ten use the plan as it is and the others the levels that a request may ask for ("off",
    25, 50, 75 %), so that one set of weights serves them all. Before that, for ``settings.dense_first`` of the budget, no step prunes.

    Args:
        run: what else tells this run from others (JSON values by name); a state is taken up only by the run that stored it.
        ranks: the processes that train together. Their number is no part of the run: the result is the same but for rounding.

        loss: of a network's output and its label; None for :class:`PratoLoss`.

    Raises:
        ValueError: the batch cannot be dealt evenly to the processes.
    """

    def __init__(
        self,
        network: PromptedNetwork,
        plan: PruningPlan | None,
        settings: Settings,
        device: torch.device,
        run: Mapping[str, Any] | None = None,
        ranks: Ranks = ALONE,
        loss: nn.Module | None = None,
    ) -> None:
        self.ranks, self.share = ranks, ranks.share(settings.batch)
        self.network: PromptedNetwork = channels_last(ranks.sharing_statistics(network.to(device)))
        self.plan, self.settings, self.device = plan, settings, device
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(_AVERAGING), use_buffers=True)
        decayed = [p for p in self.network.parameters() if p.requires_grad and p.ndim > 1]
        free = [p for p in self.network.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.02}, {"params": free, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.rate)
        self.loss = PratoLoss() if loss is None else loss
        self.step, self.seconds, self.mean_loss = 0, 0.0, math.nan
        chosen = {name: value for name, value in asdict(settings).items() if name != "workers"}
        own = {"network": type(network).__name__, "plan": plan and asdict(plan), **chosen, **(run or {})}
        self.run: dict[str, Any] = json.loads(json.dumps(own))  # as it comes back: lists for tuples

    @property
    def averaged(self) -> PromptedNetwork:
        """The running average of the network's weights, as a network."""
        return cast(PromptedNetwork, self.average.module)

    def resume(self, state_file: Path) -> None:
        """Go on from the state that a killed run of the same kind left in ``state_file``; without such a file, start at the beginning.

        Raises:
            ValueError: not a state, or the state of another run; the trainer is then as it was.
        """
        if not state_file.exists():
            return
        try:
            state = torch.load(state_file, map_location=self.device, weights_only=True)
            stored = state.get("run")
        except Exception as error:  # damaged bytes lead the reader to any kind of error
            raise ValueError(f"{state_file} is not a training state that can be read: delete it, or train in another folder.") from error
        if stored is None:
            raise ValueError(f"{state_file} does not say which run it belongs to: delete it, or train in another folder.")
        other = [name for name in {**stored, **self.run} if stored.get(name) != self.run.get(name)]
        if other:
            raise ValueError(f"{state_file} belongs to a run with another {', '.join(other)}: train with the same, or in another folder.")
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
    ) -> PromptedNetwork:
        """Train until the budget is spent or ``report``, called after every step, says False.

        Args:
            source: at least one case; or what gives sample ``n`` as :class:`SliceSamples` does, endlessly and from ``n`` alone.
            report: heard on the first process alone.
            state_file: where the first process keeps the state, every ``save_every_s`` seconds and at the end, for :meth:`resume`.

        Returns:
            The averaged network, in evaluation mode.
        """
        settings = self.settings
        samples = source if isinstance(source, Dataset) else self._slices(source)
        # of every batch each process takes its share, so that together they see what one would see
        ahead = range(self.step * settings.batch + self.ranks.rank, 2**40, self.ranks.size)
        loader = DataLoader(Subset(samples, ahead), batch_size=self.share, num_workers=settings.workers)
        saved = time.monotonic()
        self.prepare()
        batches = iter(loader)
        while (share := budget.spent(self.step, self.seconds)) < 1.0:
            start = time.monotonic()
            self._train_on(next(batches), share)
            self.seconds = self.ranks.of_first(self.seconds + time.monotonic() - start, self.device)
            done = Progress(self.step, budget.spent(self.step, self.seconds), self.mean_loss, self.seconds)
            go_on = bool(self.ranks.of_first(not self.ranks.first or report(done), self.device))
            self.prepare()
            due = not go_on or done.share >= 1.0 or time.monotonic() - saved > save_every_s
            if state_file is not None and self.ranks.first and due:
                self._store(state_file)
                saved = time.monotonic()
            if not go_on:
                break
        return self.averaged.eval()

    def _slices(self, cases: Sequence[TrainingCase]) -> SliceSamples:
        chosen = self.settings
        return SliceSamples(cases, chosen.windows, chosen.seed, chosen.batch, 2**40, chosen.centre)

    def prepare(self) -> None:
        """Put the network into the mode that steps are taken in."""
        self.network.train()

    def objective(self, output: PrunedOutput, label: Tensor, image: Tensor, prompts: PromptBatch) -> Tensor:
        """What a step minimises, of the ``output`` for ``image`` (B, channels, H, W) with ``prompts`` and its ``label`` (B, H, W)."""
        loss: Tensor = self.loss(output, label)
        return loss

    def _train_on(self, batch: dict[str, Tensor], share: float) -> None:
        rate = self.settings.rate * min(share / 0.03 + 0.02, 1.0) * (0.5 + 0.5 * math.cos(math.pi * share))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        image, label = batch["image"].to(self.device), batch["label"].to(self.device)
        image = image.contiguous(memory_format=torch.channels_last)
        prompts = BoxPrompt.batch([[box.tolist()] for box in batch["box"]], image.shape[2:])
        # what a network draws (dropout, noise) hangs on seed and step alone, so that a resumed run draws what an unbroken one would
        torch.manual_seed(self.settings.seed * 1_000_003 + self.step)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=_bfloat16_pays(self.device)):
            output = self.network.segment(image, prompts, self._plan_of_step(share))
        output = replace(output, logits=output.logits.float())
        loss = self.objective(*self.ranks.whole_batch(output, label), image, prompts)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.ranks.add_gradients(self.network.parameters())
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        # a running average that starts slow enough to forget the first steps
        self.average.multi_avg_fn = get_ema_multi_avg_fn(min(_AVERAGING, (1 + self.step) / (10 + self.step)))
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
        levels = ((0.60, None), (0.72, "off"), (0.82, "25"), (0.94, "50"), (1.0, "75"))
        return self.plan.asked(next(level for limit, level in levels if choice < limit))

    def _store(self, path: Path) -> None:
        state: dict[str, Any] = {
            "run": self.run,
            "step": self.step,
            "seconds": self.seconds,
            "mean_loss": self.mean_loss,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        os.makedirs(path.parent, exist_ok=True)
        write_bytes(path, buffer.getvalue())
