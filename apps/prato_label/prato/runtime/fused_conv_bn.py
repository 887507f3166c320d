"""A convolution and the batch norm behind it as one convolution, for networks that predict."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights
from torch.utils.flop_counter import conv_flop_count, register_flop_formula

#: A convolution and what comes after it at each pixel, as torch's own compiler calls it on a CPU; None without oneDNN.
CONVOLUTION_POINTWISE: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None) if torch.backends.mkldnn.is_available() else None


class _Folded(NamedTuple):
    weight: Tensor
    bias: Tensor
    made_from: tuple[tuple[int, int], ...]


_FOLDED: WeakKeyDictionary[nn.Module, _Folded] = WeakKeyDictionary()


def fuse_batch_norms(network: Any) -> Any:
    """``network``, in evaluation mode, with every batch norm that follows a convolution folded into it: it can no longer be trained.

    Those of MONAI's residual blocks (``conv1`` and ``norm1`` ... ``conv3`` and ``norm3``) and of ``nn.Sequential``. In MONAI's basic blocks
    the activations behind the norms are folded, too.
    """
    from monai.networks.blocks.dynunet_block import UnetBasicBlock  # others of this file have no need of MONAI

    for holder, name, norm_holder, norm_name in list(_normed_convolutions(network)):
        convolution, norm = getattr(holder, name), getattr(norm_holder, norm_name)
        setattr(holder, name, fuse_conv_bn_eval(convolution, norm))
        setattr(norm_holder, norm_name, nn.Identity())
    for block in network.modules():
        if isinstance(block, UnetBasicBlock) and isinstance(block.lrelu, nn.LeakyReLU) and isinstance(block.norm1, nn.Identity):
            for layer in (block.conv1, block.conv2):
                layer.conv = _ActivatedConvolution(layer.conv, block.lrelu.negative_slope)
            block.lrelu = nn.Identity()
    return network


class _ActivatedConvolution(nn.Module):
    """A 2D convolution and the leaky ReLU behind it: on a CPU in one routine, which spares writing and reading all pixels once more."""

    def __init__(self, convolution: Any, slope: float) -> None:
        super().__init__()
        self.convolution, self.slope = convolution, slope

    def forward(self, x: Tensor) -> Tensor:
        of = self.convolution
        if x.device.type != "cpu" or torch.is_grad_enabled() or CONVOLUTION_POINTWISE is None or isinstance(of.padding, str):
            return F.leaky_relu_(of(x), self.slope)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype  # which autocast does not know to cast
        bias = None if of.bias is None else of.bias.to(dtype)
        shape = of.padding, of.stride, of.dilation, of.groups
        activated: Tensor = CONVOLUTION_POINTWISE(x.to(dtype), of.weight.to(dtype), bias, *shape, "leaky_relu", [self.slope], "")
        return activated


def fold_frozen_norms(network: nn.Module) -> None:
    """Let every batch norm of ``network`` that follows a convolution, and keeps its statistics, be computed with that convolution.

    The network is trained as before, all its parameters too: weights and gradients agree but for rounding, and its state dict is the same.
    Pixels are no longer written and read once more for the norm, in either direction: of a step on a CPU, a twentieth.
    """
    for holder, name, norm_holder, norm_name in _normed_convolutions(network):
        convolution, norm = getattr(holder, name), getattr(norm_holder, norm_name)
        convolution.forward = partial(_convolve_folded, convolution, norm)
        norm.forward = nn.Identity().forward


def _convolve_folded(convolution: Any, norm: Any, x: Tensor) -> Tensor:
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    if convolution.bias is not None:
        shift = shift + convolution.bias * scale
    folded: Tensor = convolution._conv_forward(x, convolution.weight * scale.view(-1, *[1] * (x.ndim - 1)), shift)
    return folded


def _normed_convolutions(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module, str]]:
    """Each convolution with a batch norm behind it: the modules that hold the two, and their names there."""
    for block in network.modules():
        for number in (1, 2, 3):
            layer = getattr(block, f"conv{number}", None)
            if isinstance(getattr(block, f"norm{number}", None), _BatchNorm) and layer is not None:
                yield layer, "conv", block, f"norm{number}"
        if isinstance(block, nn.Sequential):
            for n, (layer, norm) in enumerate(zip(list(block), list(block)[1:])):
                if isinstance(layer, nn.Conv2d) and isinstance(norm, _BatchNorm):
                    yield block, str(n), block, str(n + 1)


def conv_norm(convolution: Any, norm: nn.Module | None, x: Tensor, padding: list[int]) -> Tensor:
    """``norm`` of ``convolution`` of ``x``, at stride 1 and with ``padding`` instead of the convolution's own.

    A batch norm that predicts is folded into the weights, which are kept for as long as neither has changed; where gradients are wanted, or
    the norm is another, the two run one after the other. The two ways agree but for rounding.

    Args:
        convolution: ``nn.Conv2d`` or ``nn.Conv3d`` without groups. norm: None for no norm.
        x: (B, C, *grid). padding: cells on both sides of each axis.
    """
    tracked = not (torch.is_grad_enabled() or convolution.weight.is_inference())  # an inference tensor does not say that it was changed
    if tracked and isinstance(norm, _BatchNorm) and not norm.training and norm.running_mean is not None:
        weight, bias, _ = _folded(convolution, norm)
        return _run(x, weight, bias, padding)
    y = _run(x, convolution.weight, convolution.bias, padding)
    return y if norm is None else norm(y)


@register_flop_formula([torch.ops.aten.mkldnn_convolution, *filter(None, [CONVOLUTION_POINTWISE])])
def _flop(x_shape: Any, weight_shape: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """Torch's own counter does not know the routines that are chosen here."""
    return int(conv_flop_count(x_shape, weight_shape, out_shape))


def _run(x: Tensor, weight: Tensor, bias: Tensor | None, padding: list[int]) -> Tensor:
    if x.ndim == 5:
        return F.conv3d(x, weight, bias, 1, padding)
    if x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled() and torch.backends.mkldnn.is_available():
        # of small images torch's own choice is a slower routine
        return torch.mkldnn_convolution(x, weight, bias, padding, (1, 1), (1, 1), 1)
    return F.conv2d(x, weight, bias, 1, padding)


def _folded(convolution: Any, norm: _BatchNorm) -> _Folded:
    parts = (convolution.weight, convolution.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    # a changed value raises a tensor's version, but not statistics that a norm gathers: these it counts; what is moved lies elsewhere
    made_from = tuple((part.data_ptr(), part._version) for part in (*parts, norm.num_batches_tracked) if part is not None)
    known = _FOLDED.get(convolution)
    if known is None or known.made_from != made_from:
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        weight, bias = fuse_conv_bn_weights(convolution.weight, convolution.bias, mean, variance, norm.eps, norm.weight, norm.bias)
        known = _Folded(_laid_out_as(weight.detach(), convolution.weight), bias.detach(), made_from)
        _FOLDED[convolution] = known
    return known


def _laid_out_as(weight: Tensor, model: Tensor) -> Tensor:
    if model.ndim == 4 and model.is_contiguous(memory_format=torch.channels_last):
        return weight.contiguous(memory_format=torch.channels_last)
    return weight.contiguous()
