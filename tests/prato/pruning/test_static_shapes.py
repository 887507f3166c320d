"""Calls in static shapes: the numbers of dropping, without asking a GPU for anything."""

from dataclasses import replace

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from prato.inference.cuda_graphs import CudaGraphRunner, GraphCache
from prato.models import swin_unetr, unetr
from prato.models.swin_unetr import PratoSwinUNETR
from prato.models.unetr import PratoUNETR
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.prompted_pruning import PromptedPruning
from prato.pruning.static_shapes import has_static_shapes
from prato.runtime.flops import count_flops, record_flops
from prato.runtime.region import Region
from prato.runtime.tensor_cache import cached_tensors, pin
from tests.prato.models.test_networks import SLOW, SMALL_SWIN, SMALL_UNETR, along

STAGES = {"stages": (1, 2, 3, 4, 7, 10)}
NETWORKS = {
    "unetr 2d": (PratoUNETR, {**SMALL_UNETR, **STAGES, "img_size": 96, "spatial_dims": 2}, unetr.DEFAULT_PLAN, (96, 96)),
    "unetr 3d": (PratoUNETR, {**SMALL_UNETR, **STAGES, "img_size": (64, 32, 48), "spatial_dims": 3}, unetr.DEFAULT_PLAN, (64, 32, 48)),
    "swin 2d": (PratoSwinUNETR, {**SMALL_SWIN, "window_size": 7, "spatial_dims": 2}, swin_unetr.DEFAULT_PLAN, (96, 96)),
    "swin 3d": (PratoSwinUNETR, {**SMALL_SWIN, "window_size": 3, "spatial_dims": 3}, swin_unetr.DEFAULT_PLAN, (64, 32, 32)),
}
CHANGED = {
    "plan": {},
    "decode kept": {"decode": "kept", "percentile": 50.0},
    "engine": {"prune_after": (1,), "percentile": 75.0, "decode": "kept", "protect_prompted": True, "margin": 8.0},
    "far": {"decode": "kept", "percentile": 60.0, "margin": 4.0},
}


#: In three dimensions, and where calls are traced, two plans that between them have all that the others have.
BOTH = [
    pytest.param(name, changed, id=f"{name}-{label}", marks=SLOW.get(name, ()))
    for name in NETWORKS
    for label, changed in CHANGED.items()
    if "2d" in name or label in ("plan", "engine")
]
#: A trace takes seconds: in three dimensions each network has one, and each plan.
TRACED = [
    case
    for case in BOTH
    if case.id in ("unetr 2d-plan", "unetr 2d-engine", "unetr 3d-plan", "swin 2d-plan", "swin 2d-engine", "swin 3d-engine")
]


@pytest.fixture(params=[pytest.param(name, marks=SLOW.get(name, ())) for name in NETWORKS], scope="module")
def case(request):
    build, arguments, plan, size = NETWORKS[request.param]
    torch.manual_seed(0)
    network = build(in_channels=1, out_channels=4, **{**arguments, **({"stages": (1, 2, 3)} if build is PratoSwinUNETR else {})})
    for buffer in network.buffers():  # a norm that does something
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return network.eval(), torch.randn(3, 1, *size), plan


def boxes_of(size, *places):
    return PromptBatch.of(BoxPrompt, [[(along(size, low), along(size, high))] for low, high in places], size)


@torch.inference_mode()
@pytest.mark.parametrize(("case", "changed"), BOTH, indirect=["case"])
def test_the_numbers_of_dropping(case, changed):
    network, image, plan = case
    plan, size = replace(plan, **changed), tuple(image.shape[2:])
    captured = CudaGraphRunner(network, torch.float32)
    for places in [((20.3, 46.1),) * 3, ((8.0, 24.0), (30.5, 61.0), (0.0, 40.2))]:
        prompts = boxes_of(size, *places)
        assert has_static_shapes(plan, prompts)
        expected, found = network.segment(image, prompts, plan), captured.segment(image, prompts, plan)
        for a, b in zip(expected.stages, found.stages, strict=True):
            assert (a.name, a.grid) == (b.name, b.grid) and torch.equal(a.alive, b.alive)
            alive = a.alive
            torch.testing.assert_close(b.relevance[alive], a.relevance[alive], atol=1e-5, rtol=0)
        torch.testing.assert_close(found.logits, expected.logits, atol=2e-5, rtol=0)


