"""Training: it learns, one seed gives one result, and a killed run goes on as if nothing had happened."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from prato.data.cases import load_training_case
from prato.data.studies.folder import find_labelled_studies
from prato.models.checkpoint import model_preset
from prato.models.registry import list_presets
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.plan import PruningPlan
from prato.pruning.record import PrunedOutput, StageRecord
from prato.training.augmentation import SliceDataset, elastic_displacement
from prato.training.losses import PratoLoss
from prato.training.trainer import Budget, Settings, Trainer
from tests.phantoms import make_thin_phantoms
from tests.prato.conftest import small_spec

SETTINGS = Settings(batch=2, seed=3, window=64)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    make_thin_phantoms(folder, 1, slices=8)
    return [load_training_case(f, 1.5) for f in find_labelled_studies(folder)]


def trainer(name="unetr", plan="its own", settings=SETTINGS, run=None):
    torch.manual_seed(0)
    spec = small_spec(name)
    plan = spec.pruning_plan() if plan == "its own" else plan
    return Trainer(spec.build(), plan, settings, torch.device("cpu"), run)


def assert_same_state(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.slow
def test_samples_depend_on_seed_and_number_alone(cases):
    samples, again, other = (SliceDataset(cases, 128, seed, 100) for seed in (0, 0, 1))
    again[5]  # something drawn in between
    for key in ("image", "label", "box"):
        assert torch.equal(samples[7][key], again[7][key])
    assert not torch.equal(samples[7]["image"], other[7]["image"])


@pytest.mark.slow
def test_all_windows_are_of_the_network_s_size(cases):
    samples = SliceDataset(cases, 96, 0, 8)
    assert {(*samples[n]["image"].shape, *samples[n]["label"].shape) for n in range(8)} == {(3, 96, 96, 96, 96)}


@pytest.mark.slow
def test_the_heart_of_a_sample_lies_where_its_box_says(cases):
    samples = SliceDataset(cases, 128, 0, 200)
    shares = []
    for n in range(60):
        sample = samples[n]
        low, high = sample["box"].clamp(0, 128).long()
        heart = sample["label"] > 0
        if heart.any():
            shares.append(float(heart[low[0] : high[0] + 1, low[1] : high[1] + 1].sum() / heart.sum()))
        assert sample["image"].shape == (3, 128, 128) and torch.isfinite(sample["image"]).all()
    shares = sorted(shares)
    assert shares[len(shares) // 2] > 0.97  # most boxes hold the heart
    assert shares[0] < 0.9  # and some are drawn badly on purpose


def test_half_of_the_windows_are_bent_smoothly():
    rng = np.random.default_rng(0)
    moved = [elastic_displacement(rng, 96) for _ in range(60)]
    assert {each.shape for each in moved} == {(96, 96, 2)}
    bent = [each for each in moved if each.any()]
    assert 15 < len(bent) < 45
    for each in bent:
        assert np.abs(each).max() < 12.5  # pixels; five standard deviations
        assert max(np.abs(np.diff(each, axis=axis)).max() for axis in (0, 1)) < 0.6  # nothing is folded


@pytest.mark.slow
def test_what_is_drawn_on_a_bent_window_is_bent_and_its_box_is_not(cases):
    whole, straight = SliceDataset(cases, 128, 0, 40), SliceDataset(cases, 128, 0, 40, elastic=False)
    changed = [n for n in range(40) if not torch.equal(whole[n]["label"], straight[n]["label"])]
    assert 10 < len(changed) < 35
    for n in range(40):
        assert torch.equal(whole[n]["box"], straight[n]["box"])


def loss_on(trained, batch):
    prompts = PromptBatch.of(BoxPrompt, [[tuple(map(tuple, box.tolist()))] for box in batch["box"]], batch["image"].shape[2:])
    with torch.no_grad():
        return float(PratoLoss()(trained.network.train().segment(batch["image"], prompts, trained.plan), batch["label"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unetr", "swin_unetr"])
def test_the_loss_falls(cases, name):
    batch = default_collate([SliceDataset(cases, 128, 9, 4)[n] for n in range(4)])
    learner = trainer(name, settings=Settings(batch=2, rate=3e-3, seed=3))
    before = loss_on(learner, batch)
    learner.fit(cases, Budget(steps=8))
    assert loss_on(learner, batch) < 0.95 * before


@pytest.mark.slow
def test_averaging_leaves_whole_numbers_whole(cases):
    learner = trainer("swin_unetr")
    found = dict(learner.fit(cases, Budget(steps=4)).named_buffers())
    whole = {name: value for name, value in trainer("swin_unetr").network.named_buffers() if not value.is_floating_point()}
    tables = [name for name in whole if "num_batches_tracked" not in name]
    assert tables and all(torch.equal(found[name], whole[name]) for name in tables)
    assert all(int(found[name]) == 4 for name in whole if name not in tables)


class Killed(Exception):
    """What ends a run in the middle."""


def kill_at(step):
    def report(progress):
        if progress.step == step:
            raise Killed
        return True

    return report


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(cases, tmp_path):
    unbroken = trainer()
    unbroken.fit(cases, Budget(steps=6))
    with pytest.raises(Killed):
        trainer().fit(cases, Budget(steps=6), kill_at(4), tmp_path / "state.pt", save_every_s=0.0)
    resumed = trainer()
    resumed.resume(tmp_path / "state.pt")
    assert resumed.step == 3  # the fourth was not stored
    (tmp_path / ".state.pt.x7.tmp").write_bytes(b"half of a state, as a kill leaves it")
    (tmp_path / ".curve.csv.x7.tmp").write_bytes(b"somebody else's")
    resumed.fit(cases, Budget(steps=6), state_file=tmp_path / "state.pt")
    assert resumed.step == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == [".curve.csv.x7.tmp", "state.pt"]
    assert_same_state(resumed.network.state_dict(), unbroken.network.state_dict())
    assert_same_state(resumed.averaged.state_dict(), unbroken.averaged.state_dict())


@pytest.mark.slow
def test_a_stream_of_samples_is_drawn_from_as_the_cases_are(cases):
    from_cases, from_stream = trainer(), trainer()
    from_cases.fit(cases, Budget(steps=2))
    from_stream.fit(SliceDataset(cases, SETTINGS.window, SETTINGS.seed, 2**40), Budget(steps=2))
    assert_same_state(from_stream.network.state_dict(), from_cases.network.state_dict())


def test_without_levels_every_step_takes_the_plan_as_it_is():
    learner = trainer(settings=replace(SETTINGS, levels=False))
    for learner.step in range(40):
        assert learner._plan_of_step(0.0) is learner.plan


@pytest.mark.slow
def test_dense_first_lets_no_token_leave_before_its_share_is_spent(cases):
    learner = trainer(settings=replace(SETTINGS, levels=False, dense_first=0.5))
    pruned = []
    learner.network.segment = lambda image, prompts, plan, segment=learner.network.segment: (
        pruned.append(plan is not None) or segment(image, prompts, plan)
    )
    learner.fit(cases, Budget(steps=4))
    assert pruned == [False, False, True, True]


@pytest.mark.slow
def test_a_killed_training_that_begins_dense_goes_on_to_the_same_weights(cases, tmp_path):
    settings = replace(SETTINGS, dense_first=0.5)
    unbroken, killed, resumed = (trainer(settings=settings) for _ in range(3))
    unbroken.fit(cases, Budget(steps=4))
    killed.fit(cases, Budget(steps=4), lambda progress: progress.step < 1, tmp_path / "state.pt")
    resumed.resume(tmp_path / "state.pt")
    assert resumed.step == 1
    resumed.fit(cases, Budget(steps=4))
    assert_same_state(resumed.network.state_dict(), unbroken.network.state_dict())


def test_no_state_is_the_beginning(tmp_path):
    fresh = trainer()
    fresh.resume(tmp_path / "state.pt")
    assert fresh.step == 0 and not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"name": "swin_unetr"}, "another network, plan"),
        ({"plan": None}, "another plan"),
        ({"plan": PruningPlan(prune_after=(4, 7, 10), percentile=30.0)}, "another plan"),
        ({"settings": replace(SETTINGS, seed=4)}, "another seed"),
        ({"settings": replace(SETTINGS, batch=4)}, "another batch"),
        ({"settings": replace(SETTINGS, window=96)}, "another window"),
        ({"settings": replace(SETTINGS, dense_first=0.5)}, "another dense_first"),
        ({"run": {"split": ["a"]}}, "another split"),
    ],
)
def test_the_state_of_another_run_is_refused(stored_state, other, word):
    stranger = trainer(**other)
    before = {name: value.clone() for name, value in stranger.network.state_dict().items()}
    with pytest.raises(ValueError, match=word):
        stranger.resume(stored_state)
    assert stranger.step == 0
    assert_same_state(stranger.network.state_dict(), before)


@pytest.fixture(scope="module")
def stored_state(cases, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "state.pt"
    trainer().fit(cases, Budget(steps=1), state_file=path)
    return path


def test_workers_do_not_make_another_run(stored_state):
    same = trainer(settings=replace(SETTINGS, workers=2))
    same.resume(stored_state)
    assert same.step == 1


@pytest.mark.slow
def test_a_state_that_names_no_run_is_refused(stored_state, tmp_path):
    state = torch.load(stored_state, weights_only=True)
    del state["run"]
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="which run"):
        trainer().resume(tmp_path / "state.pt")


@pytest.mark.parametrize("content", [b"", b"no state", b"....", b"h\x00.", None])  # torch's reader ends in various errors
def test_a_damaged_state_is_refused(stored_state, tmp_path, content):
    (tmp_path / "state.pt").write_bytes(stored_state.read_bytes()[:1000] if content is None else content)
    with pytest.raises(ValueError, match="can be read"):
        trainer().resume(tmp_path / "state.pt")


@pytest.mark.slow
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


@pytest.mark.parametrize("grid", [(4, 4), (2, 2)])  # the second stage's tokens as the first's, or merged from them
def test_relevance_of_tokens_that_left_before_is_not_held_to_anything(grid):
    label = torch.zeros(1, 32, 32, dtype=torch.int64)
    label[:, :16, :16] = 2
    alive = torch.zeros(1, 4, 4, dtype=torch.bool)
    alive[:, 1, 1] = alive[:, 0, 3] = True
    lives = alive if grid == (4, 4) else torch.tensor([[[True, True], [False, False]]])
    first = StageRecord("a", (4, 4), torch.zeros(1, 16), alive.flatten(1))

    def value(*places):
        score = torch.zeros(1, *grid)
        for place in places:
            score[0][place] = 5.0
        second = StageRecord("b", grid, score.flatten(1), lives.flatten(1))
        return float(PratoLoss(supervision=1.0)(PrunedOutput(torch.zeros(1, 4, 32, 32), (first, second)), label))

    dead, living = (~lives[0]).nonzero().tolist(), lives[0].nonzero().tolist()
    assert value(*map(tuple, dead)) == value()
    assert value(tuple(living[0])) != value()


@pytest.mark.parametrize(
    "wrong",
    [{}, {"steps": 0}, {"minutes": -1.0}, {"minutes": float("nan")}, {"minutes": float("inf")}, {"steps": 3, "minutes": 1.0}],
)
def test_impossible_budgets_are_refused(wrong):
    with pytest.raises(ValueError, match="budget"):
        Budget(**wrong)


def test_presets_keep_half_of_the_tokens_or_less():
    for name in list_presets():
        plan = model_preset(name).pruning_plan()
        assert (1 - plan.percentile / 100) ** len(plan.prune_after) < 0.5
