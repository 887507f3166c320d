"""What a click may change, and what it may not: with a refiner whose weights are random, so that it changes all it can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prato.data.nifti import Volume
from prato.inference.image_stack import ImageStack
from prato.models.checkpoint import CheckpointError, model_preset, save_model
from prato.models.click_refiner import INPUTS, PLACED
from prato.prompts.box import Box
from prato.prompts.clicks import Stroke
from prato.prompts.mask_prompt import MaskPrompt
from prato.refinement.geometry import geometry
from prato.refinement.refiner import Refiner
from prato.refinement.refiner_input import alike, refiner_input, trace

SHAPE, SPACING = (150, 140, 5), (1.6, 1.5, 9.0)


def volume(seed: int = 0) -> Volume:
    grey = np.random.default_rng(seed).random(SHAPE).astype(np.float32)
    return Volume(grey, np.hstack([np.diag(SPACING), np.zeros((3, 1))]))


@pytest.fixture(scope="module")
def refiner() -> Refiner:
    torch.manual_seed(0)
    spec = model_preset("click_refiner")
    network = spec.build().eval()
    torch.nn.init.normal_(network.out.weight, std=60.0)
    return Refiner(network, spec, "0", torch.device("cpu"))


@pytest.fixture(scope="module")
def image() -> ImageStack:
    return ImageStack(volume())


def click(structure: int, *points: tuple[int, int, int]) -> Stroke:
    return Stroke(structure, np.array(points))


def previous(mask: np.ndarray | None = None, **known: Any) -> MaskPrompt:
    """The mask so far, ``start`` by default."""
    mask = start() if mask is None else mask
    return MaskPrompt(mask, Box.whole(mask.shape), **known)


def start() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[50:100, 40:90, 1:4] = 2
    mask[60:90, 50:80, 1:4] = 3
    return mask


places = st.tuples(st.integers(0, 149), st.integers(0, 139), st.integers(0, 4))


@settings(max_examples=40, deadline=None)
@given(places, st.integers(0, 3))
def test_all_outside_the_named_region_stays_bit_for_bit_and_the_click_is_honoured(refiner, image, place, structure):
    before = start()
    found = refiner.refine(image, previous(before), [click(structure, place)])
    assert np.array_equal(before, start())
    assert found.mask[place] == structure
    assert found.changed == np.count_nonzero(found.mask != before)
    if found.box is None:
        assert before[place] == structure and np.array_equal(found.mask, before)
    else:
        outside = found.mask.copy()
        outside[found.box.slices] = before[found.box.slices]
        assert np.array_equal(outside, before)


@pytest.mark.parametrize("k", [0, 2, 4])
def test_blank_slices_that_were_added_change_nothing(refiner, image, k):
    added = [(0, 0), (0, 0), (3, 2)]
    longer = ImageStack(Volume(np.pad(image.stored.array, added), image.stored.affine))
    before, stroke, right = start(), click(1, (75, 65, k)), {1, 3}
    found = refiner.refine(image, previous(before, right=right - {k}), [stroke])
    moved = refiner.refine(longer, previous(np.pad(before, added), right={n + 3 for n in right - {k}}), [click(1, (75, 65, k + 3))])
    assert found.changed > 20 and np.array_equal(np.pad(found.mask, added), moved.mask)


def test_it_changes_more_than_the_clicked_voxel(refiner, image):
    assert refiner.refine(image, previous(), [click(1, (75, 65, 2))]).changed > 20


def touch(one: Box, other: Box) -> bool:
    """In one slice, a network's pixel at the border of one region can show a voxel of the other that lies next to it."""
    (i, j, k), (x, y, z) = one.start, one.stop
    return Box((max(i - 2, 0), max(j - 2, 0), k), (x + 2, y + 2, z)).intersection(other) is not None


@settings(max_examples=25, deadline=None)
@example((0, 0, 0), (0, 74, 0), 1, 1)
@example((0, 0, 0), (0, 80, 0), 1, 1)
@given(places, places, st.integers(0, 3), st.integers(0, 3))
def test_clicks_whose_regions_do_not_touch_may_come_in_either_order(refiner, image, one, other, first, second):
    strokes = [click(first, one), click(second, other)]
    alone = [refiner.refine(image, previous(), [stroke]).box for stroke in strokes]
    if all(alone) and not touch(*alone):
        there, back = (refiner.refine(image, previous(), order).mask for order in (strokes, strokes[::-1]))
        assert np.array_equal(there, back)


@settings(max_examples=25, deadline=None)
@given(places)
def test_a_click_on_what_is_right_already_changes_nothing(refiner, image, place):
    found = refiner.refine(image, previous(), [click(int(start()[place]), place)])
    assert found.box is None and found.changed == 0


def test_what_is_certain_and_what_was_clicked_before_survives(refiner, image):
    certain = np.zeros(SHAPE, bool)
    certain[70:80, 60:70, 2] = True
    old, new = click(1, (68, 66, 2)), click(2, (75, 75, 2), (76, 75, 2))
    found = refiner.refine(image, previous(certain=certain), [old, new], 1)
    assert np.array_equal(found.mask[certain], start()[certain])
    assert found.mask[68, 66, 2] == 1 and (found.mask[75:77, 75, 2] == 2).all()
    assert found.changed > 2


def test_a_click_wins_over_paint_on_its_own_voxel(refiner, image):
    certain = np.ones(SHAPE, bool)
    found = refiner.refine(image, previous(certain=certain), [click(1, (75, 65, 2))])
    assert found.mask[75, 65, 2] == 1 and found.changed == 1


