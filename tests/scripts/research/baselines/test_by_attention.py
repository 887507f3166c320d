"""Evo-ViT, TRAM, ToMe, DToP, random: their rules on cases small enough to work out by hand."""

import pytest
import torch
from monai.networks.blocks import TransformerBlock

from scripts.research.baselines.dtop import leaving
from scripts.research.baselines.evo_vit import class_attention, slow_fast
from scripts.research.baselines.merged_tokens import merge
from scripts.research.baselines.method import EarlyLogits
from scripts.research.baselines.tome import match
from scripts.research.baselines.tram import centrality
from tests.scripts.research.baselines.small import discs, host


def test_evo_vit_ranks_by_what_the_class_token_attends_to():
    weight = torch.zeros(1, 2, 4, 4)
    weight[0, :, 0] = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]])
    torch.testing.assert_close(class_attention(weight), torch.tensor([[0.5, 0.5, 0.5]]))


@torch.no_grad()
def test_evo_vit_moves_all_placeholders_as_their_representative():
    torch.manual_seed(0)
    block = TransformerBlock(8, 16, 2).eval()
    summary, patches = torch.randn(1, 1, 8), torch.randn(1, 4, 8)
    attention, chosen = torch.tensor([[0.4, 0.3, 0.2, 0.1]]), torch.tensor([[0, 2]])
    _, after, seen = slow_fast(block, summary, patches, attention, chosen)
    representative = 0.75 * patches[:, 1:2] + 0.25 * patches[:, 3:4]
    x = block(torch.cat((summary, patches[:, [0, 2]], representative), dim=1))
    torch.testing.assert_close(after[:, [0, 2]], x[:, 1:3])
    torch.testing.assert_close(after[:, [1, 3]], patches[:, [1, 3]] + x[:, 3:] - representative)
    assert seen[0, 1] == attention[0, 1] and seen[0, 3] == attention[0, 3]  # they keep their score
    assert seen[0, 0] != attention[0, 0]


def test_evo_vit_keeps_half_and_learns_which_structures_are_there():
    network = host("evo_vit").train()
    image, label, _ = discs()
    output = network.segment(image)
    assert [s.name for s in output.stages] == [f"block {n}" for n in range(5, 13)]
    assert all(share.eq(0.5).all() for share in output.kept_fraction().values())
    presence = output.losses["presence"](output.logits, label)
    presence.backward()
    assert network.method.class_token.grad.abs().sum() > 0
    network.method.present[1].bias.data.fill_(20.0)
    sure = network.segment(image)
    assert sure.losses["presence"](sure.logits, label) < presence  # all three are there
    assert sure.losses["presence"](sure.logits, torch.zeros_like(label)) > 1.0


def test_tram_counts_attention_by_the_attention_of_its_givers():
    first, second = torch.tensor([[0.5, 0.5, 0.0], [0.9, 0.0, 0.1], [0.2, 0.0, 0.8]]), torch.zeros(3, 3)
    second[0, 2] = 0.7
    strongest = torch.maximum(first, second)
    received = torch.tensor([1.6, 0.5, 1.6])
    expected = torch.stack([sum(strongest[i, j] * received[i] for i in range(3)) for j in range(3)])
    torch.testing.assert_close(centrality(torch.stack((first, second)).unsqueeze(0))[0], expected)


@torch.no_grad()
def test_tram_and_random_keep_their_share():
    image = discs()[0]
    assert [s.alive.sum().item() for s in host("tram").segment(image[:1]).stages] == [12, 9, 7]  # 16, ceil(0.7 n)
    assert [s.alive.sum().item() for s in host("random").segment(image[:1]).stages] == [12, 9, 7]  # 16, ceil(0.75 n)


