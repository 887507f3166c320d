"""Clicks, scribbles and masks as requests hold them: what is read, and what is refused in one sentence."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prato.inference.request import Corrections, InferenceRequest, RequestError, require_heart
from prato.prompts.batch import PixelGrid, PromptBatch
from prato.prompts.box import Box
from prato.prompts.clicks import ClickPrompt, Stroke
from prato.prompts.mask_prompt import decode_part, encode_part

SHAPE, SPACING = (30, 24, 6), (1.5, 1.5, 8.0)


def corrections(**params: Any) -> Corrections | None:
    return InferenceRequest.parse(params).corrections(SHAPE, SPACING)


def part(mask: np.ndarray | None = None, box: tuple[int, ...] = (0, 30, 0, 24, 1, 4)) -> dict[str, Any]:
    return encode_part(np.zeros(SHAPE, np.uint8) if mask is None else mask, Box(box[::2], box[1::2]))


def click(structure: Any, *points: Any) -> dict[str, Any]:
    return {"structure": structure, "points": list(points)}


def test_clicks_scribbles_and_the_points_of_stock_clients_are_strokes():
    found = corrections(clicks=[click("RV", [1, 2, 3]), click("background", [4, 5, 2], [4, 6, 2])], LV=[[9, 9, 1]], background=[7, 7, 1])
    assert found is not None and found.masks is None and found.done == 0
    assert [(stroke.structure, stroke.points.tolist()) for stroke in found.strokes] == [
        (3, [[9, 9, 1]]),
        (0, [[7, 7, 1]]),
        (1, [[1, 2, 3]]),
        (0, [[4, 5, 2], [4, 6, 2]]),
    ]
    assert corrections(foreground=[[1, 2, 3]], roi=[0, 9, 0, 9, 0, 5]) is None


def test_masks_come_whole_or_in_part():
    mask = np.zeros(SHAPE, np.uint8)
    mask[3, 4, 2] = 3
    found = corrections(previous=part(mask), certain=part(mask, (0, 9, 0, 9, 2, 3)), right_slices=[2], propagate_to=[3, 1])
    assert found is not None and found.masks is not None
    masks = found.masks
    assert np.array_equal(masks.mask, mask) and masks.certain is not None
    assert np.argwhere(masks.certain).tolist() == [[3, 4, 2]]
    assert (masks.right, masks.propagate_to) == ((2,), (1, 3))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_what_is_encoded_is_decoded(data):
    shape = tuple(data.draw(st.integers(1, 6)) for _ in range(3))
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape))
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 4, shape).astype(np.uint8)
    box, values = decode_part("previous", encode_part(mask, Box(start, stop)), shape)
    assert box == Box(start, stop) and np.array_equal(values, mask[box.slices])


BOMB = {"box": [0, 30, 0, 24, 1, 4], "data": base64.b64encode(zlib.compress(bytes(10**6))).decode()}


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"clicks": "here"}, "clicks must be a list"),
        ({"clicks": [[1, 2, 3]]}, "A click must be"),
        ({"clicks": [click("liver", [1, 2, 3])]}, "must be one of background, RV cavity, myocardium, LV cavity, not 'liver'"),
        ({"clicks": [click(None, [1, 2, 3])]}, "must be one of"),
        ({"clicks": [click("RV")]}, "has no points"),
        ({"clicks": [click("RV", [1, 2, 6])]}, "outside the image of 30x24x6"),
        ({"clicks": [click("RV", [1, 2, float("nan")])]}, "three finite voxel indices"),
        ({"clicks": [click("RV", [1, 2, float("inf")])]}, "three finite voxel indices"),
        ({"clicks": [click("RV", [True, 2, 3])]}, "three finite voxel indices"),
        ({"LV": [1, 2, True]}, "three finite voxel indices"),
        ({"LV": [[1, 2, 10**400]]}, "outside the image of 30x24x6"),
        ({"clicks": [click("RV", [1, 2, 3], [1, 2, 4])]}, "crosses 2 slices"),
        ({"clicks": [click("RV", [1, 2, 3]), click("LV", [1, 2, 3])]}, r"\[1, 2, 3\] cannot be both RV cavity and LV cavity"),
        ({"LV": [[1, 2, 3]], "background": [[1, 2, 3]]}, "cannot be both"),
        ({"foreground": [[5, 5, 5], [1.9, 2, 3]], "background": [1, 2, 3]}, r"\[1, 2, 3\] cannot be both foreground and background"),
        ({"LV": [[n % 30, n // 30 % 24, 3] for n in range(1000)]}, "1000 clicks and points: send at most 256"),
        ({"clicks": [click("RV", *[[n % 30, n // 30 % 24, 3] for n in range(100_000)])]}, "100000 points: send at most 4096"),
        ({"clicks": [click("RV", *[[n % 30, n // 30 % 24, 3] for n in range(700)])] * 7}, "hold 4900 points"),
        ({"done": 1}, "send the mask as previous"),
        ({"right_slices": [1]}, "send the mask as previous"),
        ({"previous": part(), "done": 1}, "done must be how many of 0 clicks"),
        ({"previous": part(), "done": True}, "done must be"),
        ({"previous": "mask"}, "previous must be"),
        ({"previous": {**part(), "shape": [30, 24, 7]}}, r"of an image of shape \[30, 24, 7\], not of this one of 30x24x6"),
        ({"previous": {**part(), "box": [0, 30, 0, 25, 1, 4]}}, "does not lie in the image"),
        ({"previous": {**part(), "box": [0, 30, 0, 1.5, 1, 4]}}, "six whole numbers"),
        ({"previous": {**part(), "data": "???"}}, "not zlib"),
        ({"previous": {**part(), "data": 3}}, "not zlib"),
        ({"previous": {**part(), "dtype": "float32"}}, "must have dtype 'uint8'"),
        ({"previous": BOMB}, "must be 2160 bytes"),
        ({"previous": part(np.full(SHAPE, 7, np.uint8))}, "values from 0 to 3, not 7"),
        ({"previous": part(), "certain": part(box=(0, 30, 0, 24, 0, 4))}, "certain reaches beyond the box of previous"),
        ({"previous": part(box=(0, 30, 4, 24, 1, 4))}, r"holds only a part of its slices, \[0, 30, 4, 24, 1, 4\]: send them whole"),
        ({"previous": part(), "right_slices": 2}, "list of slice numbers"),
        ({"previous": part(), "right_slices": [5]}, "names slice 5, but previous has only the slices 1 to 3"),
        ({"previous": part(), "right_slices": [2], "propagate_to": [2]}, "Slice 2 is both in right_slices and in propagate_to"),
        ({"previous": part(), "propagate_to": [2]}, "Slice 2 has no right slice to follow"),
        ({"previous": part(), "clicks": [click("RV", [1, 2, 5])]}, "slice 5, which previous does not hold"),
        ({"previous": part(), "clicks": [click("RV", [1, 2, 3])], "right_slices": [3]}, "right_slices lists as right"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(params, words):
    with pytest.raises(RequestError, match=words) as caught:
        corrections(**params)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_clicks_alone_are_of_the_model_s_own_mask_and_previous_holds_one():
    alone = InferenceRequest.parse({"clicks": [click("RV", [1, 2, 3])], "device": "cpu"})
    assert alone.holds_clicks and not alone.holds_mask
    assert all(InferenceRequest.parse({name: sent}).holds_mask for name, sent in (("previous", part()), ("done", 1), ("propagate_to", [2])))


@pytest.mark.parametrize(("slices", "words"), [({1}, "is on slice 1 alone"), ({3, 1, 2}, "reaches from slice 1 to 3")])
def test_a_click_farther_from_the_heart_than_the_next_slice_is_refused(slices, words):
    beside, away, farther = (Stroke(1, np.array([[4, 6, max(slices) + n]])) for n in (1, 2, 4))
    require_heart([beside], slices, 2)
    require_heart([away], set(), 2)  # where no heart is known
    require_heart([Stroke(0, away.points)], slices, 2)  # there is none, it says
    require_heart([beside, away], slices, 2)  # both at once as one after the other
    for strokes in ([away], [Stroke(0, beside.points), away], [beside, away, farther]):
        with pytest.raises(RequestError, match=words):
            require_heart(strokes, slices, 2)


def test_clicks_that_lead_away_from_the_heart_are_taken_on_either_side():
    below, beside = (Stroke(2, np.array([[4, 6, k]])) for k in (1, 2))
    require_heart([below, beside], {3, 4}, 2)
    with pytest.raises(RequestError, match="slice 1, but the heart reaches from slice 3 to 4"):
        require_heart([below], {3, 4}, 2)


def test_a_click_on_a_structure_is_a_query_where_it_lies():
    (prompt,) = ClickPrompt.from_strokes([Stroke(1, np.array([[4, 6, 2], [5, 6, 2]])), Stroke(0, np.array([[1, 1, 1]]))])
    assert prompt.place == (5.0, 6.5, 2.5) and prompt.box == Box((4, 6, 2), (6, 7, 3))
    batch = PromptBatch.from_voxels([[prompt]], (30, 24), PixelGrid((0, 1), (1.0, 1.0), (0, 0)))
    features = torch.arange(5 * 4).float().view(1, 1, 5, 4)  # cells of 6 pixels
    queries, valid = batch.queries(features, 3)
    assert queries.shape == (1, 1, 1) and valid.all()
    assert queries.item() == pytest.approx((5 / 6 - 0.5) * 4 + (6.5 / 6 - 0.5), abs=1e-4)
    assert batch.pinned((5, 4)).view(5, 4).nonzero().tolist() == [[0, 1]]


@pytest.mark.parametrize(("place", "tokens"), [(5.995, [[0, 1]]), (6.0, [[1, 1]]), (29.5, [[4, 1]]), (30.0, [])])
def test_a_click_keeps_the_one_token_that_it_lies_in_and_beyond_the_input_none(place, tokens):
    batch = PromptBatch.of(ClickPrompt, [[[[place, 7.0]]]], (30, 24))
    assert batch.is_empty == (not tokens)
    assert batch.protected((5, 4)).view(5, 4).nonzero().tolist() == tokens
