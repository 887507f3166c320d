"""Between two sets of weights."""

from __future__ import annotations

import torch

from prato.training.fine_tuning import blend


def test_the_share_of_the_way() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(network.weight, 4.0)
    blend({"weight": torch.zeros(1, 1)}, network, 0.75)
    assert network.weight.item() == 3.0


def test_counters_are_not_blended() -> None:
    network = torch.nn.BatchNorm1d(1)
    network.num_batches_tracked.fill_(7)
    network.running_mean.fill_(2.0)
    blend(torch.nn.BatchNorm1d(1).state_dict(), network, 0.5)
    assert (int(network.num_batches_tracked), float(network.running_mean)) == (7, 1.0)
