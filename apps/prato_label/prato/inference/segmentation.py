"""A mask and what it took, whichever way a network came to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from torch import Tensor

from prato.runtime.cancel_token import CancelToken

_T = TypeVar("_T")


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
        summary: what the network sees in the prompts, see ``prato.acquisition.uncertainty``; None unless requested, or where nothing is
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


def timed(call: Callable[[CancelToken], _T], token: CancelToken) -> tuple[_T, float]:
    """What ``call`` returns, and the seconds that it took."""
    start = time.perf_counter()
    return call(token), time.perf_counter() - start