@torch.no_grad()
def test_random_hangs_on_sample_and_seed_and_in_training_on_the_generator():
    image = discs()[0]
    one, other = host("random"), host("random", {"seed": 1})
    kept = one.segment(image).stages[0].alive
    assert torch.equal(kept, one.segment(image).stages[0].alive)
    assert not torch.equal(kept[0], kept[1])
    assert not torch.equal(kept, other.segment(image).stages[0].alive)
    one.method.training = True
    draws = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        draws.append(one.segment(image).stages[0].alive)
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_tome_matches_the_closest_across_the_two_sets():
    keys = torch.tensor([[[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.5, -1.0], [-1.0, 0.0], [0.2, 0.9]]])
    to, stay = match(keys, 1)
    assert stay.tolist() == [[1, 2, 3, 4, 5]]
    to, stay = match(keys, 2)
    assert stay.tolist() == [[1, 3, 4, 5]]  # 0 goes into 1, 2 into 5
    assert to.tolist() == [[0, 0, 3, 1, 2, 3]]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_tome_conserves_the_sum_over_patches(count):
    torch.manual_seed(0)
    tokens, size = torch.randn(2, 9, 5), torch.randint(1, 5, (2, 9)).float()
    to, stay = match(torch.randn(2, 9, 3), count)
    merged, total = merge(tokens, size, to, stay.shape[1])
    assert merged.shape == (2, 9 - count, 5)
    torch.testing.assert_close((merged * total.unsqueeze(-1)).sum(1), (tokens * size.unsqueeze(-1)).sum(1))
    torch.testing.assert_close(total.sum(1), size.sum(1))


@torch.no_grad()
def test_tome_restores_every_patch_from_the_token_that_holds_it():
    network, image = host("tome"), discs()[0]
    output = network.segment(image)
    last = output.stages[-1]
    assert last.alive.sum(1).tolist() == [4, 4]  # 16 - 12 * round(0.05 * 16)
    for b in range(2):  # a token of n patches is named after one of them, and all n say n
        assert last.relevance[b][last.alive[b]].sum() == 16
        for n in last.relevance[b].unique():
            assert (last.relevance[b] == n).sum() == n * (last.relevance[b][last.alive[b]] == n).sum()


def test_dtop_lets_go_of_sure_tokens_but_for_the_surest_of_each_class():
    highest = torch.tensor([0.99, 0.95, 0.97, 0.5, 0.92, 0.96, 0.99])
    predicted = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    probability = torch.full((1, 7, 3), 0.0)
    probability[0, torch.arange(7), predicted] = highest
    alive = torch.ones(1, 7, dtype=torch.bool)
    assert leaving(probability, alive, 0.9, 1)[0].nonzero().flatten().tolist() == [1, 2, 4]
    assert leaving(probability, alive, 0.9, 2)[0].nonzero().flatten().tolist() == [1]
    alive[0, 0] = False  # one that left before is no context
    assert leaving(probability, alive, 0.9, 1)[0].nonzero().flatten().tolist() == [1, 4]
    assert not leaving(probability, alive, 1.0, 1).any()


def test_dtop_s_early_logits_stand_for_the_pixels_of_tokens_that_left():
    said = torch.arange(4.0).view(1, 4, 1).repeat(1, 1, 2)
    early = EarlyLogits(said, torch.tensor([[True, False, False, True]]), (2, 2))
    logits = early.over(torch.full((1, 2, 8, 8), -7.0))
    assert logits[0, :, :4, 4:].eq(-7).all() and logits[0, :, 4:, :4].eq(-7).all()
    assert logits[0, :, 0, 0].eq(0).all() and logits[0, :, -1, -1].eq(3).all()
    assert (logits[0, :, :4, :4] >= 0).all()


def test_dtop_s_heads_learn_before_anything_leaves():
    network = host("dtop", {"threshold": 1.0}).train()
    image, label, _ = discs()
    output = network.segment(image)
    assert all(s.alive.all() for s in output.stages)
    assert set(output.losses) == {"head after block 6", "head after block 8"}
    sum(term(output.logits, label) for term in output.losses.values()).backward()
    assert all(p.grad.abs().sum() > 0 for p in network.method.heads.parameters())
