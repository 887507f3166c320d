"""Selection (eq. 5), its straight-through tail, and what a plan refuses."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prato.pruning.plan import PruningPlan
from prato.pruning.record import PrunedOutput, StageRecord
from prato.pruning.straight_through import straight_through_mask

ALL = torch.ones(1, 10, dtype=torch.bool)
PROMPTED = torch.tensor([True])


@given(st.integers(1, 60), st.floats(0, 99), st.integers(0, 2**31 - 1))
def test_a_percentile_keeps_its_share_of_the_living(living, percentile, seed):
    torch.manual_seed(seed)
    alive = torch.zeros(1, 60, dtype=torch.bool)
    alive[0, torch.randperm(60)[:living]] = True
    keep = PruningPlan(prune_after=(1,), percentile=percentile).select(torch.randn(1, 60), alive, PROMPTED)
    assert not (keep & ~alive).any()
    assert int(keep.sum()) == max(1, math.ceil(living * (100 - percentile) / 100 - 1e-6))


@given(st.integers(1, 60), st.integers(0, 60), st.floats(0, 99), st.integers(0, 2**31 - 1))
def test_protected_tokens_stay_and_are_a_part_of_the_share(living, protected, percentile, seed):
    torch.manual_seed(seed)
    alive, held = torch.zeros(2, 1, 60, dtype=torch.bool)
    alive[0, torch.randperm(60)[:living]], held[0, torch.randperm(60)[:protected]] = True, True
    plan, score = PruningPlan(prune_after=(1,), percentile=percentile), torch.randn(1, 60)
    keep = plan.select(score, alive, PROMPTED, held)
    assert not (keep & ~alive).any() and keep[alive & held].all()
    assert int(keep.sum()) == max(int(plan.quota(alive.sum())), int((alive & held).sum()))
    others, gone = score[keep & ~held], score[alive & ~keep]
    assert not len(others) or not len(gone) or others.min() > gone.max()


@pytest.mark.parametrize(("living", "percentile", "stay"), [(14133, 20.3, 11265), (1000, 25.0, 750), (27000, 50.0, 13500)])
def test_the_share_of_a_large_grid_is_not_rounded(living, percentile, stay):
    assert PruningPlan(prune_after=(1,), percentile=percentile).quota(torch.tensor([living])).item() == stay


def test_the_highest_scores_stay():
    score = torch.tensor([[0.1, 0.9, -2.0, 0.5, 0.4, 3.0, -1.0, 0.0, 0.2, 0.3]])
    keep = PruningPlan(prune_after=(1,), percentile=70).select(score, ALL, PROMPTED)
    assert keep[0].nonzero().flatten().tolist() == [1, 3, 5]


def test_equal_scores_keep_the_first_on_the_grid():
    keep = PruningPlan(prune_after=(1,), percentile=60).select(torch.zeros(1, 10), ALL, PROMPTED)
    assert keep[0].nonzero().flatten().tolist() == [0, 1, 2, 3]


def test_a_fixed_threshold_is_eq_5_and_never_keeps_nothing():
    plan = PruningPlan(prune_after=(1,), percentile=None, threshold=0.5)
    score = torch.tensor([[-1.0, 1.0, 0.2, -0.2, 5.0, -5.0, 0.0, 0.1, -3.0, 2.0]])
    assert torch.equal(plan.select(score, ALL, PROMPTED), torch.sigmoid(score) > 0.5)
    nothing = plan.select(torch.full((1, 10), -9.0), ALL, PROMPTED)
    assert nothing[0].nonzero().flatten().tolist() == [0]


def test_without_a_prompt_the_living_stay():
    alive = ALL.clone()
    alive[0, 3] = False
    assert torch.equal(PruningPlan(prune_after=(1,)).select(torch.randn(1, 10), alive, torch.tensor([False])), alive)


@pytest.mark.parametrize(
    "plan", [PruningPlan(prune_after=(1,), percentile=50), PruningPlan(prune_after=(1,), percentile=None, threshold=0.4)]
)
def test_the_straight_through_mask_is_hard_forward_and_soft_backward(plan):
    torch.manual_seed(1)
    score = torch.randn(1, 10, requires_grad=True)
    keep = plan.select(score.detach(), ALL, PROMPTED)
    mask = straight_through_mask(score, keep, ALL, plan.threshold, plan.temperature)
    torch.testing.assert_close(mask, keep.float())
    mask.sum().backward()
    assert (score.grad > 0).any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"percentile": 100.0},
        {"percentile": -1.0},
        {"percentile": None},
        {"percentile": 25.0, "threshold": 0.5},
        {"percentile": None, "threshold": 1.0},
        {"k": 0},
        {"prune_after": ()},
        {"prune_after": (0,)},
        {"mode": "zero"},
        {"weights": "uneven"},
        {"temperature": 0.0},
    ],
)
def test_impossible_plans_are_refused(wrong):
    with pytest.raises(ValueError):
        PruningPlan(**{"prune_after": (1, 2), **wrong})


def test_a_request_changes_the_plan_or_switches_it_off():
    plan = PruningPlan(prune_after=(4, 7, 10), percentile=None, threshold=0.3)
    assert plan.with_override(None) is plan
    assert plan.with_override("off") is None
    assert plan.with_override("50") == PruningPlan(prune_after=(4, 7, 10), percentile=50.0)
    with pytest.raises(ValueError, match="off, 25, 50, 75"):
        plan.with_override("60")


def test_the_token_map_counts_the_stages_survived():
    first = StageRecord("block 1", (2, 2), torch.zeros(1, 4), torch.tensor([[True, True, True, False]]))
    second = StageRecord("block 2", (2, 2), torch.zeros(1, 4), torch.tensor([[True, False, True, False]]))
    output = PrunedOutput(torch.zeros(1, 4, 4, 4), (first, second))
    assert output.token_map()[0, ::2, ::2].tolist() == [[1.0, 0.5], [1.0, 0.0]]
    assert {name: share.tolist() for name, share in output.kept_fraction().items()} == {"block 1": [0.75], "block 2": [0.5]}
    assert PrunedOutput(torch.zeros(2, 4, 4, 4)).token_map().eq(1).all()


def test_a_plan_is_stored_under_the_names_that_model_files_have():
    plan = PruningPlan(prune_after=(1, 4), percentile=None, threshold=0.3, score_by="random", margin=8.0, protect_prompted=True)
    stored = json.loads(json.dumps(plan.to_dict()))
    assert (stored["after"], stored["choose"], stored["boxed"]) == ([1, 4], "random", True)
    assert PruningPlan.from_dict(stored) == plan
    assert PruningPlan.from_dict({"after": [2]}) == PruningPlan(prune_after=(2,))
    with pytest.raises(KeyError):
        PruningPlan.from_dict({"percentile": 25.0})
    with pytest.raises(TypeError):
        PruningPlan.from_dict({"after": [2], "percent": 25.0})
