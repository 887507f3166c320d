"""Between two sets of weights, and how far from the old ones a training may go."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prato.models.checkpoint import model_preset
from prato.training import fine_tuning
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


@pytest.mark.parametrize(("dice", "share"), [(1.0, 0.1), (0.925, 0.1), (0.85, 0.4), (0.7, 1.0), (0.0, 1.0)])
def test_the_rate_grows_with_the_distance_from_the_labels(dice: float, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fine_tuning, "_measure_with", lambda *_: lambda model: {"mean": dice})
    rate = fine_tuning.choose_rate(nn.Linear(1, 1), model_preset("unetr"), [], "cpu")
    assert rate == pytest.approx(share * fine_tuning.LEARNING_RATE)
