"""The way to the network's window and back: places, sizes, and what lies outside."""

import numpy as np
import pytest
import torch

from prato.data.intensity import normalise
from prato.data.resampling import resample_in_plane, resampled_size, stack_neighbours
from prato.inference.window import STEP, Window, heart_beside
from prato.prompts.box import Box


def blob(shape, centre, spacing, radius_mm):
    i, j = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return ((i - centre[0]) * spacing[0]) ** 2 + ((j - centre[1]) * spacing[1]) ** 2 <= radius_mm**2


@pytest.mark.parametrize("spacing", [(1.5, 1.5), (0.8, 0.8), (1.95, 1.4)])
@pytest.mark.parametrize("middle", [(60, 50), (12, 70)])
def test_there_and_back_is_the_same_place(spacing, middle):
    shape = (120, 101)
    disc = blob(shape, middle, spacing, 25.0)
    box = Box((middle[0] - 9, middle[1] - 12), (middle[0] + 10, middle[1] + 13))
    window = Window.from_centre(box, shape, spacing, 1.5, 160)
    resampled = resample_in_plane(torch.from_numpy(disc.astype(np.float32))[None], window.resampled)
    back, (x, y) = window.to_native(window.cut(resampled)[:, None])
    found = np.zeros(shape, dtype=bool)
    found[x, y] = back[0, 0].numpy() > 0.5
    overlap = 2 * (found & disc).sum() / (found.sum() + disc.sum())
    assert overlap > 0.97
    assert np.abs(np.argwhere(found).mean(0) - np.argwhere(disc).mean(0)).max() < 0.1


def test_a_box_lands_where_the_voxels_do():
    shape, spacing = (200, 150), (0.75, 1.2)
    box = Box((50, 40), (90, 70))
    window = Window.from_centre(box, shape, spacing, 1.5, 160)
    image = torch.zeros(1, *shape)
    image[0][box.slices] = 1.0
    cut = window.cut(resample_in_plane(image, window.resampled))[0]
    inside = (cut > 0.5).nonzero()
    start, stop = np.array([box.start, box.stop]) * window.scale - window.corner
    assert np.allclose(start, inside.amin(0).numpy(), atol=0.51)
    assert np.allclose(stop, inside.amax(0).numpy() + 1, atol=0.51)
    assert np.allclose((start + stop) / 2, 80, atol=0.51)


@pytest.mark.parametrize("centre", ["box", "image"])
def test_the_window_lies_round_the_box_or_the_image(centre):
    box = Box((20, 10, 0), (60, 60, 3))
    window = Window.for_boxes([box], box, (200, 180, 5), (1.5, 1.5, 8.0), 1.5, 128, centre)
    middle = [corner + window.size / 2 for corner in window.corner]
    assert window.size == 128 and np.allclose(middle, (40, 35) if centre == "box" else (100, 90), atol=STEP / 2)


@pytest.mark.parametrize("finer", [1, 2])
@pytest.mark.parametrize(("pixels", "corner"), [(112, (16, -24)), (114, (14, -26))])
def test_a_box_that_leaves_no_margin_is_in_the_very_middle(pixels, corner, finer):
    """112 pixels of the network and the margins fill a window of 128, however fine the voxels are."""
    box = Box((21 * finer, 13 * finer, 0), ((21 + pixels) * finer, 63 * finer, 3))
    window = Window.for_boxes([box], box, (200 * finer, 200 * finer, 5), (1.5 / finer, 1.5 / finer, 8.0), 1.5, 128, "box")
    assert window.corner == corner


def test_beyond_the_image_lies_the_darkest_value():
    window = Window.from_centre(Box((0, 0), (4, 4)), (40, 40), (1.5, 1.5), 1.5, 160)
    cut = window.cut(torch.zeros(2, 40, 40))
    assert (cut == 0).sum() == 2 * 40 * 40
    assert cut[:, :70].eq(-1).all()


def test_a_window_apart_from_the_image_is_dark_and_gives_nothing_back():
    window = Window((10, 10), (10, 10), (500, 500), 32)
    assert window.cut(torch.zeros(1, 10, 10)).eq(-1).all()
    back, (x, y) = window.to_native(torch.zeros(1, 2, 32, 32))
    assert back.shape == (1, 2, 0, 0) and x.start == x.stop and y.start == y.stop


def test_intensities_are_clipped_to_percentiles():
    volume = np.arange(1000, dtype=np.int16).reshape(10, 10, 10)
    volume[0, 0, 0] = 32000
    out = normalise(volume)
    assert out.dtype == np.float32 and out.min() == -1 and out.max() == 1
    assert abs(float(np.median(out))) < 0.05
    assert normalise(np.full((4, 4, 4), 7)).tolist() == np.full((4, 4, 4), -1.0).tolist()


def test_sizes_never_reach_zero():
    assert resampled_size((3, 200, 5), (0.1, 1.5, 8.0), 1.5) == (1, 200)


def test_neighbours_repeat_at_the_ends():
    slices = torch.arange(4.0)[:, None, None].expand(4, 2, 2)
    stacked = stack_neighbours(slices, [0, 2, 3])[:, :, 0, 0]
    assert stacked.tolist() == [[0, 0, 1], [1, 2, 3], [2, 3, 3]]


@pytest.mark.parametrize("step", [1, 8])
def test_a_window_s_corner_is_a_multiple_of_the_step(step):
    for start in range(20, 40):
        window = Window.from_centre(Box((start, 30), (start + 40, 80)), (200, 200), (1.5, 1.5), 1.5, 96, step)
        assert all(corner % step == 0 for corner in window.corner)
        assert abs(window.corner[0] + 48 - (start + 20)) <= step / 2


@pytest.mark.parametrize(
    ("drawn", "found"),
    [
        (Box((60, 60, 2), (80, 80, 4)), Box((10, 10, 2), (30, 30, 4))),  # beside the heart: it is looked for in the drawn slices
        (Box((60, 60, 7), (80, 80, 9)), None),  # in slices without it
        (Box((12, 12, 2), (16, 16, 4)), None),  # within it
        (Box((0, 0, 2), (90, 90, 4)), None),  # round it
        (Box((17, 10, 2), (37, 30, 4)), Box((10, 10, 2), (30, 30, 4))),  # 65 % of either
        (Box((15, 10, 2), (35, 30, 4)), None),  # 75 %
    ],
)
def test_a_box_is_beside_the_heart_unless_most_of_the_smaller_one_is_in_both(drawn, found):
    assert heart_beside(Box((10, 10, 0), (30, 30, 6)), drawn) == found
