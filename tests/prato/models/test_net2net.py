import pytest
import torch

from prato.models.convert_state_dict import convert_state_dict
from prato.models.swin_unetr import PratoSwinUNETR
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.plan import PruningPlan
from tests.prato.models.test_networks import along

ARGUMENTS = {"in_channels": 3, "out_channels": 4, "norm_name": "batch", "num_heads": (1, 2, 4, 4), "window_size": 3}


def network(width: int, dims: int = 2, **other: object) -> PratoSwinUNETR:
    torch.manual_seed(width)
    made = PratoSwinUNETR(**{**ARGUMENTS, **other}, feature_size=width, spatial_dims=dims)
    for module in made.modules():  # statistics and biases of a network that has learned
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return made.eval()


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("plan", [None, PruningPlan(prune_after=(1, 2, 3), percentile=40.0)])
def test_a_widened_network_computes_what_the_narrow_one_does(dims: int, plan: PruningPlan | None) -> None:
    narrow, wide = network(12, dims), network(24, dims)
    size = (64, 64) if dims == 2 else (32, 32, 32)
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    prompts = PromptBatch.of(
        BoxPrompt, [[(along(size, a * size[0]), along(size, b * size[0]))] for a, b in ((0.15, 0.6), (0.3, 0.8))], size
    )
    with torch.inference_mode():
        before = wide.segment(image, prompts, plan).logits
        wide.load_state_dict(convert_state_dict(narrow.state_dict(), wide))
        wanted, got = narrow.segment(image, prompts, plan), wide.segment(image, prompts, plan)
    assert not torch.allclose(before, wanted.logits, atol=1e-2)
    torch.testing.assert_close(got.logits, wanted.logits, atol=2e-4, rtol=1e-3)
    for one, other in zip(got.stages, wanted.stages):
        torch.testing.assert_close(one.relevance, other.relevance, atol=1e-4, rtol=1e-3)


def test_the_copies_of_a_channel_learn_different_things() -> None:
    narrow, wide = network(12), network(24)
    torch.manual_seed(0)
    wide.load_state_dict(convert_state_dict(narrow.state_dict(), wide))
    wide.train()(torch.randn(1, 3, 64, 64)).square().mean().backward()
    gradient = wide.encoder2.layer.conv1.conv.weight.grad
    assert gradient is not None
    assert not torch.allclose(gradient[0::2], gradient[1::2], rtol=0.1)


def test_weights_of_another_size_are_still_refused() -> None:
    wide = network(24)
    with pytest.raises(RuntimeError, match="size mismatch"):
        wide.load_state_dict(convert_state_dict(network(36).state_dict(), wide))


def test_more_heads_are_refused() -> None:
    wide = network(24, num_heads=(2, 4, 8, 8))
    with pytest.raises(RuntimeError, match="size mismatch"):
        wide.load_state_dict(convert_state_dict(network(12).state_dict(), wide))


def positions(edge: int) -> torch.nn.Module:
    """A network that has nothing but the embeddings of ``edge`` x ``edge`` positions, numbered from 1."""
    made = torch.nn.Module()
    made.vit = torch.nn.Module()
    made.vit.patch_embedding = torch.nn.Module()
    made.vit.patch_embedding.position_embeddings = torch.nn.Parameter(torch.arange(1.0, edge**2 + 1).view(1, -1, 1))
    return made


@pytest.mark.parametrize(
    ("edge", "rows"),
    [
        (7, [[1, 1, 1, 2, 3, 3, 3], [1, 1, 1, 2, 3, 3, 3], [1, 1, 1, 2, 3, 3, 3], [4, 4, 4, 5, 6, 6, 6], *[[7, 7, 7, 8, 9, 9, 9]] * 3]),
        (4, [[1, 2, 3, 3], [4, 5, 6, 6], [7, 8, 9, 9], [7, 8, 9, 9]]),
        (1, [[5]]),
    ],
)
def test_positions_lie_in_the_middle_of_a_larger_grid_and_of_a_larger_one_the_middle_is_taken(edge: int, rows: list[list[int]]) -> None:
    (found,) = convert_state_dict(positions(3).state_dict(), positions(edge)).values()
    assert found.view(edge, edge).tolist() == rows
