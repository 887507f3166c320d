"""prato/inference/stack_slices.py: where an image lies in what a network is given of it, and that what is cropped to a heart is widened."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prato.data.nifti import Volume
from prato.data.structures import STRUCTURES
from prato.inference.image_stack import ImageStack
from prato.inference.native_grid import read_at_voxels
from prato.inference.predictor import Predictor
from prato.inference.stack_slices import FIELD, MULTIPLE, frame, padded_slices
from prato.phantom.frames import make_phantom
from prato.prompts.box import Box, BoxPrompt
from prato.runtime.region import Region
from prato.runtime.region_decode import RegionFeatures

SMALL = Path(__file__).parents[3] / "apps" / "prato_label" / "model" / "prato_overview_unet_small.safetensors"
PIXEL = 4.0


def image_of(rows: int, columns: int) -> ImageStack:
    """A stack of two slices of noise with pixels of 4 mm."""
    noise = np.random.default_rng(0).normal(size=(rows, columns, 2)).astype(np.float32)
    return ImageStack(Volume(noise, np.diag([PIXEL, PIXEL, 8.0, 1.0])))


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 70), st.integers(3, 70))
def test_an_image_lies_in_the_middle_of_its_own_mirror_image(rows, columns):
    image = image_of(rows, columns)
    placed, seen = frame(image, PIXEL), padded_slices(image, PIXEL)
    assert seen.shape == (2, *placed.size) and not any(n % MULTIPLE for n in placed.size)
    assert torch.equal(placed.inside.cut(seen), image.slices(PIXEL))
    for axis, (n, mirrored) in enumerate(zip((rows, columns), placed.mirrored)):
        wide = n + 2 * mirrored
        assert mirrored == 0 if n * PIXEL >= FIELD else wide in (round(FIELD / PIXEL), round(FIELD / PIXEL) - 1, 3 * n - 2)
        lines = seen.movedim(1 + axis, 0)
        for k in range(1, mirrored + 1):
            assert torch.equal(lines[mirrored - k], lines[mirrored + k])
            assert torch.equal(lines[mirrored + n - 1 + k], lines[mirrored + n - 1 - k])
        assert (lines[wide:] == -1).all()


@pytest.mark.parametrize(
    ("start", "stop"), [((0, 0), (64, 64)), ((8, 16), (32, 40)), ((16, 32), (24, 40)), ((0, 0), (16, 8)), ((48, 0), (64, 64))]
)
def test_what_is_said_of_a_region_is_read_where_the_image_lies(start, stop):
    """The last two lie beside the image, or nearly so."""
    image = image_of(20, 25)
    placed, region = frame(image, PIXEL), Region(start, stop, (64, 64))
    assert placed.size == (64, 64) and placed.mirrored == (15, 12)
    maps = torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    found = placed.to_image(RegionFeatures(maps[(..., *region.slices)], region))
    assert found.region.size == placed.pixels and found.values.shape[2:] == found.region.cells
    own = maps[(..., *placed.inside.slices)]
    assert torch.equal(found.values, own[(..., *found.region.slices)])
    read, voxels = read_at_voxels(found, placed.pixels, (20, 25))
    assert torch.allclose(read, own[(slice(None), slice(None), *voxels)], atol=1e-6)
    inside = [max(0, min(b, low + n) - max(a, low)) for a, b, low, n in zip(start, stop, placed.mirrored, placed.pixels)]
    assert read.shape[2:] == tuple(inside)


@pytest.mark.slow
@pytest.mark.parametrize("box", ["none", "tight"])
def test_an_image_that_is_cropped_to_the_heart_is_segmented(box: str) -> None:
    """Without its mirror image the network finds a Dice of .75 here: it sees nothing of what hearts lie in."""
    heart = make_phantom(0, 1)
    label = heart.labels["ES"]
    bounds = Box.around(label)
    assert bounds is not None
    cut = tuple(slice(a - 3, b + 3) for a, b in zip(bounds.start[:2], bounds.stop[:2]))
    image, truth = Volume(np.ascontiguousarray(heart.images["ES"][cut]), heart.affine), label[cut]
    predictor = Predictor.from_files(SMALL)
    predictor.set_image(image)
    tight = Box.around(truth)
    assert tight is not None
    found = predictor.predict([BoxPrompt(tight)] if box == "tight" else [], return_tokens=True)
    dice = [2 * np.sum((found.mask == k) & (truth == k)) / (np.sum(found.mask == k) + np.sum(truth == k)) for k in STRUCTURES.values()]
    assert np.mean(dice) > 0.87
    assert found.tokens is not None and found.tokens[truth > 0].mean() > 0.95
    assert all(0 <= a < b <= n for a, b, n in zip(found.box.start, found.box.stop, truth.shape))
