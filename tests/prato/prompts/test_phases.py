"""Phases as requests name them, and boxes that move between those that were drawn."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prato.prompts.base import PromptError
from prato.prompts.box import Box
from prato.prompts.phases import parse_phases, prompts_by_phase

SHAPE, SPACING = (60, 50, 10), (1.5, 1.5, 8.0)


@pytest.mark.parametrize(("sent", "read"), [(None, None), ("all", "all"), (0, 0), ([3, 1, 3], (1, 3)), ((2,), (2,))])
def test_phases_are_read(sent, read):
    assert parse_phases(sent) == read


@pytest.mark.parametrize("sent", ["ED", "0", True, [True], 1.0, [0, "1"], [], {}, {"0": 1}, [[0]]])
def test_what_is_no_phase_is_refused(sent):
    with pytest.raises(ValueError, match=r'^phases must be a phase\'s number from 0, a list of such numbers or "all", not '):
        parse_phases(sent)


def test_boxes_move_linearly_and_over_the_end_of_the_cycle():
    one, other = [0, 20, 10, 30, 0, 10], [10, 40, 10, 30, 4, 8]
    found = prompts_by_phase({"2": one, "6": other}, 10, SHAPE, SPACING)
    bounds = {t: list(prompts[0].box.bounds) for t, prompts in found.items()}
    assert (bounds[2], bounds[6]) == (one, other)
    assert bounds[4] == [5, 30, 10, 30, 2, 9]
    assert bounds[9] == [5, 30, 10, 30, 2, 9]  # three of six phases from 6 to 2
    assert bounds[0][0] == 3 and bounds[1][0] == 2


def bounds(draw_size):
    return st.tuples(st.integers(0, draw_size - 1), st.integers(1, draw_size)).map(lambda ab: (min(ab[0], ab[1] - 1), ab[1]))


boxes = st.tuples(*(bounds(n) for n in SHAPE)).map(lambda axes: [int(v) for ab in axes for v in ab])


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.integers(0, 11), boxes, min_size=1, max_size=4))
def test_a_moved_box_lies_between_those_that_were_drawn(drawn):
    found = prompts_by_phase({str(t): box for t, box in drawn.items()}, 12, SHAPE, SPACING)
    assert set(found) == set(range(12))
    around = Box.union(Box.from_bounds(box, SHAPE) for box in drawn.values())
    for t, (prompt,) in found.items():
        assert Box.union((around, prompt.box)) == around
        if t in drawn:
            assert list(prompt.box.bounds) == drawn[t]


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.integers(0, 11), boxes, min_size=1, max_size=4))
def test_in_a_mirrored_image_a_box_moves_the_same_way(drawn):
    mirrored = {t: [SHAPE[0] - box[1], SHAPE[0] - box[0], *box[2:]] for t, box in drawn.items()}
    ours, theirs = (prompts_by_phase({str(t): box for t, box in each.items()}, 12, SHAPE, SPACING) for each in (drawn, mirrored))
    for t, (prompt,) in ours.items():
        assert theirs[t][0].box == prompt.box.rearrange((0, 1, 2), (-1, 1, 1), SHAPE)


@pytest.mark.parametrize(
    ("roi", "said"),
    [
        ({"12": [0, 9, 0, 9, 0, 9]}, "roi has a box for phase 12, but the image has phases 0 to 11"),
        ({"-1": [0, 9, 0, 9, 0, 9]}, "or bounds by phase"),
        ({"9" * 5000: [0, 9, 0, 9, 0, 9]}, "or bounds by phase"),
        ({"0": [0, 9, 0, 9, 0, 9], "00": [0, 8, 0, 8, 0, 8]}, "'00' is not a phase"),
        ({"²": [0, 9, 0, 9, 0, 9]}, "or bounds by phase"),
        ({"0": [0, 9, 0, 9, 0, 9], "5": [[0, 9, 0, 9, 0, 9], [0, 9, 0, 9, 0, 9]]}, "the same number of boxes for each phase"),
        ({"0": []}, "the same number of boxes for each phase"),
        ({"0": {"1": [0, 9, 0, 9, 0, 9]}}, "roi must be 6 voxel bounds"),
        ({"0": [90, 99, 0, 9, 0, 9]}, "lies outside the image"),
    ],
)
def test_boxes_that_cannot_be_used(roi, said):
    with pytest.raises(PromptError, match=said):
        prompts_by_phase(roi, 12, SHAPE, SPACING)