def test_slices_that_are_right_stay_and_others_follow(refiner, image):
    found = refiner.propagate(image, previous(right=(1,), propagate_to=(2, 3, 4)))
    assert np.array_equal(found.mask[:, :, :2], start()[:, :, :2])
    assert all((found.mask[:, :, k] != start()[:, :, k]).any() for k in (2, 3))
    assert refiner.propagate(image, previous(right=(1,), propagate_to=(4,))).changed == 0  # nothing beside it is known


def test_what_is_right_beside_a_slice_matters(refiner, image):
    strokes = [click(1, (75, 65, 2))]
    assert not np.array_equal(refiner.refine(image, previous(), strokes).mask, refiner.refine(image, previous(right=(1, 3)), strokes).mask)


def test_a_long_scribble_is_honoured_all_along(refiner, image):
    line = np.array([(i, 70, 2) for i in range(5, 145)])
    found = refiner.refine(image, previous(), [Stroke(1, line)])
    assert (found.mask[tuple(line.T)] == 1).all()


def test_an_untrained_refiner_paints_the_click_alone(image):
    spec = model_preset("click_refiner")
    plain = Refiner(spec.build().eval(), spec, "0", torch.device("cpu"))
    assert plain.refine(image, previous(), [click(1, (75, 65, 2))]).changed == 1


def test_a_file_of_another_kind_is_refused(tmp_path):
    spec = model_preset("unetr")
    save_model(tmp_path / "other.safetensors", spec.build(), spec)
    with pytest.raises(CheckpointError, match="corrects no mask"):
        Refiner.from_file(tmp_path / "other.safetensors")


def test_the_input_has_the_channels_that_the_network_takes():
    blank = np.zeros((8, 8), np.uint8)
    made = refiner_input(np.zeros((3, 8, 8), np.float32), blank, [(1, np.array([[2, 3]]))], None, blank > 0, [blank, None], None)
    assert made.shape == (INPUTS, 8, 8) and made.dtype == np.float32
    assert made[8, 2, 3] == 1 and made[8].max() == 1 and made[7].max() == 0


def test_a_perceptron_is_told_distances_in_the_units_of_its_training():
    mask = np.zeros((20, 20), np.uint8)
    mask[:, :10] = 2
    scores = np.zeros((4, 20, 20), np.float32)
    scores[0], scores[2] = 0.3, 0.6
    found = geometry(np.zeros((20, 20), np.float32), mask, scores, (2, np.array([[8, 13]])))
    # of a pixel 3 rows and 3 columns beyond a click that lies 4 pixels beyond the contour
    distances = [np.hypot(3, 3) / 40, 0.7, 0.4, 0.7, 0.7, 0.4, 3 / 20, 3 / 5 / 4]
    shares = [0.0, 0.0, 0.3, 0.3, 0.0, *[0.0] * 5, np.sqrt(0.2), np.sqrt(0.2)]
    assert found[:16, 11, 16].tolist() == pytest.approx([0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0.3, 0, 0.6, 0])
    assert found[16:, 11, 16].tolist() == pytest.approx([*distances, *shares])


def test_what_was_clicked_fades_and_pixels_are_compared_with_it():
    grey, mask, scores = np.zeros((16, 16), np.float32), np.zeros((16, 16), np.uint8), np.zeros((4, 16, 16), np.float32)
    grey[8], grey[9] = 0.25, -0.9
    scores[2, :, :8], scores[2, :, 12:] = 0.5, 0.4
    mask[:, 5] = 2  # is of the structure already
    stroke = 2, np.array([[8, 2], [20, 2]])  # the second beyond the picture
    assert trace(stroke[1], (16, 16))[8, [2, 5, 8]] == pytest.approx(np.exp([0, -0.5, -2]))
    found = alike(grey, mask, scores, stroke)
    assert found[0, [0, 8, 9], 3].tolist() == [-0.5, 0, -1]
    assert found[1, 3, [2, 9, 14]] == pytest.approx([0, -1, -0.2])
    assert (found[2].sum(0) == [*[16] * 5, *[0] * 11]).all()  # what is as likely further on does not reach the stroke
    assert not alike(grey, mask, scores, None).any() and not alike(grey, mask, scores, (2, stroke[1][1:])).any()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(0, 3), st.tuples(st.integers(-2, 17), st.integers(-2, 15)))
def test_where_pixels_lie_is_finite_and_turns_with_the_picture(seed, structure, place):
    random = np.random.default_rng(seed)
    mask = np.kron(random.integers(0, 4, (4, 4)), np.ones((4, 4), int)).astype(np.uint8)
    mask = np.where(random.random() < 0.2, 0, mask).astype(np.uint8)
    grey, scores = random.random((16, 16), np.float32), random.random((4, 16, 16), np.float32)
    found = geometry(grey, mask, scores, (structure, np.array([place])))
    assert found.shape == (PLACED, 16, 16) and np.isfinite(found).all() and np.abs(found).max() <= 4
    assert np.abs(found[28]).max() <= 1  # how much surer than at the click
    if not all(0 <= side < 16 for side in place):
        assert not found.any()
        return
    assert (found[:4].argmax(0) == structure).all()  # what the network's answer goes to
    i, j = place
    assert found[16, i, j] == 0 and found[17, i, j] == found[18, i, j]
    turned = geometry(np.rot90(grey), np.rot90(mask), np.rot90(scores, axes=(1, 2)), (structure, np.array([[15 - j, i]])))
    exact = [*range(18), 20, 21, *range(24, 29)]  # others may choose another of contour pixels that are equally near
    assert np.allclose(np.rot90(found, axes=(1, 2))[exact], turned[exact], atol=1e-5)
