import numpy as np
import pytest

from prato.function.curve import VolumeCurve
from prato.phantom.beat import make_beat_labels
from prato.prompts.box import Box
from scripts.research.smooth_phases import smooth_phases

SPACING = (1.5, 1.5)


@pytest.fixture(scope="module")
def beat():
    """A beat's labels, and the same with contours that are drawn a voxel off in some places of some phases."""
    labels = make_beat_labels(seed=2, number=1, phases=20).labels
    rng = np.random.default_rng(0)
    drawn = labels.copy()
    for t in range(labels.shape[-1]):
        shifted = np.roll(labels[..., t], rng.choice([-1, 1], 2), (0, 1))
        patch = np.repeat(np.repeat(rng.random((labels.shape[0] // 12 + 1, labels.shape[1] // 12 + 1)) < 0.3, 12, 0), 12, 1)
        patch = patch[: labels.shape[0], : labels.shape[1]]
        drawn[patch, :, t] = shifted[patch]
    return labels, drawn


def dice(one, other):
    return np.mean([2 * ((one == v) & (other == v)).sum() / ((one == v).sum() + (other == v).sum()) for v in (1, 2, 3)])


def changes_back(masks):
    before, after = np.roll(masks, 1, -1), np.roll(masks, -1, -1)
    return ((masks != before) & (before == after)).sum()


@pytest.mark.slow
def test_flicker_leaves_and_the_contours_come_nearer_to_the_truth(beat):
    labels, drawn = beat
    smoothed = smooth_phases(drawn, SPACING)
    assert changes_back(smoothed) < 0.3 * changes_back(drawn)
    gains = [dice(smoothed[..., t], labels[..., t]) - dice(drawn[..., t], labels[..., t]) for t in range(20)]
    assert np.mean(gains) > 0.003
    assert min(gains) > -0.01


@pytest.mark.slow
def test_what_moves_smoothly_stays(beat):
    labels, _ = beat
    smoothed = smooth_phases(labels, SPACING)
    curves = [VolumeCurve.from_masks(masks, 1.0) for masks in (labels, smoothed)]
    assert all(dice(smoothed[..., t], labels[..., t]) > 0.97 for t in range(20))
    fractions = [1 - curve.lv.min() / curve.lv.max() for curve in curves]
    assert abs(fractions[0] - fractions[1]) < 0.01


@pytest.mark.slow
def test_a_heart_that_reaches_the_edge_of_the_image_loses_nothing_there(beat):
    labels = beat[0][Box.around(beat[0].any(-1)).slices[:2]]
    smoothed = smooth_phases(labels, SPACING)
    for edge in (smoothed[0], smoothed[-1], smoothed[:, 0], smoothed[:, -1]):
        assert edge.any()


@pytest.mark.slow
def test_a_slice_that_blinks_is_as_in_the_phases_beside_it_and_one_that_leaves_is_gone_at_once(beat):
    labels, _ = beat
    apical = int(np.flatnonzero((labels > 0).any((0, 1, 3)))[-2])
    missed = labels.copy()
    missed[:, :, apical, 5] = 0
    smoothed = smooth_phases(missed, SPACING)
    assert dice(smoothed[:, :, apical, 5], labels[:, :, apical, 5]) > 0.9
    gone = labels.copy()
    gone[:, :, 0, 5:12] = 0
    gone[:, :, 0, [0, 1, 2, 3, 4, *range(12, 20)]] = labels[:, :, 1, [0, 1, 2, 3, 4, *range(12, 20)]]
    smoothed = smooth_phases(gone, SPACING)
    assert not smoothed[:, :, 0, 5:12].any()
    assert dice(smoothed[:, :, 0, 4], gone[:, :, 0, 4]) > 0.95


@pytest.mark.slow
def test_the_last_phase_is_followed_by_the_first(beat):
    _, drawn = beat
    smoothed = smooth_phases(drawn, SPACING)
    np.testing.assert_array_equal(smooth_phases(np.roll(drawn, 7, -1), SPACING), np.roll(smoothed, 7, -1))


def test_short_cines_and_those_with_a_phase_without_a_heart_stay(beat):
    _, drawn = beat
    missing = drawn.copy()
    missing[..., 3] = 0
    for masks in (drawn[..., :9], missing, np.zeros_like(drawn)):
        smoothed = smooth_phases(masks, SPACING)
        np.testing.assert_array_equal(smoothed, masks)
        assert smoothed is not masks
