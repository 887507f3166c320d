"""Corrections carried to the other phases: keys stay as they are, the cycle has no end, and a heart that moves is followed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from prato.data.cine import read_cine, write_cine
from prato.inference.prediction import CinePrediction, Prediction
from prato.prompts.box import Box
from prato.propagation.motion import compose, invert, register
from prato.propagation.propagate import CorrectedPhases, Propagation, propagate
from prato.runtime.cancel_token import CancelledError, CancelToken

SPACING = (1.5, 1.5)
GREY = np.array([40, 200, 90, 220], np.float32)


def beating(count, wobble, depth, wall=5.0, seed=0):
    """A ring round a disc and a disc beside it, (56, 56, 2, count) each: masks, and grey values in which they are blurred and noisy."""
    i, j = np.meshgrid(np.arange(56.0), np.arange(56.0), indexing="ij")
    masks = np.zeros((56, 56, 2, count), np.uint8)
    for t in range(count):
        ejected = (1 - np.cos(2 * np.pi * t / count)) / 2
        angle = 2 * np.pi * t / count
        far = np.hypot(i - 30 - wobble * np.sin(angle), j - 28 - wobble * np.cos(angle))
        radius = 11 - depth * ejected
        masks[np.hypot(i - 14 - wobble * np.sin(angle), j - 28) < 8 - depth * ejected / 2, :, t] = 1
        masks[far < radius + wall, :, t] = 2
        masks[far < radius, :, t] = 3
    noise = np.random.default_rng(seed).normal(0, 4, masks.shape)
    return masks, gaussian_filter(GREY[masks], (0.8, 0.8, 0, 0)) + noise.astype(np.float32)


def follow(predicted, images, keys, truth):
    follower = Propagation(predicted, {key: truth[..., key] for key in keys}, SPACING)
    motion = follower.find_motion(lambda t: images[..., t])
    trust = follower.choose_trust(motion)
    return {t: follower.mask(t, moved, trust) for t, moved in follower.move(motion)}


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(wobble=st.floats(0, 2), depth=st.floats(1, 5), count=st.integers(6, 10), seed=st.integers(0, 99))
def test_a_heart_that_beats_and_moves_is_followed_from_two_keys(wobble, depth, count, seed):
    truth, images = beating(count, wobble, depth, seed=seed)
    predicted, _ = beating(count, wobble, depth, wall=3.0)  # the network draws every wall too thin
    found = follow(predicted, images, [0, count // 2], truth)
    assert set(found) == set(range(count)) - {0, count // 2}
    left, before = ({t: (masks[t] != truth[..., t]).sum() for t in found} for masks in (found, np.moveaxis(predicted, -1, 0)))
    assert sum(left.values()) < 0.5 * sum(before.values())
    assert all(left[t] < before[t] for t in found)


@pytest.mark.slow
def test_one_key_is_followed_by_the_phases_beside_it_and_does_no_harm_far_away():
    truth, images = beating(12, 1.0, 4.0)
    predicted, _ = beating(12, 1.0, 4.0, wall=4.0)
    predicted[..., 6] = truth[..., 6]  # what the network knows by itself
    found = follow(predicted, images, [0], truth)
    left = {t: (found[t] != truth[..., t]).sum() for t in found}
    for t in (1, 11):
        assert left[t] < 0.5 * (predicted[..., t] != truth[..., t]).sum()
    assert left[6] < 0.1 * (predicted[..., 5] != truth[..., 5]).sum()


@pytest.mark.slow
def test_where_nothing_was_wrong_nothing_changes_much_and_the_cycle_has_no_end():
    truth, images = beating(8, 1.0, 4.0)
    found = follow(truth, images, [1, 5], truth)
    assert all((found[t] != truth[..., t]).mean() < 0.02 for t in found)
    turned = follow(np.roll(truth, 3, -1), np.roll(images, 3, -1), [4, 0], np.roll(truth, 3, -1))
    assert {(t + 3) % 8 for t in found} == set(turned)
    for t, mask in found.items():
        np.testing.assert_array_equal(turned[(t + 3) % 8], mask)


def test_displacements_lead_there_and_back():
    _, images = beating(2, 2.0, 3.0)
    planes = [((images[..., t] - images.mean()) / images.std()).transpose(2, 0, 1) for t in range(2)]
    there = register(*planes)
    assert there.shape == (2, 2, 56, 56) and there.dtype == np.float32 and np.abs(there).max() > 1
    assert np.abs(compose(there, invert(there))).mean() < 0.1


def prediction_of(masks, phases):
    """As a network would have made ``masks``."""
    box = Box.whole(masks.shape[:3])
    one = {"tokens": None, "box": box, "box_source": "proposed", "kept_fraction": {}, "gflops": 1.0, "gflops_dense": 1.0, "latency_ms": {}}
    one |= {"model_version": "0", "slices": masks.shape[2]}
    found = [Prediction(mask=masks[..., t], warnings=["mask_is_empty"] if t == 0 else [], **one) for t in phases]
    return CinePrediction(masks, tuple(phases), tuple(found), (1.5, 1.5, 8.0), 2, True)


@pytest.fixture
def cine(tmp_path):
    truth, images = beating(6, 1.0, 4.0)
    write_cine(tmp_path / "beat.nii.gz", images.astype(np.int16), np.diag([1.5, 1.5, 8.0, 1.0]), 150)
    return read_cine(tmp_path / "beat.nii.gz"), truth


@pytest.mark.slow
def test_keys_and_what_is_kept_are_as_they_were_drawn_whatever_the_network_says(cine):
    cine, truth = cine
    predicted = np.zeros_like(truth)
    predicted[..., 3:] = truth[..., 3:]
    odd = np.zeros(truth.shape[:3], np.uint8)
    odd[3:20, 40:44, 1] = 1  # nothing that a network would draw
    corrected = CorrectedPhases({0: truth[..., 0], 3: odd}, {2: np.zeros_like(odd)}, 7)
    done = []
    found = propagate(cine, prediction_of(predicted, range(6)), corrected, report=done.append)
    for t, mask in [(0, truth[..., 0]), (3, odd), (2, np.zeros_like(odd))]:
        np.testing.assert_array_equal(found.mask[..., t], mask)
    assert done == [1, 2, 3, 4, 5, 6] and not predicted[..., 0].any()
    assert found.predictions[0].warnings == [] and found.mask.dtype == np.uint8
    assert found.reply()["volumes_ml"]["RV cavity"][3] == pytest.approx((odd == 1).sum() * 1.5 * 1.5 * 8 / 1000, abs=0.01)
    empty = [t for t in range(6) if not found.mask[..., t].any()]
    assert 2 in empty and empty == [t for t, one in enumerate(found.predictions) if "mask_is_empty" in one.warnings]
    assert corrected.reply(6) == {"keys": [0, 3], "filled": [1, 4, 5], "kept": [2], "label_version": 7}


def test_it_can_be_cancelled(cine):
    cine, truth = cine
    with pytest.raises(CancelledError):
        propagate(cine, prediction_of(truth, range(6)), CorrectedPhases({0: truth[..., 0]}), token=CancelToken(lambda: True))


@pytest.mark.slow
@pytest.mark.parametrize("keys", [[0, 1], [0, 1, 2, 3, 4, 5]])
def test_keys_may_be_beside_each_other_and_all_there_are(cine, keys):
    cine, truth = cine
    found = propagate(cine, prediction_of(truth, range(6)), CorrectedPhases({t: truth[..., t] for t in keys}))
    np.testing.assert_array_equal(found.mask[..., keys], truth[..., keys])


def test_the_reply_says_which_phases_followed_and_which_were_left_alone() -> None:
    drawn = np.ones((2, 2, 1), np.uint8)
    said = CorrectedPhases({4: drawn, 1: drawn}, {3: drawn}, version=7).reply(6)
    assert said == {"keys": [1, 4], "filled": [0, 2, 5], "kept": [3], "label_version": 7}
