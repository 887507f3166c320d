"""What a network thought of each pixel, read on another network's pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prato.data.structures import BACKGROUND, NUM_CLASSES
from prato.inference.scores import Scores, quantise
from prato.runtime.region import Region


def scores(pixels: tuple[int, int], start: tuple[int, int], stop: tuple[int, int]) -> Scores:
    """A ramp over the whole slice, 0 at its first row and 255 at its last, where it was computed."""
    rows = (np.arange(start[0], stop[0]) + 0.5) / pixels[0]
    values = np.broadcast_to(np.round(255 * rows).astype(np.uint8)[None, None, :, None], (1, NUM_CLASSES, len(rows), stop[1] - start[1]))
    return Scores(np.ascontiguousarray(values), Region(start, stop, (112, 112)), pixels, (3,))


def test_on_the_same_pixels_scores_are_read_as_they_are() -> None:
    own = scores((100, 96), (20, 10), (60, 70))
    found = own.cut(3, (12, 5), 40, (100, 96))
    expected = np.zeros((NUM_CLASSES, 40, 40), np.float32)
    expected[BACKGROUND] = 1
    expected[:, 8:, 5:] = own.values[0, :, :32, :35] / np.float32(255)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("pixels", [(100, 96), (91, 87), (80, 77), (120, 115)])
def test_a_place_has_the_same_scores_whatever_the_pixels(pixels: tuple[int, int]) -> None:
    edge, corner = 30, (pixels[0] // 4, pixels[1] // 4)
    found = scores((100, 96), (20, 10), (80, 86)).cut(3, corner, edge, pixels)
    places = (corner[0] + np.arange(edge) + 0.5) / pixels[0]
    np.testing.assert_allclose(found, np.broadcast_to(places[None, :, None], found.shape), atol=0.005)


def test_nothing_computed_is_background() -> None:
    for found in (scores((100, 96), (20, 10), (60, 70)).cut(4, (0, 0), 8, (91, 87)), Scores.nothing().cut(0, (0, 0), 8, (91, 87))):
        assert (found[BACKGROUND] == 1).all() and found.sum() == 64


def test_the_likeliest_class_has_the_highest_score_and_what_is_far_below_none() -> None:
    logits = torch.tensor([3.0, 2.0, -1.0, -5.0, -50.0]).view(1, 5, 1, 1)
    assert quantise(logits).flatten().tolist() == [255, 223, 128, 0, 0]
