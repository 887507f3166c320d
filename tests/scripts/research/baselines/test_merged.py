"""ALGM, CTS, StructSAM: what defines each, on cases small enough to work out by hand."""

from __future__ import annotations

import pytest
import torch

from scripts.research.baselines.algm import pairs_above, similar_cells
from scripts.research.baselines.cells import join_cells, token_cells
from scripts.research.baselines.cts import holds_one_class
from scripts.research.baselines.struct_sam import flat_cells, merge_flat, token_energy
from tests.scripts.research.baselines.small import discs, host


def test_cells_lie_on_the_grid_and_leave_an_odd_rim_out():
    assert token_cells((2, 4), torch.device("cpu")).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert token_cells((3, 3), torch.device("cpu")).tolist() == [[0, 1, 3, 4]]
    assert token_cells((2, 2, 2), torch.device("cpu")).tolist() == [list(range(8))]
    to, stay = join_cells(torch.tensor([[[0, 1, 4, 5]]]), 8)
    assert to.tolist() == [[0, 0, 1, 2, 0, 0, 3, 4]] and stay.tolist() == [[0, 2, 3, 6, 7]]


def test_algm_merges_cells_that_are_alike_and_pairs_above_the_mean():
    tokens = torch.eye(8).repeat(2, 1, 1)
    tokens[:, [0, 1, 4, 5]] = torch.tensor([3.0, 1, 0, 0, 0, 0, 0, 0])
    assert similar_cells(tokens, (2, 4), 0.9)[1].tolist() == [[0, 2, 3, 6, 7]] * 2
    tokens[1, 5] *= -1  # one that is the opposite of its neighbours: of a batch, the fewest merge
    assert similar_cells(tokens, (2, 4), 0.9)[1].shape == (2, 8)
    assert pairs_above(torch.tensor([[0.0, 0.1, 0.9, 0.2], [0.0, 0.9, 0.9, 0.9]]), 5) == 1


@torch.no_grad()
def test_algm_merges_what_the_image_lets_it():
    noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    same = torch.zeros(1, 1, 64, 64)
    network = host("algm")
    network.vit.patch_embedding.position_embeddings.zero_()
    kept = {name: [s.alive.sum().item() for s in network.segment(image).stages] for name, image in (("noise", noise), ("same", same))}
    assert kept["same"][0] == 4 and kept["noise"][0] > 4  # 16 tokens in 4 cells
    assert kept["noise"][1] < kept["noise"][0]


@torch.no_grad()
def test_algm_compares_tokens_and_not_their_keys():
    network, image = host("algm"), torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    kept = network.segment(image).stages[1].alive.sum()
    attention = network.vit.blocks[4].attn
    attention.out_proj.weight.zero_()  # so that keys are of no consequence for the tokens
    attention.qkv.weight[24:48] = 0.0
    assert abs(network.segment(image).stages[1].alive.sum() - kept) <= 1  # where all keys are alike, every pair of them is


def test_cts_shares_what_its_policy_says_and_learns_it_from_the_labels():
    label = torch.zeros(1, 8, 8, dtype=torch.int64)
    label[0, 5, 5] = 2
    assert holds_one_class(label, (4, 4)).tolist() == [[1, 1, 1, 0]]
    assert holds_one_class(label, (5, 5)).shape == (1, 4)
    network = host("cts", {"shared": 0.5}).train()
    image, label, _ = discs()
    output = network.segment(image)
    assert output.stages[0].alive.sum(1).tolist() == [10, 10]  # 2 of 4 cells lose 3 tokens
    output.losses["policy"](output.logits, label).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.method.policy[-1].parameters())


def test_struct_sam_keeps_edges_and_what_is_prompted():
    tokens = torch.zeros(1, 16, 4)
    tokens[..., 0], tokens[..., 1] = 1.0, -1.0
    tokens[0, 15] = torch.tensor([-1.0, 1.0, 0.0, 0.0])
    energy = token_energy(tokens, (4, 4))
    assert energy[0, :10].eq(0).all() and energy[0, 11] > 0 and energy[0, 14] > 0
    cells = token_cells((4, 4), torch.device("cpu"))
    assert flat_cells(energy, cells, None, 3).tolist() == [[0, 1, 2]]
    prompted = torch.zeros(1, 16, dtype=torch.bool)
    prompted[0, 0] = True
    assert flat_cells(energy, cells, prompted, 2).tolist() == [[1, 2]]
    assert flat_cells(energy, cells, prompted, 4).tolist() == [[0, 1, 2, 3]]  # where nothing else is left


def test_struct_sam_merges_into_the_calmest_that_is_most_similar():
    cells = torch.tensor([[[0, 1], [2, 3]]])
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.1, 0.9], [0.9, 0.1]]])
    to, stay = merge_flat(tokens, torch.tensor([[0.1, 0.2, 0.1, 0.2]]), cells)
    assert stay.tolist() == [[0, 2]] and to.tolist() == [[0, 1, 1, 0]]


@torch.no_grad()
def test_struct_sam_gives_every_token_back_with_what_its_holder_gained():
    network, (image, _, boxes) = host("struct_sam"), discs()
    output = network.segment(image, boxes)
    assert [s.name for s in output.stages] == [f"block {n}" for n in range(2, 13)]
    assert all(s.alive.sum(1).tolist() == [10, 10] for s in output.stages)
    seen = []
    network.vit.blocks[1].register_forward_hook(lambda _, given, result: seen.append((given[0], result)))
    before = []
    network.vit.blocks[0].register_forward_hook(lambda _, given, result: before.append(result))
    after = []
    network.vit.blocks[2].register_forward_pre_hook(lambda _, given: after.append(given[0]))
    network.segment(image, boxes)
    (merged, ran), (whole,) = seen[0], before
    assert merged.shape[1] == ran.shape[1] == 10 and whole.shape[1] == 16


@pytest.mark.parametrize(
    ("method", "settings"), [("algm", {"threshold": 1.5}), ("algm", {"near": 5}), ("cts", {"shared": 0.0}), ("struct_sam", {"flat": 1})]
)
def test_settings_out_of_range_are_refused(method, settings):
    with pytest.raises(ValueError, match=r"must be"):
        host(method, settings)
