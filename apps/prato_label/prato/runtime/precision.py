"""The precision in which networks compute, by device: half precision where that is as good and much faster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def is_bfloat16_fast(device: torch.device) -> bool:
    """GPUs, and CPUs with AMX, compute nearly twice as fast in bfloat16.

    Elsewhere it is slower than float32, also with AVX-512's bfloat16 instructions. oneDNN may be kept from instructions that the CPU has
    (ONEDNN_MAX_CPU_ISA).
    """
    if device.type != "cpu":
        return device.type == "cuda"
    return torch.cpu._is_amx_tile_supported() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(device: torch.device) -> torch.autocast:
    """While it lasts, convolutions and products are computed in bfloat16, where ``device`` does that fast, and all else as it was."""
    return torch.autocast(device.type, torch.bfloat16, enabled=is_bfloat16_fast(device))


@contextmanager
def inference(device: torch.device) -> Iterator[None]:
    """While it lasts, no gradients are kept, and :func:`autocast`."""
    with torch.inference_mode(), autocast(device):
        yield
