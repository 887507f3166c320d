"""Equations 2 to 4 beside a slow transcription of them."""

import math

import pytest
import torch

from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.relevance import Relevance, query_weights, relevance, relevance_by_stage


def slow_relevance(v1, v2, alive):
    """One sample, loops only: eqs. 2, 3, ranks, and eq. 4 in its uncollapsed form."""
    m, z, d = len(v1), len(v2), v1.shape[1]
    s = [[float(v1[i] @ v2[j]) / math.sqrt(d) for j in range(z)] for i in range(m)]
    entropy = []
    for i in range(m):
        total = sum(math.exp(s[i][j]) for j in range(z) if alive[j])
        rho = [math.exp(s[i][j]) / total for j in range(z) if alive[j]]
        entropy.append(-sum(p * math.log(p) for p in rho if p > 0))
    order = sorted(range(m), key=lambda i: entropy[i])
    omega = [1.0] * m
    for rank, i in enumerate(order):
        omega[i] = 1.0 - (rank / (m - 1) if m > 1 else 0.0)
    return [sum(omega[i] * s[i][j] for i in range(m)) / m for j in range(z)], omega


@pytest.mark.parametrize(("m", "z"), [(25, 30), (9, 16), (1, 12), (2, 5)])
def test_the_collapsed_form_equals_the_equations(m, z):
    torch.manual_seed(m * z)
    v1, v2 = torch.randn(1, m, 8, dtype=torch.float64), torch.randn(1, z, 8, dtype=torch.float64)
    alive = torch.rand(1, z) > 0.3
    alive[0, 0] = True
    valid = torch.ones(1, m, dtype=torch.bool)
    expected, omega = slow_relevance(v1[0], v2[0], alive[0])
    torch.testing.assert_close(relevance(v1, v2, valid, alive)[0], torch.tensor(expected, dtype=torch.float64))
    weights = query_weights(v1 @ v2.transpose(1, 2) / math.sqrt(8), valid, alive)
    torch.testing.assert_close(weights[0], torch.tensor(omega, dtype=torch.float64))


def test_equal_weights_are_the_plain_mean_over_queries():
    torch.manual_seed(3)
    v1, v2 = torch.randn(2, 9, 8), torch.randn(2, 12, 8)
    valid = torch.arange(9) < torch.tensor([[9], [4]])
    v1 = v1 * valid.unsqueeze(-1)
    everyone = torch.ones(2, 12, dtype=torch.bool)
    plain = (v1 @ v2.transpose(1, 2)).sum(1) / valid.sum(1, keepdim=True) / math.sqrt(8)
    torch.testing.assert_close(relevance(v1, v2, valid, everyone, "equal"), plain)
    assert not torch.allclose(relevance(v1, v2, valid, everyone), plain)


def test_a_single_query_counts_fully_and_padding_counts_nothing():
    similarity = torch.randn(2, 3, 7)
    valid = torch.tensor([[True, False, False], [True, True, True]])
    weights = query_weights(similarity, valid, torch.ones(2, 7, dtype=torch.bool))
    assert weights[0].tolist() == [1.0, 0.0, 0.0]
    assert sorted(weights[1].tolist()) == [0.0, 0.5, 1.0]


def test_certain_queries_have_entropy_zero_not_nan():
    similarity = torch.tensor([[[1000.0, -1000.0, -1000.0], [0.0, 0.0, 0.0]]])
    weights = query_weights(similarity, torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool))
    assert weights[0].tolist() == [1.0, 0.0]


def test_padding_for_samples_with_fewer_boxes_changes_nothing():
    torch.manual_seed(0)
    module = Relevance(16, 2)
    tokens, alive = torch.randn(2, 36, 16), torch.ones(2, 36, dtype=torch.bool)
    one, two = ((4, 4), (20, 20)), ((30, 30), (44, 40))
    both = module(tokens, (6, 6), PromptBatch.of(BoxPrompt, [[one], [one, two]], (48, 48)), 3, alive)
    alone = module(tokens[:1], (6, 6), PromptBatch.of(BoxPrompt, [[one]], (48, 48)), 3, alive[:1])
    torch.testing.assert_close(both[:1], alone)
    assert not torch.allclose(both[1], module(tokens, (6, 6), PromptBatch.of(BoxPrompt, [[one], [one]], (48, 48)), 3, alive)[1])


def test_untrained_relevance_points_at_the_box():
    """Tokens like those in the box must outrank the others before any training: the reason for layer norm and for f1 = f2 at the start."""
    torch.manual_seed(0)
    hits = []
    for _ in range(20):
        inside = torch.zeros(8, 8, dtype=torch.bool)
        inside[2:5, 3:6] = True
        pattern, other = torch.randn(2, 32)
        tokens = torch.where(inside.flatten()[:, None], pattern, other) + 0.5 * torch.randn(64, 32)
        module = Relevance(32, 2)
        prompts = PromptBatch.of(BoxPrompt, [[((32, 48), (80, 96))]], (128, 128))
        score = module(tokens[None], (8, 8), prompts, 5, torch.ones(1, 64, dtype=torch.bool))[0]
        hits.append(float((score[inside.flatten()][:, None] > score[~inside.flatten()][None]).float().mean()))
    assert sum(hits) / len(hits) > 0.95


def test_each_stage_has_the_width_of_its_tokens():
    found = relevance_by_stage((1, 3), [8, 16, 32], 2)
    assert {number: module.project_token.in_features for number, module in found.items()} == {"1": 8, "3": 32}


@pytest.mark.parametrize("stage", [0, -1, 4, 99])
def test_a_stage_that_the_encoder_lacks(stage):
    with pytest.raises(ValueError, match=f"after block or stage {stage}: the encoder has 1 to 3"):
        relevance_by_stage((1, stage), [8, 8, 8], 2)
