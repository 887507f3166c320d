"""What depends on no prompt is done once: with it kept, a call gives the very same bits."""

from dataclasses import replace

import pytest
import torch

from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.plan import PruningPlan
from prato.runtime.flops import count_flops
from tests.prato.conftest import small_spec


@pytest.fixture(params=["unetr", "swin_unetr"])
def network(request):
    torch.manual_seed(0)
    spec = small_spec(request.param)
    return spec.build().eval(), spec


def prompts(size: int, *corners: float) -> PromptBatch:
    return PromptBatch.of(BoxPrompt, [[((corner, corner), (corner + size / 3, corner + size / 2))] for corner in corners], (size, size))


@pytest.mark.slow
@pytest.mark.parametrize("margin", [None, 8.0])
@pytest.mark.parametrize("decode", ["all", "kept"])
def test_an_embedding_made_before_gives_the_same_bits(network, margin, decode):
    net, spec = network
    plan = replace(spec.pruning_plan(), percentile=50.0, margin=margin, decode=decode)
    image = torch.randn(3, 3, spec.window, spec.window, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        embedding = net.encode_image(image, plan)
        before = [values.clone() for values in embedding.features.values()]
        for corners in ((4.0, 9.0, 20.0), (12.0, 2.0, 6.0)):
            boxes = prompts(spec.window, *corners)
            whole, finished = net.segment(image, boxes, plan), net.predict(image, embedding, boxes, plan)
            assert torch.equal(whole.logits, finished.logits)
            assert all(torch.equal(a.relevance, b.relevance) for a, b in zip(whole.stages, finished.stages))
    assert embedding.depth == (0 if margin else plan.unprompted_depth if net.__class__.__name__ == "PratoUNETR" else 1)
    after = list(embedding.features.values())
    assert all(torch.equal(a, b) for a, b in zip(before, after))  # it serves again


@pytest.mark.slow
def test_an_embedding_is_not_paid_for_again(network):
    net, spec = network
    plan: PruningPlan = spec.pruning_plan()
    image, boxes = torch.randn(2, 3, spec.window, spec.window), prompts(spec.window, 4.0, 9.0)
    with torch.inference_mode():
        embedding, first = count_flops(lambda: net.encode_image(image, plan))
        _, rest = count_flops(lambda: net.predict(image, embedding, boxes, plan))
        _, whole = count_flops(lambda: net.segment(image, boxes, plan))
    assert first > 0 and rest == pytest.approx(whole - first)
