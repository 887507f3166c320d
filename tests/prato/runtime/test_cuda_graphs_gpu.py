"""On a GPU: captured calls give, bit for bit, what the same call gave before it was captured."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from prato.models import swin_unetr, unetr
from prato.models.checkpoint import channels_last
from prato.models.swin_unetr import PratoSwinUNETR
from prato.models.unetr import PratoUNETR
from prato.prompts.box import BoxPrompt
from prato.runtime.cuda_graphs import CudaGraphRunner, GraphCache
from prato.runtime.flops import count_flops
from tests.prato.models.test_networks import SMALL_SWIN, SMALL_UNETR

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: CUDA graphs are captured on one")
NETWORKS = {
    "unetr": (PratoUNETR, {**SMALL_UNETR, "img_size": 96, "spatial_dims": 2, "stages": (1, 4, 7, 10)}, unetr.DEFAULT_PLAN),
    "swin": (PratoSwinUNETR, {**SMALL_SWIN, "window_size": 7, "spatial_dims": 2}, swin_unetr.DEFAULT_PLAN),
}


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS.keys())
def case(request):
    build, arguments, plan = request.param
    torch.manual_seed(0)
    network = build(in_channels=1, out_channels=4, **arguments).eval()
    return channels_last(network.cuda()), plan


def boxes(count, low, high):
    return BoxPrompt.batch([[((low, low), (high, high))]] * count, (96, 96))


@torch.inference_mode()
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "changed",
    [{"decode": "kept"}, {"prune_after": (1,), "percentile": 75.0, "decode": "kept", "protect_prompted": True, "margin": 8.0}],
    ids=["plan", "engine"],
)
def test_replayed_calls_are_the_first_call_bit_for_bit(case, count, changed):
    network, plan = case
    plan = replace(plan, **changed)
    image = torch.randn(count, 1, 96, 96, device="cuda").contiguous(memory_format=torch.channels_last)
    here, there = boxes(count, 20.3, 56.0), boxes(count, 31.0, 66.0)
    captured = CudaGraphRunner(network)
    first, cost = count_flops(lambda: captured.segment(image, here, plan))
    other = captured.segment(image, there, plan)
    for asked, expected in [(here, first), (there, other), (here, first), (there, other), (here, first)]:
        again, same_cost = count_flops(partial(captured.segment, image, asked, plan))
        assert torch.equal(again.logits, expected.logits)
        assert all(torch.equal(a.alive, b.alive) for a, b in zip(again.stages, expected.stages, strict=True))
        if asked is here:
            assert same_cost == pytest.approx(cost, rel=1e-9)
    assert len(captured._graphs) > 0
    full = CudaGraphRunner(network, torch.float32).segment(image, here, plan)
    torch.testing.assert_close(full.logits, network.segment(image, here, plan).logits, atol=2e-2, rtol=0)  # tf32 in the convolutions


@torch.inference_mode()
def test_an_embedding_stays_as_it_was(case):
    network, plan = case
    captured = CudaGraphRunner(network)
    images = [torch.randn(2, 1, 96, 96, device="cuda").contiguous(memory_format=torch.channels_last) for _ in range(3)]
    embeddings = [captured.encode_image(image, plan) for image in images]
    before = [part.tokens.clone() for part in embeddings]
    answers = [captured.predict(image, part, boxes(2, 20.0, 60.0), plan).logits for image, part in zip(images, embeddings)]
    for image, part, tokens, answer in zip(images, embeddings, before, answers):
        assert torch.equal(part.tokens, tokens)
        assert torch.equal(captured.segment(image, boxes(2, 20.0, 60.0), plan).logits, answer)


@torch.inference_mode()
def test_no_more_graphs_than_allowed():
    graphs = GraphCache(2)
    for size in (3, 4, 5, 3):
        for _ in range(3):
            values = torch.arange(float(size), device="cuda")
            output, flop = graphs("twice", lambda x: x * 2, (values,))
            assert torch.equal(output, values * 2) and flop == 0
    assert len(graphs) == 2
