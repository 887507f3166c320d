"""Overviews that remember a stack: others like it are computed anew in a part, and nowhere else."""

import pytest
import torch

from prato.models.overview import Overview
from prato.runtime.region import Region

#: Coarse tokens along both sides of the slices below.
GRID = (11, 14)
PARTS = [
    Region((3, 4), (7, 9), GRID),
    Region((0, 0), (4, 5), GRID),
    Region((1, 9), (11, 14), GRID),
    Region((5, 1), (6, 2), GRID),
    Region((0, 3), (11, 6), GRID),
]


@pytest.fixture(params=[0, 2], ids=["convolutions alone", "with a transformer"])
def overview(request):
    torch.manual_seed(0)
    built = Overview(16, 2, request.param).eval()
    for block in built.blocks:  # zero-initialised, attention along the stack would say nothing
        torch.nn.init.normal_(block.along.proj.weight, std=0.3)
    return built


@pytest.fixture
def slices():
    return torch.randn(2, 3, 8 * GRID[0], 8 * GRID[1], generator=torch.Generator().manual_seed(1))


def changed(slices, part):
    """Other slices in ``part``, the same elsewhere."""
    others = slices.clone()
    rows, columns = part.upscale(8).slices
    others[:, :, rows, columns] = torch.randn(others[:, :, rows, columns].shape, generator=torch.Generator().manual_seed(2))
    return others


def of_part(tokens, part):
    rows, columns = part.upscale().slices
    return tokens[:, :, rows, columns]


@pytest.mark.parametrize("part", PARTS, ids=str)
@torch.no_grad()
def test_what_has_not_changed_is_what_it_was(overview, slices, part):
    memory = overview.remember(slices, lambda tokens: part)
    torch.testing.assert_close(memory.tokens, overview(slices), atol=0, rtol=0)
    torch.testing.assert_close(overview.update(slices, memory), memory.tokens, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("part", PARTS, ids=str)
@torch.no_grad()
def test_what_changes_in_the_part_alone_is_computed_there_alone(overview, slices, part):
    """But for what the transformer tells other places of it: without one, it is what computing everything gives, up to two tokens before
    the part's edge, beyond which the convolutions look.
    """
    memory, others = overview.remember(slices, lambda tokens: part), changed(slices, part)
    found = overview.update(others, memory)
    assert (of_part(found, part) - of_part(memory.tokens, part)).abs().amin((0, 1)).max() > 1e-2
    unchanged = torch.ones(2, 3, *(2 * n for n in GRID), dtype=torch.bool)
    of_part(unchanged, part).fill_(False)
    assert torch.equal(found[unchanged], memory.tokens[unchanged])
    if not len(overview.blocks):
        inner = Region(
            *(tuple(n if n in (0, size) else n + by for n, size in zip(at, GRID)) for at, by in ((part.start, 1), (part.stop, -1))), GRID
        )
        if all(b > a for a, b in zip(inner.start, inner.stop)):
            torch.testing.assert_close(of_part(found, inner), of_part(overview(others), inner), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_part_attends_to_all_that_is_remembered(slices):
    """With one block, what it attends to elsewhere has seen nothing of the change: the middle of the part is what computing all gives."""
    torch.manual_seed(0)
    overview, part = Overview(16, 2, 1).eval(), PARTS[0]
    memory, others = overview.remember(slices, lambda tokens: part), changed(slices, Region((4, 5), (5, 6), GRID))
    middle = Region((4, 5), (5, 6), GRID)
    torch.testing.assert_close(of_part(overview.update(others, memory), middle), of_part(overview(others), middle), atol=1e-5, rtol=1e-5)
    forgetful = memory._replace(elsewhere=tuple((keys[:, :, :0], values[:, :, :0]) for keys, values in memory.elsewhere))
    assert not torch.allclose(of_part(overview.update(others, forgetful), middle), of_part(overview(others), middle), atol=1e-3)
