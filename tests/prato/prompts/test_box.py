"""The box type: what a client sends becomes half-open voxel bounds, or one sentence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prato.prompts.base import PromptError
from prato.prompts.box import MAX_BOXES, Box, BoxPrompt

SHAPE = (40, 30, 8)


def test_plain_bounds_are_kept():
    assert Box.from_bounds([3, 20, 4, 25, 1, 6], SHAPE).bounds == (3, 20, 4, 25, 1, 6)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ([20, 3, 25, 4, 6, 1], (3, 20, 4, 25, 1, 6)),  # every axis reversed
        ([-5, 100, 4, 25, -1, 99], (0, 40, 4, 25, 0, 8)),  # clipped to the image
        ([3.4, 19.2, 4, 25, 1, 6], (3, 20, 4, 25, 1, 6)),  # widened to whole voxels
        ([3, 20, 4, 25, 5, 5], (3, 20, 4, 25, 5, 6)),  # one flat axis grows to the voxel it lies in
        ([3, 20, 4, 25, 5.5, 5.5], (3, 20, 4, 25, 5, 6)),
    ],
)
def test_bounds_are_sorted_clipped_and_grown(bounds, expected):
    assert Box.from_bounds(bounds, SHAPE).bounds == expected


@pytest.mark.parametrize(
    ("bounds", "word"),
    [
        ([1, 2, 3], "6 voxel bounds"),
        ("1,2,3,4,5,6", "6 voxel bounds"),
        (7, "6 voxel bounds"),
        ({"i": 1}, "6 voxel bounds"),
        ([1, 2, 3, 4, 5, "x"], "finite numbers"),
        ([1, 2, 3, 4, 5, float("nan")], "finite numbers"),
        ([1, 2, 3, 4, 5, float("inf")], "finite numbers"),
        ([1, 2, 3, 4, 5, None], "finite numbers"),
        ([1, 2, 3, 4, 5, 10**400], "finite numbers"),
        ([1, 2, 3, 4, 5, True], "finite numbers"),
        ([4, 4, 5, 5, 0, 3], "no area"),
        ([40, 50, 0, 10, 0, 3], "outside"),
        ([-9, 0, 0, 10, 0, 3], "outside"),
        ([3, 9, 3, 9, 8, 8], "outside"),
    ],
)
def test_unusable_bounds_are_refused_in_one_sentence(bounds, word):
    with pytest.raises(PromptError, match=word) as caught:
        Box.from_bounds(bounds, SHAPE)
    assert "\n" not in str(caught.value)


def test_only_so_many_boxes_are_taken_at_a_time():
    """Each is computed by itself: a request with thousands would keep the server from all others."""
    box = [3, 20, 4, 25, 1, 6]
    assert len(BoxPrompt.from_request({"roi": [box] * MAX_BOXES}, SHAPE, (1.0, 1.0, 1.0))) == MAX_BOXES
    with pytest.raises(PromptError, match=f"roi holds {MAX_BOXES + 1} boxes: send at most {MAX_BOXES} at a time"):
        BoxPrompt.from_request({"roi": [box] * (MAX_BOXES + 1)}, SHAPE, (1.0, 1.0, 1.0))


def test_a_plane_box_has_four_bounds():
    assert Box.from_bounds([1, 5, 2, 6], (10, 10)).size == (4, 4)
    with pytest.raises(PromptError, match="4 voxel bounds"):
        Box.from_bounds([1, 5, 2, 6, 0, 1], (10, 10))


@given(st.lists(st.floats(-60, 60), min_size=6, max_size=6))
def test_what_is_accepted_lies_in_the_image_and_is_never_empty(bounds):
    try:
        box = Box.from_bounds(bounds, SHAPE)
    except PromptError:
        return
    assert all(0 <= a < b <= n for a, b, n in zip(box.start, box.stop, SHAPE))
    assert np.ones(SHAPE)[box.slices].size == box.voxels


def test_around_finds_the_tight_box():
    mask = np.zeros(SHAPE)
    mask[3, 7, 2] = mask[10, 5, 4] = 1
    assert Box.around(mask).bounds == (3, 11, 5, 8, 2, 5)
    assert Box.around(np.zeros(SHAPE)) is None


def test_union_and_intersection():
    a, b = Box((0, 0, 0), (4, 4, 4)), Box((3, 2, 1), (6, 6, 6))
    assert Box.union([a, b]).bounds == (0, 6, 0, 6, 0, 6)
    assert a.intersection(b).bounds == (3, 4, 2, 4, 1, 4)
    assert a.intersection(Box((4, 0, 0), (5, 1, 1))) is None


@pytest.mark.parametrize(("start", "stop"), [((1, 2), (3, 4, 5)), ((1, 2, 3, 4), (5, 6, 7, 8)), ((1,), (2,))])
def test_a_box_has_as_many_stops_as_starts_on_two_or_three_axes(start, stop):
    with pytest.raises(PromptError, match="2 or 3 axes"):
        Box(start, stop)


def test_of_what_is_no_box_only_the_beginning_is_repeated():
    with pytest.raises(PromptError, match="finite numbers") as short:
        Box.from_bounds(["a", 1, 2, 3], (9, 9))
    with pytest.raises(PromptError) as long:
        Box.from_bounds([*"abc", "d" * 1000], (9, 9))
    assert "['a', 1, 2, 3]." in str(short.value) and "ddd..." in str(long.value) and len(str(long.value)) < 160


def test_an_empty_box_cannot_be_made():
    with pytest.raises(PromptError, match="start < stop"):
        Box((1, 1, 1), (1, 2, 2))
