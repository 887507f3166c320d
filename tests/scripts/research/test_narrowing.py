"""scripts/research/narrowing.py: a narrow network begins with the channels of a wide one that matter, and with nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from prato.models.overview_unet import PratoOverviewUNet
from scripts.research.narrowing import narrow_state

WIDE, NARROW = (8, 12, 16, 16, 20), (3, 6, 8, 8, 12)
OVERVIEW = {"overview_dim": 16, "overview_depth": 1}


def network(filters: tuple[int, ...], seed: int = 0) -> PratoOverviewUNet:
    """With statistics that are not those of a new one."""
    torch.manual_seed(seed)
    made = PratoOverviewUNet(filters=filters, **OVERVIEW).eval()
    for name, value in made.state_dict().items():
        if "norm" in name and name.endswith(("weight", "running_var")):
            value.uniform_(0.5, 1.5)
        elif "norm" in name and name.endswith(("bias", "running_mean")):
            value.normal_(0, 0.3)
    return made


def answer(made: PratoOverviewUNet) -> Tensor:
    window = torch.randn(1, 2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    box, corner = torch.tensor([[[8.0, 8.0], [24.0, 24.0]]]), torch.zeros(1, 2, dtype=torch.long)
    with torch.no_grad():
        return made.train_windows(window, corner, window[:, :, 1, ::2, ::2], box, torch.tensor([True]))[0]


def test_channels_that_say_nothing_are_those_that_go() -> None:
    wide, narrow = network(WIDE), network(NARROW, seed=1)
    kept = dict(zip(WIDE, NARROW))  # no two levels are equally wide here but for the third and fourth
    with torch.no_grad():
        for name, value in wide.named_parameters():
            if name.startswith(("overview", "along")) or value.ndim not in (1, 4):
                continue
            if name.endswith("transp_conv.conv.weight"):
                value[:, torch.randperm(value.shape[1])[kept[value.shape[1]] :]] = 0
            elif "norm" in name and name.endswith("weight"):
                silent = torch.randperm(len(value))[kept[len(value)] :]
                value[silent] = 0
                wide.get_parameter(name.replace("weight", "bias"))[silent] = 0
    narrow.load_state_dict(narrow_state(wide.state_dict(), narrow))
    torch.testing.assert_close(answer(narrow), answer(wide), rtol=1e-4, atol=1e-4)


def test_as_wide_as_it_was_it_is_what_it_was() -> None:
    wide, same = network(WIDE), network(WIDE, seed=1)
    for made in (wide, same):
        for last in (made.context, made.guidance[2]):  # which begin with 0
            torch.nn.init.normal_(last.weight, 0, 0.1)
            torch.nn.init.normal_(last.bias, 0, 0.1)
    same.load_state_dict(narrow_state(wide.state_dict(), same))
    torch.testing.assert_close(answer(same), answer(wide), rtol=0, atol=0)


@pytest.mark.parametrize(
    "other",
    [
        {"filters": (8, 12, 16, 16, 24)},  # wider somewhere
        {"filters": (3, 6, 8, 8, 12, 12)},
        {"filters": NARROW, "overview_dim": 8},
        {"filters": NARROW, "overview_depth": 2},
        {"filters": NARROW, "in_channels": 1},
        {"filters": NARROW, "out_channels": 2},
    ],
)
def test_a_network_that_is_no_narrower_one_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="only where that one is as wide at every level"):
        narrow_state(network(WIDE).state_dict(), PratoOverviewUNet(**{**OVERVIEW, **other}))
