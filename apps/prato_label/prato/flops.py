"""Floating-point operations of the very call that is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def _cpu_attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


#: torch's counter knows the attention kernels of GPUs but not the CPU's.
_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention}


def counted(call: Callable[[], Any]) -> tuple[Any, float]:
    """The result of ``call`` and the GFLOP it took: convolutions, products and attention, a multiply-add counting as two."""
    with FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter:
        result = call()
    return result, counter.get_total_flops() / 1e9
