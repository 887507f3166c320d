"""Ways to choose tokens in one frame: as many stay whatever the score, what is taught reaches it, and what leaves can be merged."""

from __future__ import annotations

import pytest
import torch

from scripts.research.baselines.relevance import leave_one_out_errors
from tests.scripts.research.baselines.small import discs, host

SCORES = ("entropy", "equal", "learned", "random", "nearest")


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("protect", [False, True])
@torch.no_grad()
def test_as_many_tokens_stay_whatever_the_score(score, protect):
    image, _, boxes = discs()
    network = host("relevance", {"score": score, "protect": protect})
    stages = network.segment(image, boxes).stages
    assert [stage.alive.sum(1).tolist() for stage in stages] == [[12, 12], [9, 9], [7, 7]]
    under = boxes.protected((4, 4))
    if protect:  # none that is not under the box stays while one that is leaves
        assert all((stages[0].alive & under).sum(1).tolist() == under.sum(1).clamp_max(12).tolist() for _ in (0,))
    if score == "nearest":
        assert bool((stages[-1].alive <= under).all()) or under.sum(1).amin() < 7


@pytest.mark.parametrize("taught", ["segmentation", "foreground", "leave_one_out"])
@pytest.mark.parametrize("gone", ["dropped", "merged"])
def test_what_is_taught_reaches_the_score(taught, gone):
    image, label, boxes = discs()
    network = host("relevance", {"taught": taught, "gone": gone}).train()
    output = network.segment(image, boxes)
    names = {"segmentation": 0, "foreground": 3, "leave_one_out": 1}
    assert len(output.losses) == names[taught]
    loss = sum((term(output.logits, label) for term in output.losses.values()), output.logits.square().mean())
    loss.backward()
    grad = network.method.relevance["4"].project_token.weight.grad
    assert torch.isfinite(grad).all() and grad.abs().sum() > 0


@torch.no_grad()
def test_what_left_moves_with_the_summary_of_it():
    image, _, boxes = discs(1)
    dropped, merged = (host("relevance", {"gone": gone}) for gone in ("dropped", "merged"))
    found = {}
    for name, network in (("dropped", dropped), ("merged", merged)):
        network.decode, seen = (lambda *given: torch.zeros(1, 4, 64, 64)), []
        encode = network.method.encode
        network.method.encode = lambda *given, encode=encode, seen=seen: seen.append(encode(*given)) or seen[0]
        network.segment(image, boxes)
        found[name] = seen[0]
    gone = ~found["dropped"].stages[0].alive[0]
    before = found["dropped"].hidden
    assert torch.equal(before[7][0, gone], before[4][0, gone])  # as they were
    moved = found["merged"].hidden[7][0, gone] - found["merged"].hidden[4][0, gone]
    assert moved.abs().sum() > 0
    torch.testing.assert_close(moved, moved[:1].expand_as(moved))  # all alike


@torch.no_grad()
def test_leaving_a_token_out_is_what_running_without_it_is():
    image, label, boxes = discs(1)
    network = host("relevance")
    tokens, _ = network._embed(image)
    before = {}
    for number, block in enumerate(network.vit.blocks[:4], start=1):
        tokens = block(tokens)
        before[number] = tokens
    errors = leave_one_out_errors(network.vit, 4, tokens, {4: before[4]}, image, label, network._logits)
    dense = host("dense")
    dense.load_state_dict(network.state_dict(), strict=False)
    whole = torch.nn.functional.cross_entropy(dense.segment(image, boxes).logits, label)
    assert errors.shape == (17,) and errors[-1] == pytest.approx(float(whole), abs=1e-5)
    assert (errors[:-1] - errors[-1]).abs().amax() > 0
