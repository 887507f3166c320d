"""Clicks taken back and done again, whatever is painted in between; and how they are written on the wire."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from prato.prompts import clicks
from PratoLabelLib.measures.click_history import MAX_STEPS, ClickHistory, Stroke
from PratoLabelLib.measures.click_request import MAX_STROKES, MAX_VOXELS, apply_reply, describe_clicks, encode_mask
from tests.slicer_module.fake_clicks import decode

SHAPE = (3, 5, 6)
NAMES = ("background", "RV cavity", "myocardium", "LV cavity")


def stroke(value: int, *voxels: tuple[int, int, int]) -> Stroke:
    return Stroke(NAMES[value], value, np.array(voxels), np.array(voxels, float))


def refined(mask: np.ndarray, value: int, corner: tuple[int, int, int]) -> np.ndarray:
    """The reply to a click: two by two voxels."""
    k, j, i = corner
    changed = mask.copy()
    changed[k, j : j + 2, i : i + 2] = value
    return changed


def random_mask(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, SHAPE).astype(np.uint8)


_corner = st.tuples(*(st.integers(0, n - 1) for n in SHAPE))
_clicks = st.lists(st.tuples(st.integers(0, 3), _corner), min_size=1, max_size=8)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 99), _clicks, st.data())
def test_undo_and_redo_lead_through_the_same_states(seed: int, clicks: list[tuple[int, tuple[int, int, int]]], data: st.DataObject) -> None:
    states = [random_mask(seed)]
    history = ClickHistory(states[0])
    for value, corner in clicks:
        shown = history.record(stroke(value, corner[::-1]), states[-1], refined(states[-1], value, corner), states[-1], (), {})
        states.append(shown)
    at, mask = len(clicks), states[-1]
    for is_undo in data.draw(st.lists(st.booleans(), max_size=20)):
        if is_undo and history.can_undo:
            at, mask = at - 1, history.undo(mask)
        elif not is_undo and history.undone:
            at, mask = at + 1, history.redo(mask)
        assert np.array_equal(mask, states[at]) and len(history.strokes) == at
        assert not history.certain(mask).any()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 99), _clicks, st.lists(st.tuples(st.integers(0, 3), _corner), min_size=1, max_size=5))
def test_what_was_painted_survives_undo_and_is_certain(
    seed: int, clicks: list[tuple[int, tuple[int, int, int]]], strokes: list[tuple[int, tuple[int, int, int]]]
) -> None:
    mask = random_mask(seed)
    history = ClickHistory(mask)
    for value, corner in clicks:
        mask = history.record(stroke(value, corner[::-1]), mask, refined(mask, value, corner), mask, (), {})
    painted = mask.copy()
    for value, voxel in strokes:
        painted[voxel] = value
    touched = painted != mask
    assert np.array_equal(history.certain(painted), touched)
    while history.can_undo:
        painted_before, painted = painted, history.undo(painted)
        assert np.array_equal(painted[touched], painted_before[touched])


def test_as_many_clicks_are_kept_as_are_said_and_no_more() -> None:
    mask = random_mask(0)
    history = ClickHistory(mask)
    for n in range(MAX_STEPS + 20):
        corner = (n % SHAPE[0], n % SHAPE[1], n % SHAPE[2])
        mask = history.record(stroke(n % 4, corner[::-1]), mask, refined(mask, n % 4, corner), mask, (), {})
    taken_back = 0
    while history.can_undo:
        mask, taken_back = history.undo(mask), taken_back + 1
    assert taken_back == MAX_STEPS and len(history.strokes) == 20


def test_a_structure_that_is_locked_neither_gains_nor_loses_a_voxel() -> None:
    mask = random_mask(1)
    shown = ClickHistory(mask).record(stroke(1, (2, 2, 1)), mask, random_mask(2), mask, [2], {})
    assert np.array_equal(shown == 2, mask == 2) and (shown != mask).any()


def test_a_voxel_is_what_it_was_last_said_to_be() -> None:
    strokes = [stroke(1, (1, 1, 0), (2, 1, 0)), stroke(3, (1, 1, 0)), stroke(1, (4, 4, 2)), stroke(2, (4, 4, 2))]
    described = describe_clicks(strokes, 3)
    assert described == [
        {"structure": "RV cavity", "points": [[2, 1, 2]]},
        {"structure": "LV cavity", "points": [[1, 1, 2]]},
        {"structure": "myocardium", "points": [[4, 4, 0]]},
    ]
    many = [stroke(1, (n % 6, n // 6 % 5, n // 30)) for n in range(90)] * 4
    assert len(describe_clicks(many, None)) == MAX_STROKES
    assert (MAX_STROKES, MAX_VOXELS) == (clicks.MAX_STROKES, clicks.MAX_VOXELS)  # the server's


def test_of_large_clicks_the_newest_are_sent_that_the_server_takes() -> None:
    large = [stroke(value, *((i, j, k) for i in range(50) for j in range(40))) for k, value in ((0, 1), (1, 2), (2, 3))]
    assert [(each["structure"], len(each["points"])) for each in describe_clicks(large, None)] == [
        ("myocardium", 2000),
        ("LV cavity", 2000),
    ]
    just = stroke(1, *((i, j, 0) for i in range(64) for j in range(64)))
    assert [len(each["points"]) for each in describe_clicks([stroke(2, (0, 0, 1)), just], None)] == [MAX_VOXELS]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.booleans())
def test_a_mask_comes_back_as_it_was_sent(seed: int, is_reversed: bool) -> None:
    mask = random_mask(seed)
    sent = encode_mask(mask, is_reversed)
    assert np.array_equal(decode(sent), (mask[::-1] if is_reversed else mask).T)
    other = random_mask(seed + 1)
    assert np.array_equal(apply_reply(other, {"box": sent["box"], "mask": sent}, is_reversed), mask)
    assert np.array_equal(apply_reply(other, {"box": None}, is_reversed), other)
