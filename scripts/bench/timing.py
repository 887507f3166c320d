"""Ways to do the same thing, timed in turn in one process, and where the time of a network's call goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.networks.blocks import UnetResBlock
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from prato.inference.cuda_graphs import CudaGraphRunner
from prato.models.checkpoint import channels_last
from prato.runtime.devices import synchronise
from prato.runtime.flops import count_flops

#: Ends the names of ways that are CUDA graphs: these are compared with the dense call that is one, too.
CAPTURED = ", captured"


def make_calls(ways: dict[str, tuple[Any, ...]], device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    """Calls of ``segment`` from "way: (network, image, prompts, plan)"; on a GPU in ``dtype``, and all but the masked also captured."""
    calls = {name: with_dtype(partial(network.segment, *given), device, dtype) for name, (network, *given) in ways.items()}
    if device.type == "cuda":
        captured = {id(network): CudaGraphRunner(network, dtype) for network, *_ in ways.values()}
        calls |= {name + CAPTURED: partial(captured[id(n)].segment, *given) for name, (n, *given) in ways.items() if name != "masked"}
    return calls


def with_dtype(call: Callable[[], Any], device: torch.device, dtype: torch.dtype) -> Callable[[], Any]:
    """``call`` with convolutions and products in ``dtype``."""

    def in_dtype() -> Any:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return call()

    return in_dtype


def time_interleaved(ways: dict[str, Callable[[], Any]], rounds: int, device: torch.device) -> list[dict[str, Any]]:
    """A row for each of ``ways``, of which one is "dense": median and quartiles in ms of ``rounds`` calls, and the GFLOP of one.

    Beside the time on the clock stands the processor's, which programs that run at the same time do not lengthen by making a call wait; and
    on a GPU the memory that a call takes at its height, besides what was taken before, where its kernels are not captured.
    """
    if device.type == "cuda":
        for call in ways.values():  # on the second a call is captured
            call(), call()
    cost = {name: count_flops(call)[1] for name, call in ways.items()}  # and warms up
    times: dict[str, list[float]] = {name: [] for name in ways}
    worked: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, call in ways.items():
            clock, work = time_call(call, device)
            times[name].append(clock)
            worked[name].append(work)
    middle, effort = ({name: float(np.median(taken)) for name, taken in spent.items()} for spent in (times, worked))
    dense = {name: f"dense{CAPTURED}" if name.endswith(CAPTURED) else "dense" for name in ways}
    return [
        {
            "way": name,
            "ms": round(middle[name], 2),
            **_quartiles(taken),
            "times_faster_than_dense": round(middle[dense[name]] / middle[name], 3),
            "processor_ms": round(effort[name], 2),
            "less_work_than_dense": round(effort[dense[name]] / effort[name], 3),
            "gflops": round(cost[name], 4),
            **({"peak_mib": _peak_mib(ways[name], device)} if device.type == "cuda" and not name.endswith(CAPTURED) else {}),
        }
        for name, taken in times.items()
    ]


def _quartiles(taken: list[float]) -> dict[str, float]:
    low, high = np.percentile(taken, (25, 75))
    return {"ms_q25": round(float(low), 2), "ms_q75": round(float(high), 2)}


def _peak_mib(call: Callable[[], Any], device: torch.device) -> float:
    synchronise(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    synchronise(device)
    return round((torch.cuda.max_memory_allocated(device) - before) / 2**20, 2)


def fold_norms(network: Any) -> Any:
    """A copy of ``network`` whose residual blocks have no batch norms left: they are part of the convolutions.

    The engine folds those of what it decodes; so what it is compared with gets the same.
    """
    copy = deepcopy(network)
    for block in [module for module in copy.modules() if isinstance(module, UnetResBlock)]:
        for number in (1, 2, 3) if block.downsample else (1, 2):
            layer, norm = getattr(block, f"conv{number}"), f"norm{number}"
            layer.conv = fuse_conv_bn_eval(layer.conv, getattr(block, norm))
            setattr(block, norm, nn.Identity())
    return channels_last(copy)


def time_call(call: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """Milliseconds that ``call`` takes, and those that the processor works for it."""
    synchronise(device)
    start, before = time.perf_counter(), time.process_time()
    call()
    synchronise(device)
    return 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - before)


def time_shares(network: Any, call: Callable[[], Any], first: Callable[[], Any], rounds: int, device: torch.device) -> dict[str, float]:
    """Medians in ms of what ``call``, a pruning call of ``network``, spends on encoding, scoring and decoding; on a CPU, of its work alone.

    Args:
        first: does again what of the call depends on no box, so that it might be kept for the next one: embedding patches, and the first
            block or stage on all of them.

    Returns:
        "encoder", "scoring" and "decoder", which make up "network"; and "first".
    """
    rows = []
    for _ in range(rounds):
        with _watch(network, device) as spent:
            whole = time_call(call, device)[_kind(device)]
        parts = {"encoder": whole - spent["scoring"] - spent["decoder"], **spent}
        rows.append({**parts, "network": whole, "first": time_call(first, device)[_kind(device)]})
    return {name: round(float(np.median([row[name] for row in rows])), 2) for name in rows[0]}


def _kind(device: torch.device) -> int:
    return 0 if device.type == "cuda" else 1


@contextmanager
def _watch(network: Any, device: torch.device) -> Iterator[dict[str, float]]:
    spent = {"scoring": 0.0, "decoder": 0.0}

    def watching(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any) -> Any:
            result: list[Any] = []
            spent[name] += time_call(lambda: result.append(function(*args)), device)[_kind(device)]
            return result[0]

        return watched

    scorers = list(network.relevance.values())
    network.decode = watching("decoder", network.decode)
    for scorer in scorers:
        scorer.forward = watching("scoring", scorer.forward)
    try:
        yield spent
    finally:  # the class's own methods again
        del network.decode
        for scorer in scorers:
            del scorer.forward
