"""A mask and what it took, whichever way a network came to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from prato.inference.scores import Scores, quantise
from prato.inference.uncertainty import MeanEntropy
from prato.pruning.record import PrunedOutput, StageRecord
from prato.runtime.batch_runner import BatchRunner
from prato.runtime.cancel_token import CancelToken
from prato.runtime.flops import count_flops
from prato.runtime.region_decode import RegionFeatures

_T = TypeVar("_T")


@dataclass(frozen=True)
class Wanted:
    """What is asked of a segmenter besides the mask.

    Attributes:
        prune: the contract's ``prune``; None for the model's plan.
        tokens: whether to make the token-retention map. uncertainty: whether to compute entropy and summary.
        scores: whether to keep what a network for whole stacks thought of each pixel; others keep nothing.
    """

    prune: str | None = None
    tokens: bool = False
    uncertainty: bool = False
    scores: bool = False


@dataclass
class Segmentation:
    """A mask and what it took.

    Attributes:
        mask: uint8 (X, Y, Z), values of ``prato.data.structures``, without islands; slices outside every prompt's box stay background and
            are never computed.
        tokens: float32 (X, Y, Z) in 0..1, share of the pruning stages that the token over each voxel survived; None unless requested.
        kept_fraction: by pruning stage, mean share of the tokens that went on.
        gflops: counted on the calls that were made; gflops_dense: what the same windows cost without pruning. latency_ms: by step.
        entropy: of the classes, mean over the pixels whose tokens survived every pruning stage, 0..1; None unless requested.
        scores: what a network that looks at whole stacks thought of each pixel; None for others.
        summary: what the network sees in the prompts, see ``prato.inference.uncertainty``; None unless requested, or where nothing is
            pruned.
    """

    mask: np.ndarray
    tokens: np.ndarray | None
    kept_fraction: dict[str, float] = field(default_factory=dict)
    gflops: float = 0.0
    gflops_dense: float = 0.0
    latency_ms: dict[str, float] = field(default_factory=dict)
    entropy: float | None = None
    summary: Tensor | None = None
    scores: Scores | None = None


class Tally:
    """A stack's ``result`` on its way, with sums over all pieces: the share of tokens that were kept, and what else is wanted."""

    def __init__(self, result: Segmentation, wanted: Wanted) -> None:
        self.result = result
        self._scores: list[Scores] | None = [] if wanted.scores else None
        self._entropy = MeanEntropy() if wanted.uncertainty else None
        self._kept: dict[str, float] = {}
        self._summaries: list[tuple[Tensor, int]] = []

    def add_stages(self, stages: Sequence[StageRecord], summary: Tensor | None, slices: int) -> None:
        """Of a piece of so many ``slices``."""
        for stage in stages:
            self._kept[stage.name] = self._kept.get(stage.name, 0.0) + float(stage.alive.float().mean(1).sum())
        if summary is not None:
            self._summaries.append((summary, slices))

    def add_scores(self, logits: RegionFeatures, pixels: Sequence[int], planes: Sequence[int]) -> None:
        """Of slices of so many ``pixels``, where scores are wanted."""
        if self._scores is not None:
            self._scores.append(Scores(quantise(logits.values).cpu().numpy(), logits.region, tuple(pixels), tuple(planes)))

    @property
    def needs_logits(self) -> bool:
        """Whether the uncertainty is wanted."""
        return self._entropy is not None

    def add_logits(self, output: PrunedOutput) -> None:
        """Of a part of a piece."""
        if self._entropy is not None:
            self._entropy.add(output.logits, output.token_map() == 1)

    def finish(self, slices: int) -> None:
        """Write the sums over ``slices`` slices in all to the result."""
        result = self.result
        result.kept_fraction = {name: kept / slices for name, kept in self._kept.items()}
        # pieces of a long stack are computed in regions of their own, of which there are no scores together
        if self._scores and len({part.region for part in self._scores}) == 1:
            values = np.concatenate([part.values for part in self._scores])
            first = self._scores[0]
            result.scores = Scores(values, first.region, first.pixels, tuple(k for part in self._scores for k in part.planes))
        if self._entropy is not None:
            result.entropy = self._entropy.mean()
            if self._summaries:
                result.summary = sum((summary * count for summary, count in self._summaries), torch.zeros(())) / slices


def compute(call: Callable[[], _T], runner: BatchRunner, results: Sequence[Segmentation]) -> _T:
    """What ``call`` of a network returns, made by ``runner``; what it took is shared among ``results``."""
    # the runner may have to wait: that is no computing
    (found, gflops), seconds = runner(partial(timed, partial(count_flops, call)))
    for result in results:
        result.gflops += gflops / len(results)
        result.latency_ms["network"] += 1000 * seconds / len(results)
    return found


def median_cost(call: Callable[[], object]) -> tuple[float, float]:
    """GFLOP and ms of ``call``: the median of three times, after one that warms up."""
    call()
    gflops, seconds = 0.0, []
    for _ in range(3):
        start = time.perf_counter()
        _, gflops = count_flops(call)
        seconds.append(time.perf_counter() - start)
    return gflops, 1000 * median(seconds)


def timed(call: Callable[[CancelToken], _T], token: CancelToken) -> tuple[_T, float]:
    """What ``call`` returns, and the seconds that it took."""
    start = time.perf_counter()
    return call(token), time.perf_counter() - start