@pytest.mark.parametrize("samples", [0, 1, 2])
def test_every_call_with_a_box_each_has_static_shapes(samples):
    assert has_static_shapes(unetr.DEFAULT_PLAN, boxes_of((96, 96), *((9.0, 33.0),) * samples)) == (samples > 0)


@pytest.mark.slow
@torch.inference_mode()
def test_other_prompts_and_listeners_are_answered_by_the_network(case):
    network, image, plan = case
    size, captured = tuple(image.shape[2:]), CudaGraphRunner(network, torch.float32)
    missing = PromptBatch.of(BoxPrompt, [[(along(size, 4.0), along(size, 40.0))], [], []], size)
    random = replace(plan, score_by="random")
    for prompts, asked in [(missing, plan), (boxes_of(size, *((9.0, 33.0),) * 3), random), (None, None)]:
        assert prompts is None or not has_static_shapes(asked, prompts)
        expected = network.segment(image, prompts, asked).logits
        assert torch.equal(captured.segment(image, prompts, asked).logits, expected)
    heard = []
    with network.relevance[str(max(plan.prune_after))].register_forward_hook(lambda *call: heard.append(call)):
        captured.segment(image, boxes_of(size, *((9.0, 33.0),) * 3), plan)
    assert len(heard) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("case", "changed"), TRACED, indirect=["case"])
def test_nothing_has_to_be_asked_of_the_device(case, changed, monkeypatch):
    """Traced without values: what looked at one would raise, and what carries numbers to the device would stand in the trace."""
    network, image, plan = case
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)  # as on a GPU
    plan, size = replace(plan, **changed), tuple(image.shape[2:])
    prompts = boxes_of(size, *((20.3, 46.1),) * 3)
    shapes = network.static_shapes(plan, prompts, size)
    with torch.no_grad():
        CudaGraphRunner(network, torch.float32).segment(image, prompts, plan)  # what is remembered from call to call
        embedding = network.encode_image(image, plan)

        def whole(boxes, image):
            embedding = network.encode_image(image, plan)
            pruning = PromptedPruning(network.relevance, plan, PromptBatch.one_each(BoxPrompt, boxes, size), size, shapes=shapes)
            encoded = network.encode(image, embedding, pruning)
            part = Region.whole(size) if plan.decode == "all" else Region(*(tuple(map(int, along(size, at))) for at in (16, 48)), size)
            return network.decode(image, encoded, part)

        traced = make_fx(whole, tracing_mode="fake", _allow_non_fake_inputs=True)(prompts.groups[0].coordinates, image)
    called = {str(node.target) for node in traced.graph.nodes if node.op == "call_function"}
    assert "aten.argsort.stable" in called or "aten.sort.stable" in called
    assert not [name for name in called if any(word in name for word in ("lift_fresh", "nonzero", "_local_scalar", "masked_select"))]
    with torch.no_grad():
        torch.testing.assert_close(traced(prompts.groups[0].coordinates, image), whole(prompts.groups[0].coordinates, image))
    assert embedding.depth == plan.unprompted_depth


def test_operations_that_no_counter_saw_are_told_to_all_that_count():
    values = torch.zeros(2)
    (inner, once), twice = count_flops(lambda: count_flops(lambda: record_flops(values, 3 * 10**9)))
    assert inner is values and once == twice == 3.0 and record_flops(values, 7) is values

    def unheard():
        with torch._C.DisableTorchFunction():
            return values @ values

    assert count_flops(unheard)[1] == 0.0


def test_what_is_forgotten_stays_while_it_is_held():
    made = []

    @cached_tensors(1)
    def numbers(n):
        made.append(torch.full((n,), float(n)))
        return made[-1]

    with pin() as kept:
        numbers(2), numbers(3), numbers(3)
    numbers(4)
    assert [len(x) for x in kept] == [2, 3, 3] and len(made) == 3


def test_a_cpu_makes_calls_as_they_are():
    graphs, calls = GraphCache(2), []
    for n in range(3):
        assert graphs("key", lambda x: calls.append(len(x)), (torch.zeros(n + 1),)) == (None, 0)
    assert calls == [1, 2, 3] and len(graphs) == 0
