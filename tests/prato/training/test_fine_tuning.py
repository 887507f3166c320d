"""Between two sets of weights, and how far from the old ones a training may go."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prato.data.cases import TrainingCase
from prato.models.checkpoint import model_preset
from prato.prompts.batch import PromptBatch
from prato.pruning.record import PrunedOutput
from prato.training import fine_tuning
from prato.training.fine_tuning import FineTuning, TrainingParameters, blend, fine_tune
from prato.training.progress import TrainingProgress
from tests.prato.conftest import small_spec


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


class SeenLabels(fine_tuning.FrozenBatchNormTrainer):
    """Remembers in which of the labels that it learns from there is anything."""

    seen: ClassVar[list[bool]] = []

    def compute_loss(self, output: PrunedOutput, label: Tensor, image: Tensor, prompts: PromptBatch) -> Tensor:
        self.seen.append(bool(label.any()))
        return super().compute_loss(output, label, image, prompts)


class FindsNothing(nn.Module):
    def segment(self, image: Tensor, prompts: PromptBatch, plan: None) -> PrunedOutput:
        return PrunedOutput(F.one_hot(torch.zeros(len(image), *image.shape[2:], dtype=torch.int64), 4).movedim(-1, 1).float())


@pytest.mark.parametrize("centre", ["box", "image"])
def test_a_network_learns_and_is_measured_on_windows_where_it_is_shown_them(
    centre: Literal["box", "image"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heart lies in a corner: none of it is in a window round the middle of the image."""
    label = torch.zeros(3, 400, 400, dtype=torch.uint8)
    label[:, 30:50, 30:50] = 3
    case = TrainingCase("p", (label / 3).half(), label, (label > 0).any(0).nonzero(), (0, 3), (1.5, 1.5))
    spec = small_spec("unetr").model_copy(update={"window": 64, "centre": centre, "plan": None})
    spec.arguments["img_size"] = 64
    monkeypatch.setattr(fine_tuning, "FrozenBatchNormTrainer", SeenLabels)
    monkeypatch.setattr(SeenLabels, "seen", [])
    parameters, progress = TrainingParameters(), TrainingProgress(tmp_path / "progress.json", 1, 1, 0.0)
    fine_tune(spec.build(), FineTuning(spec, parameters, [case], [case], 1e-4, progress, tmp_path / "state.pt"))
    assert SeenLabels.seen == [centre == "box"]
    nothing = fine_tuning._measure_with(spec, [case], torch.device("cpu"))(FindsNothing())
    assert nothing["LV cavity"] == (0.0 if centre == "box" else 1.0)
