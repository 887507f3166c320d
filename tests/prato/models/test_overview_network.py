"""Networks with an overview: fewer tokens with it, and the region follows the heart and the prompt."""

from copy import deepcopy

import pytest
import torch

from prato.inference.cuda_graphs import CudaGraphRunner
from prato.models import overview_network
from prato.models.heart_relevance import box_features, coverage
from prato.models.overview import TOKEN, SliceAttention
from prato.models.overview_network import OVERVIEW_PLAN, slices_at_once
from prato.models.overview_region import SHORTEST, computed_region, decoded_tokens, heart_region, token_grid, token_slices
from prato.models.registry import build_model
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.plan import PruningPlan
from prato.runtime.region_decode import RegionFeatures

SMALL = {
    "overview_unet": {"filters": (4, 4, 8, 8, 8)},
    "overview_swin_unetr": {
        **{"in_channels": 3, "out_channels": 4, "norm_name": "batch", "spatial_dims": 2},
        **{"feature_size": 12, "window_size": 5, "num_heads": (1, 2, 2, 4)},
    },
}


def build(name):
    torch.manual_seed(0)
    return build_model(name, **SMALL[name], overview_dim=16, overview_depth=1).eval()


@pytest.fixture(scope="module")
def network():
    return build("overview_unet")


@pytest.fixture(scope="module", params=sorted(SMALL))
def either(request, network):
    """Each of the networks that have an overview."""
    return network if request.param == "overview_unet" else build(request.param)


@pytest.fixture(scope="module")
def stack():
    return torch.randn(4, 3, 160, 192, generator=torch.Generator().manual_seed(0))


class Counted:
    """A call that remembers the sizes of what it is first given."""

    def __init__(self, call):
        self.call, self.sizes = call, []

    def __call__(self, x, *rest):
        self.sizes.append(x.shape)
        return self.call(x, *rest)


def centred_on(network, place):
    """Relevance that is high at a token alone, whatever the image."""
    y, x = place

    def relevance(tokens, box, has_box):
        logits = torch.full(tokens.shape[:-1], -9.0)
        logits[:, :, y, x] = 9.0
        return logits

    return relevance


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("plan", [None, OVERVIEW_PLAN, PruningPlan(prune_after=(1,), percentile=50.0, decode="kept")])
def test_it_is_never_captured(either, stack, plan):
    """Its parent's static shapes are not its own: with a box and without, a runner of CUDA graphs leaves all of it to the either."""
    runner = CudaGraphRunner(either, torch.float32)
    for prompts in (None, PromptBatch.empty(4, stack.shape[2:]), PromptBatch.of(BoxPrompt, [[((40, 40), (90, 100))]] * 4, stack.shape[2:])):
        expected, found = either.segment(stack, prompts, plan), runner.segment(stack, prompts, plan)
        assert torch.equal(found.logits, expected.logits) and len(found.stages) == (plan is not None)
        given = either.predict(stack, either.encode_image(stack, plan), prompts, plan)
        assert torch.equal(given.logits, expected.logits)


