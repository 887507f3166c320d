"""What holds for every method: fewer tokens computed, one answer, a loss that falls, 2D and 3D, with and without the box."""

from functools import cache

import pytest
import torch
from monai.networks.nets import UNETR
from torch import nn

from prato.data.cases import load_training_case
from prato.data.studies.folder import find_labelled_studies
from prato.models import unetr
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.runtime.flops import count_flops
from prato.training.trainer import Budget, Settings, Trainer
from scripts.research.baselines.box_channel import with_box
from scripts.research.baselines.loss import BaselineLoss
from scripts.research.baselines.method import EncoderInput
from scripts.research.baselines.unetr import METHODS, BaselineUNETR
from tests.phantoms import make_thin_phantoms
from tests.prato.conftest import small_spec
from tests.scripts.research.baselines.small import SIZES, discs, host

BASELINES = sorted(set(METHODS) - {"dense"})


def sure_of_background(method: nn.Module) -> None:
    """Early heads that are nearly always sure, as trained ones are."""
    for head in method.heads.values():
        nn.init.zeros_(head[-1].weight)
        head[-1].bias.data = torch.tensor([9.0, 0.0, 0.0, 0.0])


@torch.no_grad()
def test_dense_is_monai_s_unetr():
    reference = UNETR(1, 4, img_size=64, spatial_dims=2, **SIZES).eval()
    network = host("dense")
    network.load_state_dict(reference.state_dict(), strict=True)
    image, _, prompts = discs()
    output = network.segment(image, prompts)
    torch.testing.assert_close(output.logits, reference(image), atol=1e-6, rtol=0)
    assert output.stages == () and output.losses == {}


@cache
def large_dense_host():
    """What every method is compared with, built once."""
    return host("dense", image=128)


@pytest.mark.parametrize("method", BASELINES)
@torch.no_grad()
def test_fewer_tokens_are_computed_in_evaluation(method):
    network, dense = host(method, image=128), large_dense_host()
    if method == "dtop":
        sure_of_background(network.method)
    image = torch.randn(1, 1, 128, 128)
    tokens, grid = network._embed(image)
    inputs = EncoderInput(image, grid, None)
    encoded, cost = count_flops(lambda: network.method.encode(network.vit, tokens, inputs))
    _, whole = count_flops(lambda: dense.method.encode(dense.vit, tokens, inputs))
    assert cost < 0.9 * whole
    assert encoded.stages[-1].alive.sum() < 64
    assert all(encoded.hidden[n].shape == tokens.shape for n in (4, 7, 10)) and encoded.last.shape == tokens.shape


@pytest.mark.parametrize("method", BASELINES)
@torch.no_grad()
def test_one_input_one_answer_alone_or_in_a_batch(method):
    network = host(method)
    if method == "dtop":  # samples that keep different numbers of tokens
        network.method.threshold = 0.3
    image, _, prompts = discs(3)
    together, again = network.segment(image, prompts), network.segment(image, prompts)
    assert torch.equal(together.logits, again.logits)
    alone = network.segment(image[1:2], PromptBatch.of(BoxPrompt, [[prompts.groups[0].coordinates[1].tolist()]], (64, 64)))
    torch.testing.assert_close(together.logits[1:2], alone.logits, atol=1e-5, rtol=0)
    for both, one in zip(together.stages, alone.stages):
        assert torch.equal(both.alive[1], one.alive[0])
    assert together.token_map().shape == (3, 64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_few_steps_lower_the_loss_and_reach_every_part(method):
    network = host(method, {"threshold": 0.6} if method == "dtop" else None, box_channel=True).train()
    image, label, prompts = discs()
    optimiser, loss = torch.optim.AdamW(network.parameters(), lr=1e-2, fused=True), BaselineLoss()
    values = []
    for step in range(8):
        torch.manual_seed(step)
        value = loss(network.segment(image, prompts), label)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert sum(values[-3:]) < 0.9 * sum(values[:3])
    unused = {name for name, p in network.method.named_parameters() if p.grad is None and "cross_attn" not in name}
    assert unused == set()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_three_dimensions(method):
    network = host(method, image=32, dims=3)
    assert network.segment(torch.randn(1, 1, 32, 32, 32), None).logits.shape == (1, 4, 32, 32, 32)


@torch.no_grad()
def test_the_box_is_a_channel_or_never_seen():
    image, _, prompts = discs()
    blind, told = host("tram"), host("tram", box_channel=True)
    assert torch.equal(blind.segment(image, prompts).logits, blind.segment(image, None).logits)
    assert not torch.allclose(told.segment(image, prompts).logits, told.segment(image, None).logits)
    two = PromptBatch.of(BoxPrompt, [[((1.0, 2.5), (3.0, 5.6))], [((0, 0), (1, 1)), ((6, 6), (8, 8))], []], (8, 8))
    mask = with_box(torch.zeros(3, 2, 8, 8), two)
    assert mask.shape == (3, 3, 8, 8)
    assert mask[0, 2].nonzero().tolist() == [[i, j] for i in (1, 2) for j in (2, 3, 4, 5)]
    assert mask[:, 2].sum((1, 2)).tolist()[1:] == [5.0, 0.0]


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="method must be one of algm, cts, dense, dtop, dynamic_vit"):
        host("prato")
    for method, wrong in [
        ("dynamic_vit", {"keep": 1.0}),
        ("evo_vit", {"keep": 0.0}),
        ("dtop", {"threshold": 0.0}),
        ("dtop", {"context": 0}),
        ("stp", {"tau": 0.0}),
        ("stp", {"pruned": 1.0}),
        ("tome", {"merged": -0.1}),
    ]:
        with pytest.raises(ValueError, match="above 0"):
            host(method, wrong)
    with pytest.raises(ValueError, match="give no pruning plan"):
        host("tram").segment(torch.zeros(1, 1, 64, 64), None, unetr.DEFAULT_PLAN)


@pytest.mark.slow
def test_a_baseline_is_trained_with_its_own_losses(tmp_path):
    make_thin_phantoms(tmp_path, 1)
    cases = [load_training_case(file, 1.5) for file in find_labelled_studies(tmp_path)]
    torch.manual_seed(0)
    arguments = {**small_spec("unetr").arguments, "method": "dynamic_vit", "box_channel": True}
    network = BaselineUNETR(**arguments)
    scorers = [parameter.detach().clone() for parameter in network.method.parameters()]
    training = Trainer(network, None, Settings(batch=2, seed=3), torch.device("cpu"), loss=BaselineLoss())
    averaged = training.fit(cases, Budget(steps=2))
    assert all(not torch.equal(before, now) for before, now in zip(scorers, network.method.parameters()))
    assert isinstance(averaged, BaselineUNETR)
