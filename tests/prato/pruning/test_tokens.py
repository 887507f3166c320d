"""The relaxed softmax: exact for living tokens, and a gradient that no removed key can blow up."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from prato.pruning.straight_through import masked_softmax
from prato.pruning.tokens import PaddedTokens


def test_living_rows_are_the_softmax_over_living_keys():
    torch.manual_seed(0)
    scores, keep = torch.randn(2, 3, 6, 6) * 4, (torch.rand(2, 6) > 0.4).float()
    keep[:, 0] = 1.0
    weight = masked_softmax(scores, keep)
    for b in range(2):
        living = keep[b].bool()
        expected = scores[b][:, living][:, :, living].softmax(-1)
        torch.testing.assert_close(weight[b][:, living][:, :, living], expected)
        assert weight[b][:, living][:, :, ~living].eq(0).all()
    torch.testing.assert_close(weight.sum(-1), torch.ones(2, 3, 6))


def test_a_removed_key_that_scores_far_above_the_living_has_a_bounded_gradient():
    scores = torch.zeros(1, 1, 4, 4)
    scores[..., 3] = 30.0
    keep = torch.tensor([[1.0, 1.0, 1.0, 0.0]], requires_grad=True)
    values = torch.tensor([1.0, 2.0, 3.0, 10.0])
    (masked_softmax(scores, keep) @ values)[0, 0, 0].backward()
    # (1 + 2 + 3) / 3 = 2: a key as strong as the strongest living one would add (10 - 2) / 3
    torch.testing.assert_close(keep.grad[0, 3], torch.tensor(8.0 / 3.0))
    assert torch.isfinite(keep.grad).all()


@given(st.lists(st.lists(st.booleans(), min_size=9, max_size=9).filter(any), min_size=1, max_size=3), st.integers(0, 3))
def test_padded_tokens_are_the_living_in_the_order_of_the_grid_and_the_dead_stay_as_they_are(lives, idle):
    alive = torch.tensor(lives)
    count = min(int(alive.sum(1).max()) + idle, 9)
    tokens, canvas = PaddedTokens(alive, count, bool((alive.sum(1) == count).all())), torch.arange(18.0 * len(lives)).view(-1, 9, 2)
    gathered = tokens.gather(canvas)
    for sample, (row, living) in enumerate(zip(gathered, alive)):
        torch.testing.assert_close(row[: int(living.sum())], canvas[sample][living])
    torch.testing.assert_close(tokens.scatter(canvas, gathered + 100), canvas + 100 * alive.unsqueeze(2))
