"""Both networks, 2D and 3D: MONAI's numbers with pruning off, and the same mask relaxed (training) and dropped (evaluation)."""

from dataclasses import replace

import pytest
import torch
from monai.networks.nets import UNETR, SwinUNETR
from torch import nn

from prato.models import segformer, swin_unetr, transunet, unetr
from prato.models.convert_state_dict import convert_state_dict
from prato.models.segformer import PratoSegFormer, SegFormer
from prato.models.swin_unetr import PratoSwinUNETR
from prato.models.transunet import PratoTransUNet, TransUNet
from prato.models.unetr import PratoUNETR
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.prompted_pruning import PromptedPruning
from prato.runtime.flops import count_flops

SMALL_UNETR = {"feature_size": 4, "hidden_size": 24, "mlp_dim": 48, "num_heads": 2, "norm_name": "batch"}
SMALL_SWIN = {"feature_size": 12, "num_heads": (1, 2, 2, 4), "norm_name": "batch"}
SMALL_SEGFORMER = {"widths": (8, 16, 32, 48), "depths": (2, 1, 2, 1), "heads": (1, 2, 2, 4), "head_width": 24}
SMALL_TRANSUNET = {"hidden_size": 24, "mlp_dim": 48, "num_heads": 2, "width": 8, "units": (1, 1, 1), "decoder": (16, 8, 8, 4)}
CASES = {
    "segformer": (PratoSegFormer, SegFormer, SMALL_SEGFORMER, segformer.DEFAULT_PLAN, (96, 96)),
    "transunet": (PratoTransUNet, TransUNet, {**SMALL_TRANSUNET, "img_size": 96}, transunet.DEFAULT_PLAN, (96, 96)),
    "unetr 2d": (PratoUNETR, UNETR, {**SMALL_UNETR, "img_size": 96, "spatial_dims": 2}, unetr.DEFAULT_PLAN, (96, 96)),
    "unetr 3d": (PratoUNETR, UNETR, {**SMALL_UNETR, "img_size": (64, 32, 48), "spatial_dims": 3}, unetr.DEFAULT_PLAN, (64, 32, 48)),
    "swin 2d": (PratoSwinUNETR, SwinUNETR, {**SMALL_SWIN, "window_size": 3, "spatial_dims": 2}, swin_unetr.DEFAULT_PLAN, (96, 96)),
    "swin 2d padded": (PratoSwinUNETR, SwinUNETR, {**SMALL_SWIN, "window_size": 7, "spatial_dims": 2}, swin_unetr.DEFAULT_PLAN, (96, 96)),
    "swin 3d": (PratoSwinUNETR, SwinUNETR, {**SMALL_SWIN, "window_size": 3, "spatial_dims": 3}, swin_unetr.DEFAULT_PLAN, (64, 32, 32)),
}


def along(size, at):
    """``at`` pixels along every axis of an image of this size; less along one that is shorter than the longest, in proportion."""
    return tuple(at * s / max(size) for s in size)


#: Whose calls take seconds.
SLOW = {"swin 3d": pytest.mark.slow}


@pytest.fixture(params=[pytest.param(case, id=name, marks=SLOW.get(name, ())) for name, case in CASES.items()], scope="module")
def case(request):
    prato, monai, arguments, plan, size = request.param
    torch.manual_seed(0)
    reference = monai(in_channels=1, out_channels=4, **arguments).eval()
    network = prato(in_channels=1, out_channels=4, **arguments).eval()
    network.load_state_dict(reference.state_dict(), strict=True)
    image = torch.randn(3, 1, *size)
    low, high = along(size, 12), along(size, 52)
    prompts = PromptBatch.of(BoxPrompt, [[(low, high)], [], [((0,) * len(size), low), (low, high)]], size)
    return reference, network, image, prompts, plan


def first_alone(prompts: PromptBatch) -> PromptBatch:
    return PromptBatch.of(BoxPrompt, [[prompts.groups[0].coordinates[0]]], prompts.size)


