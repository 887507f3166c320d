"""Batch norms folded into convolutions."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from prato.runtime.fused_conv_bn import conv_norm, fold_frozen_norms, fuse_batch_norms
from tests.prato.conftest import small_spec


def _layers(dims: int, bias: bool = False) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(3)
    convolution = (nn.Conv2d if dims == 2 else nn.Conv3d)(5, 7, 3, bias=bias)
    norm = (nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d)(7)
    for _ in range(3):  # statistics that are not those of a fresh norm
        norm(3 * torch.randn(2, 7, *(6,) * dims) + 1)
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    nn.init.normal_(norm.bias)
    return convolution.eval(), norm.eval()


def _one_by_one(convolution: nn.Module, norm: nn.Module, x: Tensor, padding: list[int]) -> Tensor:
    rims = [rim for rim in reversed(padding) for _ in range(2)]
    return norm(convolution(nn.functional.pad(x, rims)))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("dims", "padding"), [(2, [1, 0]), (3, [0, 1, 1])])
@torch.inference_mode()
def test_the_numbers_are_those_of_convolution_and_norm(dims: int, padding: list[int], bias: bool) -> None:
    convolution, norm = _layers(dims, bias)
    x = torch.randn(2, 5, *(9, 8, 7)[:dims])
    torch.testing.assert_close(conv_norm(convolution, norm, x, padding), _one_by_one(convolution, norm, x, padding), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changed", ["weight", "running_mean", "gathered", "loaded", "cast"])
def test_weights_that_change_are_folded_anew(changed: str) -> None:
    convolution, norm = _layers(2)
    x = torch.randn(1, 5, 8, 8)
    with torch.inference_mode():
        before = conv_norm(convolution, norm, x, [0, 0])
    with torch.no_grad():
        if changed == "weight":
            convolution.weight.mul_(2)
        elif changed == "running_mean":
            norm.running_mean.add_(1)
        elif changed == "gathered":
            norm.train()(5 * torch.randn(8, 7, 6, 6) + 2)
            norm.eval()
        elif changed == "loaded":
            convolution.load_state_dict({"weight": torch.randn_like(convolution.weight)})
        else:
            convolution, norm, x = convolution.double(), norm.double(), x.double()
    with torch.inference_mode():
        after = conv_norm(convolution, norm, x, [0, 0])
        torch.testing.assert_close(after, _one_by_one(convolution, norm, x, [0, 0]), atol=1e-5, rtol=1e-5)
    assert changed == "cast" or not torch.allclose(before, after, atol=1e-3)


def test_a_norm_that_trains_sees_its_batch_and_passes_gradients() -> None:
    convolution, norm = _layers(2)
    norm.train()
    x = torch.randn(4, 5, 8, 8)
    seen = norm.running_mean.clone()
    y = conv_norm(convolution, norm, x, [0, 0])
    torch.testing.assert_close(y.mean((0, 2, 3)), norm.bias, atol=1e-4, rtol=1e-4)
    y.square().sum().backward()
    assert float(convolution.weight.grad.abs().sum()) > 0 and not torch.equal(seen, norm.running_mean)


@torch.inference_mode()
def test_a_norm_of_the_image_itself_is_left_as_it_is() -> None:
    convolution, _ = _layers(2)
    norm, x = nn.InstanceNorm2d(7), torch.randn(1, 5, 8, 8)
    torch.testing.assert_close(conv_norm(convolution, norm, x, [1, 1]), _one_by_one(convolution, norm, x, [1, 1]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("precision", "bound"), [(torch.float32, 1e-4), (torch.bfloat16, 4e-2)])
def test_a_whole_network_gives_the_same_numbers_without_its_batch_norms_and_activations(precision, bound):
    torch.manual_seed(0)
    network = small_spec("overview_unet").build()
    with torch.no_grad():
        for norm in (module for module in network.modules() if isinstance(module, _BatchNorm)):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.weight.normal_()
            norm.bias.normal_()
    image = torch.rand(3, 3, 64, 96)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        with torch.inference_mode():
            before = network.eval().segment(image).logits
        one_by_one = fuse_batch_norms(network).segment(image).logits  # where gradients are kept
        with torch.inference_mode():
            after = network.segment(image).logits
    assert not any(isinstance(module, (_BatchNorm, nn.LeakyReLU)) for module in network.modules())
    for found in (after, one_by_one):
        assert found.dtype == before.dtype and torch.allclose(found, before, atol=bound * float(before.abs().max()))


def test_frozen_norms_are_trained_with_their_convolutions_as_without_them() -> None:
    """The output, every gradient and the state dict; a norm that follows no convolution is left alone."""
    plain = nn.Sequential(*_layers(2), nn.GELU(), *_layers(2, bias=True)[::-1]).double()
    plain[3] = nn.BatchNorm2d(7).double().eval()
    plain[4] = nn.Conv2d(7, 3, 1).double()
    folded = copy.deepcopy(plain)
    fold_frozen_norms(folded)
    x = torch.randn(2, 5, 8, 8, dtype=torch.float64)
    for network in (plain, folded):
        network(x).square().sum().backward()
    torch.testing.assert_close(folded(x), plain(x))
    for (name, own), (_, other) in zip(folded.named_parameters(), plain.named_parameters()):
        torch.testing.assert_close(own.grad, other.grad, msg=name)
    assert folded.state_dict().keys() == plain.state_dict().keys()
    assert "forward" in vars(folded[1]) and "forward" not in vars(folded[3])
