"""The cheap count is torch's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import UNet
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from prato.models.checkpoint import model_preset
from prato.models.registry import list_presets
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.runtime.flops import count_flops, estimate_flops


def by_torch(call: Any) -> float:
    """GFLOP by torch's counter, which knows the attention kernels of GPUs but not the CPU's."""
    attention = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *args, **kwargs: sdpa_flop_count(q, k, v)}
    with FlopCounterMode(display=False, custom_mapping=attention) as counter:
        call()
    return counter.get_total_flops() / 1e9


@pytest.mark.slow
@pytest.mark.parametrize("name", list_presets())
@pytest.mark.parametrize("how", ["dense", "drop", "mask", "ragged"])
def test_the_count_of_a_network_is_torchs(name: str, how: str) -> None:
    torch.manual_seed(0)
    spec = model_preset(name)
    network, plan = spec.build().eval(), spec.pruning_plan()
    image = torch.randn(2, 3, 96, 96)
    prompts = PromptBatch.of(BoxPrompt, [[((20.0, 20.0), (60.0, 60.0))], [((30.0, 40.0), (70.0, 80.0))]], (96, 96))
    ragged = replace(plan, percentile=None, threshold=0.5)
    changed = {"dense": None, "drop": plan, "mask": replace(plan, mode="mask"), "ragged": ragged}[how]

    @torch.inference_mode()
    def call() -> Any:
        return network.segment(image, prompts, changed)

    assert count_flops(call)[1] == pytest.approx(by_torch(call), rel=1e-9)
    if changed is None:
        assert estimate_flops(call) == count_flops(call)[1]


@pytest.mark.parametrize("name", ["swin_unetr", "unetr"])
def test_an_estimate_computes_nothing_that_counts(name: str) -> None:
    spec = model_preset(name)
    network, image = spec.build().eval(), torch.randn(1, 3, 96, 96)
    with torch.inference_mode(), FlopCounterMode(display=False) as computed:
        estimated = estimate_flops(lambda: network.segment(image, None, None))
    with torch.inference_mode():
        assert estimated == count_flops(lambda: network.segment(image, None, None))[1]
    assert computed.get_total_flops() / 1e9 < 0.05 * estimated


def test_a_3d_network_and_a_plain_one_are_counted_too() -> None:
    network = UNet(2, 3, 1, (4, 8, 16), (2, 2)).eval()
    assert count_flops(lambda: network(torch.randn(1, 3, 64, 64)))[1] == pytest.approx(by_torch(lambda: network(torch.randn(1, 3, 64, 64))))
    volume = torch.nn.Sequential(torch.nn.Conv3d(2, 4, 3), torch.nn.ConvTranspose3d(4, 3, 2, stride=2))
    call = lambda: volume(torch.randn(1, 2, 8, 8, 8))  # noqa: E731
    assert count_flops(call)[1] == pytest.approx(by_torch(call))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: nn.MultiheadAttention(16, 4, batch_first=True).eval()(x, x, x)[0],
        nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval(),
        lambda x: torch.einsum("...id, ...jd -> ...ij", x, x),
        lambda x: torch.addmm(torch.zeros(1), x[0], x[1].T),
        lambda x: F.linear(input=x, weight=x[0]),
        lambda x: F.scaled_dot_product_attention(query=x[:, None], key=x[:, None], value=x[:, None]),
        lambda x: F.scaled_dot_product_attention(x, x, x),
        lambda x: nn.ConvTranspose2d(2, 6, 2, stride=2, groups=2)(x[None]),
        lambda x: F.conv_transpose1d(x, x[0, :, :8].reshape(9, 1, 8), groups=9),
    ],
    ids=[
        "multi-head attention",
        "encoder layer",
        "einsum",
        "addmm",
        "by name",
        "attention by name",
        "attention without heads",
        "transposed, in groups",
        "transposed, along a line",
    ],
)
def test_a_network_of_ones_own_may_multiply_in_other_ways(call: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(2, 9, 16)
    with torch.inference_mode():
        counted = count_flops(lambda: call(x))[1]
        enabled = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # of which torch counts nothing
        try:
            assert counted == pytest.approx(by_torch(lambda: call(x)), rel=1e-9) and counted > 0
        finally:
            torch.backends.mha.set_fastpath_enabled(enabled)
        assert estimate_flops(lambda: call(x)) == counted