@torch.no_grad()
def test_pruning_off_gives_monai_s_numbers(case):
    reference, network, image, prompts, plan = case
    expected = reference(image)
    for output in (network(image), network(image, prompts, None), network(image, PromptBatch.empty(3, tuple(image.shape[2:])), plan)):
        torch.testing.assert_close(output, expected, atol=1e-6, rtol=0)
    # a plan that drops nothing runs the project's own path
    torch.testing.assert_close(network(image, prompts, replace(plan, percentile=0.0)), expected, atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("percentile", [25.0, 60.0])
def test_masking_in_training_equals_dropping_in_evaluation(case, percentile):
    _, network, image, prompts, plan = case
    plan = replace(plan, percentile=percentile)
    dropped = network.segment(image, prompts, plan)
    network.training = True  # the relaxed path, with every normalisation still in evaluation mode
    relaxed = network.segment(image, prompts, plan)
    network.training = False
    for a, b in zip(dropped.stages, relaxed.stages):
        assert torch.equal(a.alive, b.alive)
    torch.testing.assert_close(relaxed.logits, dropped.logits, atol=1e-4, rtol=0)
    assert not torch.allclose(dropped.logits, network(image), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    ("changed", "corner"),
    [
        ({"margin": 4.0}, 0),
        ({"margin": 4.0}, 60),
        ({"margin": 20.0, "protect_prompted": True}, 33),
        ({"score_by": "random", "protect_prompted": True}, 33),
    ],
)
def test_stage_0_and_held_tokens_too(case, changed, corner):
    """Without a sample that keeps all, dropping works on a part of the grid alone."""
    _, network, image, _, plan = case
    size = tuple(image.shape[2:])
    low, high = along(size, min(corner, size[0] - 20)), along(size, min(corner + 24, size[0]))
    prompts = PromptBatch.of(BoxPrompt, [[(low, high)]] * 2, size)
    # one query: among several that are nearly as sure, rounding decides the order
    plan = replace(plan, percentile=40.0, k=1, **changed)
    dropped = network.segment(image[:2], prompts, plan)
    network.training = True
    relaxed = network.segment(image[:2], prompts, plan)
    network.training = False
    for a, b in zip(dropped.stages, relaxed.stages):
        assert torch.equal(a.alive, b.alive)
        held = prompts.protected(a.grid)
        near = prompts.protected(a.grid, plan.margin if plan.margin is not None else max(size))
        assert not plan.protect_prompted or a.alive[held].all()
        # a merged token may reach further than the living one in it
        assert near.all() or not a.alive[~prompts.protected(a.grid, plan.margin + 32)].any()
        assert a.alive.any(1).all()
    torch.testing.assert_close(relaxed.logits, dropped.logits, atol=1e-4, rtol=0)


@torch.no_grad()
def test_each_sample_is_pruned_by_its_own_prompt(case):
    _, network, image, prompts, plan = case
    output = network.segment(image, prompts, plan)
    for share in output.kept_fraction().values():
        assert share[1] == 1.0 and share[0] < 1.0 and share[2] < 1.0
    kept = [output.kept_fraction()[stage.name][0] for stage in output.stages]
    if len({stage.grid for stage in output.stages}) == 1:  # a coarser token lives with any of its children
        assert kept == sorted(kept, reverse=True)
    alone = network.segment(image[:1], first_alone(prompts), plan)
    torch.testing.assert_close(output.logits[:1], alone.logits, atol=1e-5, rtol=0)
    assert output.token_map().shape == image[:, 0].shape
    assert output.token_map()[1].eq(1).all()


@torch.no_grad()
def test_dropping_costs_less_and_masking_does_not(case):
    _, network, image, prompts, plan = case
    image, prompts = image[:1], first_alone(prompts)
    _, dense = count_flops(lambda: network(image))
    # few queries: on networks as small as these the relevance itself would be a large part of the cost
    plan = replace(plan, percentile=60.0, k=2)
    _, dropped = count_flops(lambda: network(image, prompts, plan))
    _, masked = count_flops(lambda: network(image, prompts, replace(plan, mode="mask")))
    assert dropped < dense <= masked


@torch.no_grad()
@pytest.mark.parametrize("percentile", [25.0, 90.0])
def test_decoding_what_is_kept_gives_the_dense_numbers_there_and_costs_less(case, percentile):
    """Batch normalisation with statistics of its own, so that no layer is an identity."""
    _, network, image, prompts, plan = case
    generator = torch.Generator().manual_seed(1)
    statistics = [m for m in network.modules() if isinstance(m, (nn.BatchNorm2d, nn.BatchNorm3d))]
    before = [(m.running_mean.clone(), m.running_var.clone()) for m in statistics]
    for m in statistics:
        m.running_mean.normal_(0, 0.2, generator=generator)
        m.running_var.uniform_(0.5, 2.0, generator=generator)
    image, size = image[:1], tuple(image.shape[2:])
    low, high = along(size, 20.0), along(size, 41.5)
    prompts = PromptBatch.of(BoxPrompt, [[(low, high)]], size)
    plan = replace(plan, percentile=percentile, k=2)
    everything, cost = count_flops(lambda: network.segment(image, prompts, plan))
    kept = replace(plan, decode="kept")
    part, less = count_flops(lambda: network.segment(image, prompts, kept))
    where = PromptedPruning(network.relevance, kept, prompts, size, stages=list(part.stages)).decoded_region()
    inside = (slice(None), slice(None), *(slice(a, b) for a, b in zip(where.start, where.stop)))
    torch.testing.assert_close(part.logits[inside], everything.logits[inside], atol=1e-5, rtol=0)
    assert all(a <= at and b >= end for a, b, at, end in zip(where.start, where.stop, low, high))  # the box, whole pixels
    outside = torch.ones(size, dtype=torch.bool)
    outside[inside[2:]] = False
    assert part.logits.argmax(1)[0][outside].eq(0).all()
    assert less < cost if where.share < 1 else less == cost
    assert where.share < 1 or percentile < 50
    for m, (mean, variance) in zip(statistics, before):
        m.running_mean.copy_(mean)
        m.running_var.copy_(variance)


def test_the_relevance_learns_through_the_mask(case):
    _, network, image, prompts, plan = case
    network.train()
    network.zero_grad()
    network(image, prompts, plan).square().mean().backward()
    network.eval()
    for name, parameter in network.relevance.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        assert torch.isfinite(parameter.grad).all(), name


@torch.no_grad()
def test_a_mask_is_finite_whatever_the_scores(case):
    _, network, image, prompts, plan = case
    for percentile in (0.0, 99.0):
        assert torch.isfinite(network(image, prompts, replace(plan, percentile=percentile))).all()
    assert torch.isfinite(network(torch.full_like(image, -1.0), prompts, plan)).all()


def test_a_plan_for_a_block_without_projections_is_refused(case):
    _, network, image, prompts, plan = case
    with pytest.raises(KeyError), torch.no_grad():
        network(image, prompts, replace(plan, prune_after=(*plan.prune_after[:-1], 4 if 4 not in plan.prune_after else 5)))


@torch.no_grad()
@pytest.mark.parametrize("size", [64, 80])
@pytest.mark.parametrize("plan", [None, unetr.DEFAULT_PLAN], ids=["dense", "pruned"])
def test_unetr_sees_a_smaller_image_as_the_middle_of_its_own(plan, size):
    """The same weights converted for the small image, with the middle of the position embedding, give the same numbers."""
    torch.manual_seed(0)
    arguments = {"in_channels": 1, "out_channels": 4, "spatial_dims": 2, **SMALL_UNETR}
    large, small = (PratoUNETR(img_size=edge, **arguments).eval() for edge in (128, size))
    small.load_state_dict(convert_state_dict(large.state_dict(), small))
    image, prompts = torch.randn(2, 1, size, size), PromptBatch.of(BoxPrompt, [[((10, 12), (40, 50))], []], (size, size))
    torch.testing.assert_close(large(image, prompts, plan), small(image, prompts, plan), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(160, 128), (120, 128)])
