"""Box prompts of a batch, degenerate ones among them."""

import pytest
import torch

from prato.prompts.box import Box
from prato.prompts.box_prompts import BoxPrompts

SIZE = (100, 80)


def build(*per_sample):
    return BoxPrompts.build(per_sample, SIZE)


def test_boxes_keep_their_sample():
    prompts = build([Box((0, 0), (10, 10))], [], [Box((5, 5), (9, 9)), Box((20, 20), (30, 40))])
    assert prompts.sample.tolist() == [0, 2, 2]
    assert prompts.prompted.tolist() == [True, False, True]
    assert prompts.boxes[2].tolist() == [[20.0, 20.0], [30.0, 40.0]]


@pytest.mark.parametrize(
    "box",
    [
        ((10.0, 10.0), (10.5, 10.5)),  # less than a pixel
        ((10.0, 10.0), (10.0, 10.0)),  # a point
        ((100.5, 10.0), (140.0, 30.0)),  # outside
        ((-20.0, 10.0), (-1.0, 30.0)),
        ((100.0, 10.0), (140.0, 30.0)),  # touches it from outside
        ((-20.0, 10.0), (0.0, 30.0)),
        ((99.6, 10.0), (140.0, 11.0)),  # less than a pixel is left inside
    ],
)
def test_a_box_with_less_than_a_pixel_inside_is_no_box(box):
    assert not build([box]).prompted.any()


def test_boxes_are_sorted_and_clipped():
    assert build([((90.0, 20.0), (120.0, 10.0))]).boxes[0].tolist() == [[90.0, 10.0], [100.0, 20.0]]


def test_a_line_is_a_box():
    assert build([((10.0, 20.0), (10.0, 40.0))]).prompted.all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_a_number_is_refused(value):
    with pytest.raises(ValueError, match="finite"):
        build([((0.0, value), (10.0, 10.0))])


def test_a_volume_box_is_refused_on_a_plane():
    with pytest.raises(ValueError, match="2 axes"):
        build([Box((0, 0, 0), (5, 5, 5))])


def test_none_prompts_nobody():
    assert BoxPrompts.none(3, 2).prompted.tolist() == [False] * 3
    assert torch.equal(BoxPrompts.none(3, 2).boxes, build([], [], []).boxes)