@torch.no_grad()
def test_how_many_slices_are_decoded_at_once_changes_nothing(network, stack, monkeypatch):
    expected = network.segment(stack).logits
    for at_once in (1, 3, 99):
        monkeypatch.setattr(overview_network, "_SLICES_IN_CACHE", (at_once, at_once))
        torch.testing.assert_close(network.segment(stack).logits, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_only_the_region_of_relevant_tokens_is_computed(either, stack, monkeypatch):
    monkeypatch.setattr(either.heart_relevance, "forward", centred_on(either, (9, 10)))
    output = either.segment(stack, None, OVERVIEW_PLAN)
    (stage,) = output.stages
    alive = stage.alive.view(4, 20, 24)
    assert alive.sum() == 4 * (SHORTEST // TOKEN) ** 2 and alive[:, 9, 10].all()
    outside = ~alive.repeat_interleave(TOKEN, 1).repeat_interleave(TOKEN, 2)
    assert (output.logits.argmax(1)[outside] == 0).all()
    assert output.logits.shape == (4, 4, 160, 192)


@torch.no_grad()
def test_each_slice_is_decoded_round_its_own_tokens(either, monkeypatch):
    """Six slices with a heart that moves to the side after two: beyond what they and their neighbours keep there is background alone, and
    what is decoded is what decoding the whole region gives, but for a rim.
    """
    stack = torch.randn(6, 3, 192, 320, generator=torch.Generator().manual_seed(1))

    def relevance(tokens, box, has_box):
        logits = torch.full(tokens.shape[:-1], -9.0)
        logits[:, :2, 4:14, 2:14] = 9.0
        logits[:, 2:, 4:14, 24:36] = 9.0
        return logits

    monkeypatch.setattr(either.heart_relevance, "forward", relevance)
    monkeypatch.setattr(either, "_decode_pixels", counted := Counted(either._decode_pixels))
    embedding = either.encode_image(stack, OVERVIEW_PLAN)
    region, decoded, _ = either.choose_region((192, 320), embedding, None, OVERVIEW_PLAN)

    def logits_of(decoded):
        parts = either.encode_regions([stack], embedding.tokens.unsqueeze(0), [None], [region])
        ((_, decode),) = either.decode_parts(parts, region.cells, decoded)
        return RegionFeatures(decode(), region).to_logits()

    monkeypatch.setattr(overview_network, "_SLICES_IN_CACHE", (2, 2))
    logits = logits_of(decoded)
    assert [size[-1] for size in counted.sizes] == [34, 34, 12]  # tokens along a row: of slices 0 and 1, whose neighbour is 2, and so on
    everywhere = logits_of(None)
    assert (logits[4:, :, :, :192].argmax(1) == 0).all() and (everywhere[4:, :, :, :192].argmax(1) != 0).any()
    torch.testing.assert_close(logits[4:, :, 64:80, 224:256], everywhere[4:, :, 64:80, 224:256], atol=1e-5, rtol=1e-5)


def test_what_is_decoded_holds_what_is_near_the_heart_in_a_slice_and_beside_it():
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        near = torch.rand(7, 20, 24, generator=generator) < 0.004
        near[3, 10, 12] = True
        region = computed_region(near, (160, 192), 16)
        decoded, inside = decoded_tokens(near, region), near[(slice(None), *token_slices(region))]
        for k, place in enumerate(decoded):
            kept = torch.zeros(token_grid(region), dtype=torch.bool)
            kept[place.slices] = True
            beside = inside[max(k - 1, 0) : k + 2]
            assert not (beside & ~kept).any() and (place.is_whole or beside.any())


@pytest.mark.slow
@torch.no_grad()
def test_a_percentile_grows_the_region_round_what_is_relevant(network, stack, monkeypatch):
    monkeypatch.setattr(network.heart_relevance, "forward", centred_on(network, (9, 10)))
    outputs = [network.segment(stack, None, PruningPlan((1,), percentile=p)) for p in (75.0, 50.0, 25.0, 0.0)]
    shares = [float(output.kept_fraction()["overview"][0]) for output in outputs]
    assert shares[0] >= 0.25 and shares[1] >= 0.5 and shares[2] >= 0.75 and shares[3] == 1.0 and shares == sorted(shares)


@torch.no_grad()
def test_where_no_heart_is_seen_the_prompt_is_all_there_is(network, stack, monkeypatch):
    monkeypatch.setattr(network.heart_relevance, "forward", lambda tokens, box, has_box: torch.full(tokens.shape[:-1], -9.0))
    box = PromptBatch.of(BoxPrompt, [[((96, 8), (144, 60))]] * 4, stack.shape[2:])
    (stage,) = network.segment(stack, box, OVERVIEW_PLAN).stages
    alive = stage.alive.view(4, 20, 24)
    assert alive[:, 12:18, 1:7].all() and not alive.all()
    assert network.segment(stack, None, OVERVIEW_PLAN).stages[0].alive.all()


@torch.no_grad()
def test_the_overview_of_some_slices_serves_them(network, stack):
    embedding = network.encode_image(stack, OVERVIEW_PLAN)
    assert embedding.tokens.shape == (4, 20, 24, 16) and embedding.nbytes == 4 * 20 * 24 * 16 * 4
    part = type(embedding)(0, {0: embedding.tokens[1:3]})
    assert network.predict(stack[1:3], part, None, OVERVIEW_PLAN).logits.shape == (2, 4, 160, 192)


def test_regions_lie_within_the_image_and_hold_the_kept_tokens():
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        grid = torch.randint(6, 40, (2,), generator=generator).tolist()
        keep = torch.rand(3, *grid, generator=generator) < 0.01
        keep[0, grid[0] // 2, grid[1] - 1] = True
        size = tuple(n * TOKEN for n in grid)
        step = 16 if grid[0] % 2 else 32
        region = computed_region(keep, size, step)
        assert all(0 <= a < b <= n and a % TOKEN == 0 for a, b, n in zip(region.start, region.stop, size))
        assert all(length % step == 0 or length == n for length, n in zip(region.cells, size))
        inside = torch.zeros_like(keep)
        inside[(slice(None), *(slice(a // TOKEN, b // TOKEN) for a, b in zip(region.start, region.stop)))] = True
        assert not (keep & ~inside).any()


@torch.no_grad()
def test_the_heart_lies_where_tokens_are_likely_in_all_slices_of_which_one_stays():
    found = torch.zeros(5, 12, 12)
    found[1:4, 3:6, 4:8] = 0.9
    found[4, 3, 3] = found[2, 5, 8:] = 0.2  # stay, and are no more likely than not
    found[2, 11, 11] = 0.8  # likely, and far from the others

    planes, region = heart_region(found)
    assert planes == range(1, 5) and (region.start, region.stop) == ((3, 4), (6, 8))


def test_where_no_token_is_likely_the_heart_lies_where_any_stays():
    found = torch.zeros(3, 6, 6)
    found[1, 2:4, 1] = 0.3

    planes, region = heart_region(found)
    assert planes == range(1, 2) and (region.start, region.stop) == ((2, 1), (4, 2))


def test_slice_attention_changes_nothing_at_first_and_mixes_slices_afterwards():
    torch.manual_seed(0)
    attention, x = SliceAttention(8, 2), torch.randn(1, 5, 3, 8)
    assert torch.equal(attention(x), x)
    torch.nn.init.normal_(attention.proj.weight)
    changed = x.clone()
    changed[0, 4, 1] += 1.0
    moved = (attention(changed) - attention(x)).abs().amax(-1)[0]
    assert (moved[:, 1] > 0).all() and (moved[:, [0, 2]] == 0).all()


def test_what_tokens_know_of_the_box():
    box, has_box, corner = torch.tensor([[[8.0, 4.0], [24.0, 16.0]]]), torch.tensor([True]), torch.zeros(1, 2)
    assert coverage(box, (4, 3))[0].tolist() == [[0, 0, 0], [0.5, 1, 0], [0.5, 1, 0], [0, 0, 0]]
    features = box_features(box, has_box, corner, (4, 3))
    assert features.shape == (1, 4, 3, 6) and torch.equal(features[..., 0], coverage(box, (4, 3))) and (features[..., 5] == 1).all()
    assert features[0, 0, 0, 1:5].tolist() == [-0.125, -0.625, 0.0, -0.375]  # in tokens from the four sides, divided by 4
    assert (box_features(box, torch.tensor([False]), corner, (4, 3)) == 0).all()


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("plan", [None, OVERVIEW_PLAN], ids=["off", "plan"])
def test_slices_are_encoded_and_decoded_a_few_at_a_time_with_the_same_logits(either, stack, monkeypatch, plan):
    torch.manual_seed(1)
    network = deepcopy(either)
    for attention in network.along:  # as it comes, it changes nothing
        torch.nn.init.normal_(attention.proj.weight, std=0.2)
    whole, seen = network.segment(stack, None, plan).logits, []
    watched = (network.input_block, network.output_block) if hasattr(network, "input_block") else (network.swinViT.patch_embed, network.out)
    handles = [module.register_forward_pre_hook(lambda _, given: seen.append(len(given[0]))) for module in watched]
    monkeypatch.setattr("prato.models.overview_network.CPU_PIXELS", 160 * 192 * 2)
    monkeypatch.setattr(SliceAttention, "MAX_SCORES", 4 * 4**2 * 7)  # seven places at a time
    parts = network.segment(stack, None, plan).logits
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)
    assert max(seen) <= 2 and seen == [2, 2, 2, 2]


def test_how_many_slices_go_together():
    cpu = torch.device("cpu")
    assert [slices_at_once(size, cpu) for size in ((128, 128), (224, 256), (512, 512), (1024, 1024))] == [16, 4, 1, 1]
    assert slices_at_once((256, 256), torch.device("cuda")) == 128