def test_unetr_refuses_what_does_not_fit_its_grid(size):
    network = PratoUNETR(in_channels=1, out_channels=4, img_size=128, spatial_dims=2, **SMALL_UNETR)
    with pytest.raises(ValueError, match=r"multiples of \(16, 16\) and at most \(128, 128\), not"):
        network(torch.randn(1, 1, *size))


def test_strict_loading_still_notices_what_is_missing():
    network: nn.Module = PratoUNETR(in_channels=1, out_channels=4, img_size=32, spatial_dims=2, **SMALL_UNETR)
    state = network.state_dict()
    network.load_state_dict(state, strict=True)
    state.pop("relevance.4.project_token.weight")
    with pytest.raises(RuntimeError, match="project_token"):
        network.load_state_dict(state, strict=True)


def test_convolutional_swin_is_refused():
    with pytest.raises(ValueError, match="use_v2"):
        PratoSwinUNETR(in_channels=1, out_channels=4, spatial_dims=2, use_v2=True, **SMALL_SWIN)


@torch.no_grad()
def test_a_plan_says_how_every_network_weights_its_queries(case):
    _, network, image, prompts, plan = case
    by_entropy, equal = (network.segment(image, prompts, replace(plan, weights=weights)).stages[0] for weights in ("entropy", "equal"))
    prompted = prompts.prompted
    assert not torch.allclose(by_entropy.relevance[prompted], equal.relevance[prompted])
