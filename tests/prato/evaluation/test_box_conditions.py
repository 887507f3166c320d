"""Table VI's prompting conditions, property by property."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prato.evaluation.box_conditions import BoxCondition, perturb_box, seeded_rng
from prato.prompts.box import Box

SHAPE = (200, 220, 10)
tight_boxes = st.builds(
    lambda i, j, a, b: Box((i, j, 2), (i + a, j + b, 8)), st.integers(70, 90), st.integers(70, 90), st.integers(20, 60), st.integers(20, 60)
)

PUBLISHED = {
    "oversized": (56, 143, 62, 126, 2, 8),
    "partial": (80, 130, 90, 110, 2, 8),
    "misleading": (30, 80, 70, 110, 2, 8),
}
room = st.sampled_from([0, 1, 2, 9])


def draw(tight, condition, seed):
    return perturb_box(tight, SHAPE, condition, np.random.default_rng(seed))


@given(tight_boxes, st.integers(0, 1000))
def test_oversized_holds_the_target_and_is_up_to_twice_as_long(tight, seed):
    box = draw(tight, BoxCondition.oversized, seed)
    assert box.intersection(tight) == tight
    for a in (0, 1):
        assert 1.45 <= box.size[a] / tight.size[a] <= 2.05


@given(tight_boxes, st.integers(0, 1000))
def test_partial_is_half_of_it(tight, seed):
    box = draw(tight, BoxCondition.partial, seed)
    assert tight.intersection(box) == box
    assert box.in_plane.voxels / tight.in_plane.voxels == pytest.approx(0.5, abs=0.03)


@given(tight_boxes, st.integers(0, 1000))
def test_misleading_lies_beside_it(tight, seed):
    box = draw(tight, BoxCondition.misleading, seed)
    assert box.intersection(tight) is None
    assert box.size == tight.size


@given(st.tuples(*[st.tuples(room, st.integers(1, 9), room)] * 3), st.sampled_from(list(BoxCondition)), st.integers(0, 1000))
@example(((0, 4, 0),) * 3, BoxCondition.misleading, 0)
def test_however_little_room_there_is_a_box_lies_in_the_image(axes, condition, seed):
    shape = tuple(sum(axis) for axis in axes)
    tight = Box(tuple(before for before, _, _ in axes), tuple(before + size for before, size, _ in axes))
    box = perturb_box(tight, shape, condition, np.random.default_rng(seed))
    assert (box is None) == (condition is BoxCondition.none)
    assert box is None or box.intersection(Box.whole(shape)) == box
    if condition is BoxCondition.misleading:
        assert box == tight if tight.size[:2] == shape[:2] else box.intersection(tight) is None


@given(tight_boxes, st.integers(0, 1000), st.sampled_from(["tight", "oversized", "partial", "misleading"]))
def test_slices_are_the_target_s_and_the_seed_decides(tight, seed, name):
    box = draw(tight, BoxCondition(name), seed)
    assert (box.start[2], box.stop[2]) == (2, 8)
    assert box == draw(tight, BoxCondition(name), seed)


def test_none_and_tight():
    tight = Box((5, 5, 0), (9, 9, 3))
    assert draw(tight, BoxCondition.none, 0) is None
    assert draw(tight, BoxCondition.tight, 0) == tight


@given(tight_boxes, st.integers(0, 1000), st.sampled_from(list(BoxCondition)), st.sampled_from([[2, 0, 1], [0, 2, 1], [0, 1, 2]]))
def test_boxes_are_drawn_in_plane_whichever_axis_the_slices_lie_along(tight, seed, condition, order):
    shape = tuple(SHAPE[a] for a in order)
    found = perturb_box(tight.rearrange(order, (1, 1, 1), shape), shape, condition, np.random.default_rng(seed), order.index(2))
    usual = draw(tight, condition, seed)
    assert found == (usual and usual.rearrange(order, (1, 1, 1), shape))


def test_a_study_has_the_box_that_published_results_were_measured_with():
    assert seeded_rng(0, "tight", "patient001_ED").integers(0, 10**6, 3).tolist() == [619397, 781535, 347009]
    tight = Box((80, 70, 2), (130, 110, 8))
    drawn = {name: perturb_box(tight, SHAPE, BoxCondition(name), seeded_rng(0, name, "patient001_ED")) for name in PUBLISHED}
    assert {name: box.bounds for name, box in drawn.items()} == PUBLISHED
