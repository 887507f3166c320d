"""On a GPU: captured calls give, bit for bit, what the same call gave before it was captured."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from prato.inference.cuda_graphs import CudaGraphRunner, GraphCache
from prato.models import swin_unetr, unetr
from prato.models.checkpoint import channels_last
from prato.models.swin_unetr import PratoSwinUNETR
from prato.models.unetr import PratoUNETR
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
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
    return PromptBatch.of(BoxPrompt, [[((low, low), (high, high))]] * count, (96, 96))


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
@pytest.mark.parametrize("count", [1, 2, 3])
def test_without_pruning_replays_are_the_first_call_bit_for_bit(case, count):
    network, plan = case
    captured = CudaGraphRunner(network)
    images = [torch.randn(count, 1, 96, 96, device="cuda").contiguous(memory_format=torch.channels_last) for _ in range(2)]
    firsts = [count_flops(partial(captured.segment, image)) for image in images]
    assert len(captured._graphs) == 1  # two calls of one shape
    for _ in range(2):
        for image, (first, cost) in zip(images, firsts):
            again, same_cost = count_flops(partial(captured.segment, image, PromptBatch.empty(count, (96, 96)), plan))
            assert torch.equal(again.logits, first.logits) and not again.stages
            assert same_cost == pytest.approx(cost, rel=1e-9)
    for image, (first, _) in zip(images, firsts):
        expected = network.segment(image).logits
        torch.testing.assert_close(first.logits.float(), expected, atol=0.05 * float(expected.abs().max()), rtol=0)


@torch.inference_mode()
def test_what_cannot_be_captured_is_answered_by_the_network(case):
    """Two prompts on a slice, none on another, random scores, masking, a threshold, and a listener: before and after graphs were made."""
    network, plan = case
    captured = CudaGraphRunner(network, torch.float32)
    image, here = torch.randn(3, 1, 96, 96, device="cuda").contiguous(memory_format=torch.channels_last), boxes(3, 20.0, 60.0)
    box = ((20.0, 20.0), (60.0, 60.0))
    several = PromptBatch.of(BoxPrompt, [[box, ((5.0, 5.0), (30.0, 30.0))], [box], [box]], (96, 96))
    others = [
        (several, plan),
        (PromptBatch.of(BoxPrompt, [[box], [], [box]], (96, 96)), plan),
        (here, replace(plan, score_by="random")),
        (here, replace(plan, mode="mask")),
        (here, replace(plan, percentile=None, threshold=0.4)),
    ]
    for _ in range(3):
        captured.segment(image, here, plan)
        graphs = len(captured._graphs)
        for prompts, asked in others:
            expected = network.segment(image, prompts, asked)
            found = captured.predict(image, network.encode_image(image, asked), prompts, asked)
            assert torch.equal(found.logits, expected.logits)
            assert all(torch.equal(a.alive, b.alive) for a, b in zip(found.stages, expected.stages, strict=True))
        assert len(captured._graphs) == graphs
    heard = []
    with network.relevance[str(max(plan.prune_after))].register_forward_hook(lambda *call: heard.append(call)):
        captured.segment(image, here, plan)
    assert len(heard) == 1


@torch.inference_mode()
def test_kinds_of_prompts_share_no_graph(case):
    """Boxes, and a kind with as many positions whose queries are others: what one captured, the other must not replay."""

    class Corners(BoxPrompt):
        @staticmethod
        def queries(features, coordinates, sample, k):
            cells = coordinates.long().clamp_max(features.shape[2] - 1)
            return torch.stack([features[sample, :, cells[:, n, 0], cells[:, n, 1]] for n in range(2)], dim=1)

    network, plan = case
    image = torch.randn(2, 1, 96, 96, device="cuda").contiguous(memory_format=torch.channels_last)
    drawn = [[((20.0, 20.0), (60.0, 60.0))]] * 2
    captured = CudaGraphRunner(network, torch.float32)
    for _ in range(4):
        for kind in (BoxPrompt, Corners):
            prompts = PromptBatch.of(kind, drawn, (96, 96))
            found, expected = captured.segment(image, prompts, plan), network.segment(image, prompts, plan)
            for a, b in zip(found.stages, expected.stages, strict=True):
                assert (a.alive == b.alive).float().mean() > 0.98  # tf32 in the convolutions


@torch.inference_mode()
def test_a_forgotten_graph_is_captured_anew(case):
    """Fewer graphs than shapes in use: each is forgotten and made again while the answers of others are still held."""
    network, plan = case
    captured = CudaGraphRunner(network)
    captured._graphs = GraphCache(2)
    images = [torch.randn(n, 1, 96, 96, device="cuda").contiguous(memory_format=torch.channels_last) for n in (1, 2, 4)]
    firsts = [captured.segment(image, boxes(len(image), 20.0, 60.0), plan) for image in images]
    for _ in range(4):
        answers = [captured.segment(image, boxes(len(image), 20.0, 60.0), plan) for image in images]
        for answer, first in zip(answers, firsts):
            assert torch.equal(answer.logits, first.logits)
        assert len(captured._graphs) == 2


@torch.inference_mode()
def test_no_more_graphs_than_allowed():
    graphs = GraphCache(2)
    for size in (3, 4, 5, 3):
        for _ in range(3):
            values = torch.arange(float(size), device="cuda")
            output, flop = graphs("twice", lambda x: x * 2, (values,))
            assert torch.equal(output, values * 2) and flop == 0
    assert len(graphs) == 2
