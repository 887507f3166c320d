"""Training with simulated labellers, a step or two on a drawn heart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prato.models.checkpoint import model_preset
from prato.training.click_bank import ClickBank
from prato.training.click_sessions import ClickSampler
from prato.training.click_trainer import ClickRecipe, ClickTrainer
from prato.training.simulated_labeller import CAREFUL, CARELESS, LEARNING, SCRIBBLING, point_at, wrong_parts
from tests.phantoms import click_bank


@pytest.fixture(scope="module")
def bank() -> ClickBank:
    return click_bank()


def test_a_bank_is_what_was_saved(bank, tmp_path):
    bank.save(tmp_path / "bank.npz")
    again = ClickBank.load(tmp_path / "bank.npz")
    assert all(np.array_equal(getattr(again, name), getattr(bank, name)) for name in ("images", "labels", "scores", "first", "count"))


def test_a_bank_whose_saving_was_cut_off_is_not_there(bank, tmp_path, monkeypatch):
    """Else the same command, run again, would take it for a whole one."""

    def savez(path, **arrays):
        path.write_bytes(b"PK half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", savez)
    with pytest.raises(KeyboardInterrupt):
        bank.save(tmp_path / "bank.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_bank_that_was_cut_short_is_refused_in_a_sentence(bank, tmp_path, share):
    path = tmp_path / "bank.npz"
    bank.save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="is no bank of slices that can be read: delete it, and it is made again"):
        ClickBank.load(path)


def test_a_state_that_was_cut_short_or_is_of_another_training_is_refused_in_a_sentence(bank, tmp_path):
    path, network = tmp_path / "state.pt", model_preset("click_refiner").build()
    ClickTrainer(network, bank, ClickRecipe(0, batch=2, edge=32)).fit(path)
    with pytest.raises(ValueError, match="belongs to a run with another edge"):
        ClickTrainer(network, bank, ClickRecipe(0, batch=2, edge=48)).fit(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is not a training state that can be read"):
        ClickTrainer(network, bank, ClickRecipe(0, batch=2, edge=32)).fit(path)


def test_a_training_goes_on_where_it_stopped(bank, tmp_path, monkeypatch):
    def trainer(steps: int) -> ClickTrainer:
        torch.manual_seed(0)
        network = model_preset("click_refiner").model_copy(update={"arguments": {"widths": (4, 8, 8)}}).build()
        return ClickTrainer(network, bank, ClickRecipe(steps, batch=2, edge=32))

    seen = []
    batch = ClickSampler.batch
    monkeypatch.setattr(ClickSampler, "batch", lambda sampler: seen.append(batch(sampler)) or seen[-1])
    first = trainer(1)
    first.fit(tmp_path / "state.pt")
    assert first.step == 1 and np.isfinite(first.loss)
    second = trainer(2)
    second.fit(tmp_path / "state.pt")
    assert second.step == 2 and second.spent > first.spent
    assert not np.array_equal(seen[0][0].inputs, seen[1][0].inputs)  # it does not see again what the first has learned from
    assert any(not torch.equal(value, first.averaged[name]) for name, value in second.averaged.items())


def test_an_answer_changes_nothing_that_is_certain_and_honours_the_click(bank):
    sampler, kinds = ClickSampler(bank, 1, 4, 48), set()
    for sample in (sample for _ in range(10) for sample in sampler.batch()):
        before, certain = sample.session.mask.copy(), sample.session.certain
        sample.answer(np.full((48, 48), 1, np.uint8))
        after, kept = sample.session.mask, np.ones(before.shape, bool)
        if sample.newest is not None:
            kept[tuple(slice(low, low + 48) for low in sample.corner)] = False
            at = tuple((sample.newest[((sample.newest >= 0) & (sample.newest < 48)).all(1)] + sample.corner).T)
            assert ((after[at] == sample.structure) | certain[at]).all()
        assert np.array_equal(after[kept | certain], before[kept | certain])
        kinds.add((sample.newest is None, bool(certain.any()), np.array_equal(after, before)))
    assert {(True, False, True), (False, True, False), (False, False, False)} <= kinds


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.sampled_from([CAREFUL, CARELESS, LEARNING, SCRIBBLING]))
def test_a_labeller_points_where_something_is_wrong(seed, manner):
    random = np.random.default_rng(seed)
    truth, mask = (np.kron(random.integers(0, 4, (5, 5)), np.ones((6, 6), int)).astype(np.uint8) for _ in range(2))
    numbers, sizes = wrong_parts(mask, truth)
    assert ((numbers > 0) == (mask != truth)).all() and sizes.sum() == (mask != truth).sum()
    for part in range(1, len(sizes)):
        assert len(np.unique(truth[numbers == part])) == 1
    if sizes.any():
        structure, places = point_at(numbers, sizes, truth, manner, random)
        assert ((places >= 0) & (places < truth.shape)).all() and 0 <= structure < 4
        if manner is CAREFUL:
            assert numbers[tuple(places[0])] == sizes.argmax() and truth[tuple(places[0])] == structure
