"""Training by several processes that together take the very step that one would take on the whole batch.

Each process runs its share of the batch. What a step draws from the batch as a whole is computed on the whole: the statistics of batch
normalisation, and the loss (Dice and cross-entropy over all slices), to which every process contributes the gradient of its own slices.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from prato.pruning.plan import PrunedOutput


@dataclass(frozen=True)
class Ranks:
    """The processes that train together: this one is number ``rank`` of ``size``. Alone, every method leaves things as they are."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files, prints and validates."""
        return self.rank == 0

    def share(self, batch: int) -> int:
        """How many slices of a ``batch`` are this process's.

        Raises:
            ValueError: they cannot be dealt out evenly.
        """
        if batch % self.size:
            raise ValueError(f"A batch of {batch} slices cannot be dealt evenly to {self.size} processes: take a multiple of {self.size}.")
        return batch // self.size

    def sharing_statistics(self, network: Any) -> Any:
        """``network`` with batch normalisation over the slices of all processes; parameters and their names stay."""
        if self.size > 1:
            for parent in list(network.modules()):
                for name, child in parent.named_children():
                    if type(child) is nn.BatchNorm2d:
                        setattr(parent, name, _SharedBatchNorm.of(child))
        return network

    def whole_batch(self, output: PrunedOutput, label: Tensor) -> tuple[PrunedOutput, Tensor]:
        """Output and label (B, ...) of the whole batch; a gradient reaches this process's slices alone."""
        if self.size == 1:
            return output, label
        stages = tuple(replace(s, relevance=self._gathered(s.relevance), alive=self._gathered(s.alive)) for s in output.stages)
        return replace(output, logits=self._gathered(output.logits), stages=stages), self._gathered(label)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Each gradient becomes its sum over the processes."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients])):
            gradient.copy_(total.view_as(gradient))

    def of_first(self, value: float, device: torch.device) -> float:
        """The first process's ``value``: clocks and wishes differ, and all must take the same number of steps."""
        if self.size == 1:
            return value
        agreed = torch.tensor(value, dtype=torch.float64, device=device)
        dist.broadcast(agreed, 0)
        return float(agreed)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is refused in one process's block is refused in all; nobody goes on, and waits for the others, alone.

        Raises:
            ValueError: the first of the refusals (ValueError, RuntimeError, OSError).
        """
        refusal: str | None = None
        try:
            yield
        except (ValueError, RuntimeError, OSError) as error:
            refusal = str(error)
        refusals = [text for text in self._everyones(refusal) if text is not None]
        if refusals:
            raise ValueError(refusals[0])

    def check_same_start(self, network: nn.Module, step: int) -> None:
        """Compare where the processes start.

        Raises:
            ValueError: their weights or steps differ, as they do where some cannot see the file that the others resumed from.
        """
        if self.size == 1:
            return
        digest = hashlib.sha256(str(step).encode())
        for value in network.state_dict().values():
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        if len(set(self._everyones(digest.hexdigest()))) > 1:
            raise ValueError("The processes do not start from the same weights: keep the run's folder where all of them can read it.")

    def leave(self) -> None:
        """The end of training together."""
        if self.size > 1:
            dist.destroy_process_group()

    def _everyones(self, value: Any) -> list[Any]:
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def _gathered(self, own: Tensor) -> Tensor:
        sent = own.detach().contiguous()
        sent = sent.to(torch.uint8) if sent.dtype == torch.bool else sent
        parts = [torch.empty_like(sent) for _ in range(self.size)]
        dist.all_gather(parts, sent)
        return torch.cat([*(p.to(own.dtype) for p in parts[: self.rank]), own, *(p.to(own.dtype) for p in parts[self.rank + 1 :])])


#: One process, as without ``torchrun``.
ALONE = Ranks()


def join(device: str) -> tuple[Ranks, torch.device]:
    """The processes that ``torchrun`` started, or this one alone, and where this one computes.

    Args:
        device: cpu, cuda or cuda:N; empty for the GPU of this process where there is one. ``cuda`` is the GPU of this process too.

    Raises:
        RuntimeError: torch does not know ``device``, or the processes do not find each other.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    where = torch.device(own if device == "cuda" or (not device and torch.cuda.is_available()) else device or "cpu")
    torch.zeros(1, device=where)
    if size == 1:
        return Ranks(), where
    if where.type == "cuda":
        torch.cuda.set_device(where)
    # the others wait while the first one validates
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo", timeout=timedelta(hours=2))
    return Ranks(dist.get_rank(), size), where


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class _SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the statistics of all processes, on CPU and GPU; their shares of the batch are equal."""

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> _SharedBatchNorm:
        shared = cls(norm.num_features, norm.eps, norm.momentum)
        shared.load_state_dict(norm.state_dict())
        return shared.to(norm.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes, size = (0, 2, 3), dist.get_world_size()
        values = x.float()
        mean = _Sum.apply(values.mean(axes)) / size
        centred = values - mean[:, None, None]
        # around the common mean: from sums of squares, small variances would be rounding
        variance = _Sum.apply(centred.square().mean(axes)) / size
        with torch.no_grad():
            count = size * x.numel() / x.shape[1]
            momentum = self.momentum or 0.0
            self.running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
            self.running_var.lerp_(variance * count / (count - 1), momentum)  # type: ignore[union-attr]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)
