"""Training: it learns, one seed gives one result, and a killed run goes on as if nothing had happened."""

import pytest
import torch

from prato.data.cases import labelled_studies, load_training_case
from prato.data.phantom import make_phantoms
from prato.data.sampling import SliceSamples
from prato.losses import PratoLoss
from prato.presets import PRESETS
from prato.pruning import PrunedOutput, StageRecord
from prato.training import Budget, Settings, Trainer
from tests.prato.conftest import small_spec

SETTINGS = Settings(batch=2, seed=3)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    make_phantoms(folder, 1, 0)
    return [load_training_case(f, 1.5) for f in labelled_studies(folder)]


def trainer(name="unetr", plan="its own"):
    torch.manual_seed(0)
    spec = small_spec(name)
    return Trainer(spec.build(), spec.pruning_plan() if plan else None, SETTINGS, torch.device("cpu"))


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_samples_depend_on_seed_and_number_alone(cases):
    samples, again, other = (SliceSamples(cases, 160, seed, 100) for seed in (0, 0, 1))
    again[5]  # something drawn in between
    for key in ("image", "label", "box"):
        assert torch.equal(samples[7][key], again[7][key])
    assert not torch.equal(samples[7]["image"], other[7]["image"])


def test_the_heart_of_a_sample_lies_where_its_box_says(cases):
    samples = SliceSamples(cases, 160, 0, 200)
    shares = []
    for n in range(60):
        sample = samples[n]
        low, high = sample["box"].clamp(0, 160).long()
        heart = sample["label"] > 0
        if heart.any():
            shares.append(float(heart[low[0] : high[0] + 1, low[1] : high[1] + 1].sum() / heart.sum()))
        assert sample["image"].shape == (3, 160, 160) and torch.isfinite(sample["image"]).all()
    shares = sorted(shares)
    assert shares[len(shares) // 2] > 0.97  # most boxes hold the heart
    assert shares[0] < 0.9  # and some are drawn badly on purpose


@pytest.mark.parametrize("name", ["unetr", "swin_unetr"])
def test_the_loss_falls(cases, name):
    losses = []
    trainer(name).fit(cases, Budget(steps=8), lambda progress: losses.append(progress.loss) or True)
    assert len(losses) == 8
    assert losses[-1] < losses[0]


def test_a_killed_run_goes_on_where_it_was(cases, tmp_path):
    unbroken = trainer().fit(cases, Budget(steps=6))
    first = trainer()
    first.fit(cases, Budget(steps=6), lambda progress: progress.step < 3, tmp_path / "state.pt")
    assert first.step == 3
    second = trainer()
    resumed = second.fit(cases, Budget(steps=6), state_file=tmp_path / "state.pt")
    assert second.step == 6
    torch.testing.assert_close(weights(resumed), weights(unbroken), rtol=0, atol=0)


def test_dense_training_never_touches_the_relevance(cases):
    dense = trainer(plan=None)
    before = [p.clone() for p in dense.network.relevance.parameters()]
    dense.fit(cases, Budget(steps=2))
    assert all(torch.equal(a, b) for a, b in zip(before, dense.network.relevance.parameters()))


def test_relevance_is_held_to_where_the_heart_is():
    label = torch.zeros(1, 32, 32, dtype=torch.int64)
    label[:, :16, :16] = 2
    logits = torch.zeros(1, 4, 32, 32)
    loss = PratoLoss(supervision=1.0)
    right, wrong = torch.tensor([[9.0, -9.0, -9.0, -9.0]]), torch.tensor([[-9.0, 9.0, 9.0, 9.0]])
    values = [loss(PrunedOutput(logits, (StageRecord("s", (2, 2), r, r > 0),)), label) for r in (right, wrong)]
    assert values[0] < values[1] - 5
    assert values[0] == pytest.approx(float(loss(PrunedOutput(logits), label)), abs=1e-3)


@pytest.mark.parametrize("wrong", [{}, {"steps": 0}, {"minutes": -1.0}, {"steps": 3, "minutes": 1.0}])
def test_impossible_budgets_are_refused(wrong):
    with pytest.raises(ValueError, match="budget"):
        Budget(**wrong)


def test_presets_keep_half_of_the_tokens_or_less():
    for spec in PRESETS.values():
        plan = spec.pruning_plan()
        assert (1 - plan.percentile / 100) ** len(plan.after) < 0.5
