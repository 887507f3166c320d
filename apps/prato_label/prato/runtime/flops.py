"""Counts the floating-point operations of the very call that is made.

torch's own ``FlopCounterMode`` looks at every kernel that runs, which can take longer than a small network itself. Here only calls of
torch's public functions are looked at, and the kernels of those few that are made of others; a test holds both to the same totals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

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


def estimate_flops(call: Callable[[], Any]) -> float:
    """The GFLOP that ``call`` would take, as :func:`count_flops` counts them.

    Convolutions, products and attention are not computed, unless they are called in a way that no network here does: their results are
    zeros of the right shape, so that whatever else ``call`` does takes a fraction of its time; torch's "meta" device, which computes
    nothing at all, takes longer than to compute. What they are made of must not depend on values.
    """
    with _Estimator(NEVER_CANCELLED) as counter:
        call()
    return counter.flop / 1e9


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


def _attention(out: Tensor, query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * key.shape[-2] * math.prod(out.shape[:-1]) * (query.shape[-1] + out.shape[-1])


_FORMULAS: dict[Any, Callable[..., int]] = {
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d, torch.mkldnn_convolution, CONVOLUTION_POINTWISE), _convolution),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), _transposed),
    **dict.fromkeys((torch.matmul, torch.bmm, Tensor.matmul, Tensor.__matmul__, Tensor.bmm), _product),
    record_flops: _recorded,
    F.linear: _linear,
    F.scaled_dot_product_attention: _attention,
}
#: Functions that come to products in ways of their own, or call others where no mode sees it, as all of ``nn.MultiheadAttention`` does.
_MADE_OF_OTHERS = frozenset(
    (
        *(F.multi_head_attention_forward, torch.einsum, torch.tensordot, torch.convolution, torch.chain_matmul),
        *(torch.mm, Tensor.mm, torch.inner, Tensor.inner, torch.linalg.matmul, torch.linalg.multi_dot),
        *(torch.addmm, Tensor.addmm, Tensor.addmm_, torch.baddbmm, Tensor.baddbmm, Tensor.baddbmm_, torch.addbmm, Tensor.addbmm),
    )
)


def _blank_convolution(func: Any, image: Tensor, weight: Tensor, bias: Any = None, *args: Any, **kwargs: Any) -> Tensor:
    transposed = _FORMULAS[func] is _transposed
    # a transposed one has its groups in the fourth place after the operands, and its weight does not show them
    if [*args[3:4], kwargs.get("groups", 1)][0] != 1 if transposed else image.shape[1] != weight.shape[1]:
        blank: Tensor = func(image, weight, bias, *args, **kwargs)  # of groups: few operations
        return blank
    one = func(image[:, :1], weight[:1, :1], None, *args, **kwargs)  # of one channel: the shape is all that is asked
    return image.new_zeros((len(image), weight.shape[1 if transposed else 0], *one.shape[2:]))


def _blank_linear(func: Any, values: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return values.new_zeros((*values.shape[:-1], len(weight)))


def _blank_product(func: Any, a: Tensor, b: Tensor) -> Tensor:
    if min(a.ndim, b.ndim) < 2:
        vector: Tensor = func(a, b)
        return vector
    return a.new_zeros((*torch.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]))


def _blank_attention(func: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return query.new_zeros((*query.shape[:-1], value.shape[-1]))


#: What takes the place of what is expensive, by its formula.
_BLANKS: dict[Any, Callable[..., Tensor]] = {
    _convolution: _blank_convolution,
    _transposed: _blank_convolution,
    _linear: _blank_linear,
    _product: _blank_product,
    _attention: _blank_attention,
}


def _cpu_attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


#: By kernel, as torch counts; that of attention on CPUs it does not know.
_KERNELS: dict[Any, Callable[..., int]] = {**flop_registry, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention}


class _KernelCounter(TorchDispatchMode):
    """Counts by the kernels that run, as ``FlopCounterMode``, but without its hooks, which every module of every thread would call."""

    def __init__(self) -> None:
        super().__init__()
        self.flop = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        named = kwargs or {}
        formula = _KERNELS.get(func._overloadpacket)
        if formula is None:
            with self:  # in inference mode torch leaves it to who looks to take a function apart
                out = func.decompose(*args, **named)
            return func(*args, **named) if out is NotImplemented else out
        out = func(*args, **named)
        self.flop += formula(*args, **named, out_val=out)
        return out


class _Counter(TorchFunctionMode):
    def __init__(self, token: CancelToken) -> None:
        super().__init__()
        self.flop = 0
        self._token = token

    def _call(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        self._token.raise_if_cancelled()
        named = kwargs or {}
        formula = _FORMULAS.get(func)
        # formulas know the operands by their places
        if func in _MADE_OF_OTHERS or (formula is not None and len(args) < 2):
            with _KernelCounter() as kernels:
                out = func(*args, **named)
            self.flop += kernels.flop
            return out
        out = self._call(func, *args, **named)
        if formula is not None:
            self.flop += formula(out, *args, **named)
        return out


class _Estimator(_Counter):
    def _call(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        blank = _BLANKS.get(_FORMULAS.get(func))
        return func(*args, **kwargs) if blank is None else blank(func, *args, **kwargs)
