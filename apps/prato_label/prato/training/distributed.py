"""Training by several processes that together take the same step as one process would on the whole batch.

Each process runs its share of the batch. What a step draws from the batch as a whole is computed on the whole: the statistics of batch
normalisation, and the loss (Dice and cross-entropy over all slices), to which every process contributes the gradient of its own slices.
Dropout, and tokens that are ranked at random, each process draws for its own slices, and so not as one process would.
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

from prato.pruning.record import PrunedOutput
from prato.runtime.devices import find_device


@dataclass(frozen=True)
class Ranks:
    """The processes that train together: this one is number ``rank`` of ``size``. With one process, every method changes nothing."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files, prints and validates."""
        return self.rank == 0

    def local_batch_size(self, batch: int) -> int:
        """How many slices of a ``batch`` are this process's.

        Raises:
            ValueError: the batch cannot be divided evenly.
        """
        if batch % self.size:
            raise ValueError(
                f"A batch of {batch} slices cannot be divided evenly among {self.size} processes: use a multiple of {self.size}."
            )
        return batch // self.size

    def convert_sync_batchnorm(self, network: Any) -> Any:
        """``network`` with batch normalisation over the slices of all processes; parameters and their names stay."""
        if self.size > 1:
            for parent in list(network.modules()):
                for name, child in parent.named_children():
                    if type(child) is nn.BatchNorm2d:
                        setattr(parent, name, _SyncBatchNorm.from_batch_norm(child))
        return network

    def gather_batch(self, output: PrunedOutput, label: Tensor) -> tuple[PrunedOutput, Tensor]:
        """Output and label (B, ...) of the whole batch; a gradient reaches this process's slices alone."""
        if self.size == 1:
            return output, label
        stages = tuple(replace(s, relevance=self._all_gather(s.relevance), alive=self._all_gather(s.alive)) for s in output.stages)
        return replace(output, logits=self._all_gather(output.logits), stages=stages), self._all_gather(label)

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Each gradient becomes its sum over the processes."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients])):
            gradient.copy_(total.view_as(gradient))

    def broadcast_from_first(self, value: float, device: torch.device) -> float:
        """The first process's ``value``: clocks differ, and all must take the same number of steps."""
        if self.size == 1:
            return value
        agreed = torch.tensor(value, dtype=torch.float64, device=device)
        dist.broadcast(agreed, 0)
        return float(agreed)

    @contextmanager
    def share_errors(self) -> Iterator[None]:
        """An error in one process's block is raised in all, so that no process goes on alone and waits for the others.

        Raises:
            ValueError: the first of the errors (ValueError, RuntimeError, OSError).
        """
        message: str | None = None
        try:
            yield
        except (ValueError, RuntimeError, OSError) as error:
            message = str(error)
        messages = [text for text in self._all_gather_object(message) if text is not None]
        if messages:
            raise ValueError(messages[0])

    def check_same_weights(self, network: nn.Module, step: int) -> None:
        """Compare the weights and steps from which the processes start.

        Raises:
            ValueError: their weights or steps differ, as they do where some cannot see the file that the others resumed from.
        """
        if self.size == 1:
            return
        digest = hashlib.sha256(str(step).encode())
        for value in network.state_dict().values():
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        if len(set(self._all_gather_object(digest.hexdigest()))) > 1:
            raise ValueError("The processes do not start from the same weights: put the run's folder where all of them can read it.")

    def close(self) -> None:
        """End the process group."""
        if self.size > 1:
            dist.destroy_process_group()

    def _all_gather_object(self, value: Any) -> list[Any]:
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def _all_gather(self, own: Tensor) -> Tensor:
        sent = own.detach().contiguous()
        sent = sent.to(torch.uint8) if sent.dtype == torch.bool else sent
        parts = [torch.empty_like(sent) for _ in range(self.size)]
        dist.all_gather(parts, sent)
        return torch.cat([*(p.to(own.dtype) for p in parts[: self.rank]), own, *(p.to(own.dtype) for p in parts[self.rank + 1 :])])


#: One process, as without ``torchrun``.
ALONE = Ranks()


def init_ranks(device: str) -> tuple[Ranks, torch.device]:
    """The processes that ``torchrun`` started, or this one alone, and where this one computes.

    Args:
        device: cpu, cuda or cuda:N; empty for the GPU of this process where there is one. ``cuda`` is the GPU of this process too.

    Raises:
        ValueError: there is no such ``device`` here. RuntimeError: the processes do not find each other.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    is_own = device in ("", "cuda") and torch.cuda.is_available()
    where = find_device(own if is_own else device or "cpu")
    if size == 1:
        return Ranks(), where
    if where.type == "cuda":
        torch.cuda.set_device(where)
    # the others wait while the first one validates
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo", timeout=timedelta(hours=2))
    return Ranks(dist.get_rank(), size), where


class _AllReduceSum(torch.autograd.Function):
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


class _SyncBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the statistics of all processes, on CPU and GPU; their shares of the batch are equal."""

    @classmethod
    def from_batch_norm(cls, norm: nn.BatchNorm2d) -> _SyncBatchNorm:
        shared = cls(norm.num_features, norm.eps, norm.momentum)
        shared.load_state_dict(norm.state_dict())
        return shared.to(norm.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes, size = (0, 2, 3), dist.get_world_size()
        values = x.float()
        mean = _AllReduceSum.apply(values.mean(axes)) / size
        centred = values - mean[:, None, None]
        # around the common mean: from sums of squares, small variances would be rounding
        variance = _AllReduceSum.apply(centred.square().mean(axes)) / size
        with torch.no_grad():
            count = size * x.numel() / x.shape[1]
            momentum = self.momentum or 0.0
            self.running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
            self.running_var.lerp_(variance * count / (count - 1), momentum)  # type: ignore[union-attr]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)
