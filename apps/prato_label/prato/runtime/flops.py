"""Floating-point operations of the very call that is made.

torch's own ``FlopCounterMode`` looks at every kernel that runs, which can take longer than a small network itself. Here only calls of
torch's public functions are looked at; a test holds both to the same totals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary
from torch.utils.flop_counter import sdpa_flop_count

from prato.runtime.cancel_token import NEVER_CANCELLED, CancelToken
from prato.runtime.fused_conv_bn import CONVOLUTION_POINTWISE


def count_flops(call: Callable[[], Any], token: CancelToken = NEVER_CANCELLED) -> tuple[Any, float]:
    """The result of ``call`` and the GFLOP it took: convolutions, products and attention, a multiply-add counting as two.

    Args:
        token: looked at before each of torch's functions, since these are intercepted anyway.

    Raises:
        CancelledError: ``token`` was cancelled.
    """
    with _Counter(token) as counter:
        result = call()
    return result, counter.flop / 1e9


def record_flops(values: Tensor, flop: int) -> Tensor:
    """``values``, which took ``flop`` operations that no counter could see, such as those of a replayed graph: here they are added."""
    if has_torch_function_unary(values):
        told: Tensor = handle_torch_function(record_flops, (values,), values, flop)
        return told
    return values


def _recorded(out: Tensor, values: Tensor, flop: int) -> int:
    return flop


def _convolution(out: Tensor, image: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * out.numel() * weight[0].numel()


def _transposed(out: Tensor, image: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * image.numel() * weight[0].numel()


def _linear(out: Tensor, values: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * out.numel() * weight.shape[-1]


def _product(out: Tensor, a: Tensor, b: Tensor, **kwargs: Any) -> int:
    return 2 * out.numel() * a.shape[-1]


def _summed(out: Tensor, equation: str, *operands: Any) -> int:
    sizes: dict[str, int] = {}
    tensors = operands[0] if isinstance(operands[0], (list, tuple)) else operands
    for names, values in zip(equation.split("->", maxsplit=1)[0].split(","), tensors):
        sizes.update(zip(names, values.shape))
    return 2 * math.prod(sizes.values())


def _attention(out: Tensor, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


_FORMULAS: dict[Any, Callable[..., int]] = {
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d, torch.mkldnn_convolution, CONVOLUTION_POINTWISE), _convolution),
    **dict.fromkeys((F.conv_transpose2d, F.conv_transpose3d), _transposed),
    **dict.fromkeys((torch.matmul, torch.bmm, Tensor.matmul, Tensor.__matmul__, Tensor.bmm), _product),
    record_flops: _recorded,
    F.linear: _linear,
    torch.einsum: _summed,
    F.scaled_dot_product_attention: _attention,
}


class _Counter(TorchFunctionMode):
    def __init__(self, token: CancelToken) -> None:
        super().__init__()
        self.flop = 0
        self._token = token

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        self._token.raise_if_cancelled()
        out = func(*args, **(kwargs or {}))
        formula = _FORMULAS.get(func)
        if formula is not None:
            self.flop += formula(out, *args, **(kwargs or {}))
        return out
