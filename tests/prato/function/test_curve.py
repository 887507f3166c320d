import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prato.function.curve import VolumeCurve, count_minima, find_ed_es
from prato.function.cycle import phase_probabilities
from prato.phantom.beat import make_beat, random_timing


def random_curve(seed, phases, noise=0.01):
    """A curve that begins anywhere in the cycle, with ``noise`` of its stroke volume in every phase, and which phases lie nearest to the R
    wave and to the end of ejection."""
    rng = np.random.default_rng([seed, phases])
    at = (rng.random() + np.arange(phases) / phases) % 1
    timing = random_timing(rng)
    out = rng.uniform(0.3, 0.7) * timing.ejected(at)
    lv, rv = rng.uniform(100, 250) * (1 - out), rng.uniform(100, 250) * (1 - 0.9 * out)
    ed, es = (int(np.abs((at - moment + 0.5) % 1 - 0.5).argmin()) for moment in (0, timing.end))
    noisy = [volume + rng.normal(0, noise * np.ptp(volume), phases) for volume in (lv, rv)]
    return VolumeCurve(rv=noisy[1], myocardium=np.full(phases, 120.0), lv=noisy[0]), ed, es


def apart(one, other, phases):
    return min(abs(one - other), phases - abs(one - other))


@pytest.mark.parametrize("noise", [0.01, 0.1])
@pytest.mark.parametrize("phases", [12, 20, 30, 40])
def test_ed_and_es_are_found_within_a_phase_in_nine_of_ten_beats(phases, noise):
    hits = []
    for seed in range(100):
        curve, ed, es = random_curve(seed, phases, noise)
        found = find_ed_es(curve, is_cycle=True)
        hits.append((apart(found[0], ed, phases) <= 1, apart(found[1], es, phases) <= 1))
    assert np.mean(hits, axis=0).min() >= 0.9


@pytest.mark.parametrize("phases", [12, 20, 25, 30, 35])
def test_wherever_in_the_cycle_a_cine_begins_the_same_phases_are_found(phases):
    for seed in range(20):
        curve, *_ = random_curve(seed, phases, noise=0.03)
        ed, es = find_ed_es(curve, is_cycle=True)
        for turn in range(1, phases):
            turned = VolumeCurve(*(np.roll(volume, turn) for volume in (curve.rv, curve.myocardium, curve.lv)))
            assert find_ed_es(turned, is_cycle=True) == ((ed + turn) % phases, (es + turn) % phases)


@pytest.mark.parametrize("phases", [20, 25, 30])
def test_a_volume_that_never_changes_says_nothing_of_the_phases(phases):
    curve, *_ = random_curve(1, phases)
    for ml in (0.0, 0.37, 85.1, 180.7):
        found = phase_probabilities([curve.lv, np.full(phases, ml)])
        assert np.array_equal(found, phase_probabilities([curve.lv]))


def test_a_ventricle_that_jumps_in_some_phases_moves_neither():
    hits = []
    for seed in range(100):
        curve, ed, es = random_curve(seed, 25)
        rng = np.random.default_rng(seed)
        curve.lv[rng.integers(25, size=3)] += rng.choice([-0.2, 0.2]) * np.ptp(curve.lv)  # its basal slice comes and goes
        found = find_ed_es(curve, is_cycle=True)
        hits.append((apart(found[0], ed, 25) <= 1, apart(found[1], es, 25) <= 1))
    assert np.mean(hits, axis=0).min() >= 0.9


@settings(max_examples=50, deadline=None)
@given(volumes=arrays(float, st.tuples(st.just(2), st.integers(2, 60)), elements=st.integers(0, 300)))
def test_whatever_the_curve_ed_holds_more_blood_than_es(volumes):
    found = find_ed_es(VolumeCurve(volumes[0], volumes[0], volumes[1]), is_cycle=True)
    blood = volumes.sum(0)
    assert (found is None) == (len(set(blood[blood > 0])) < 2)
    assert found is None or blood[found[0]] > blood[found[1]]


def test_phases_with_gaps_between_them_have_extremes_alone():
    curve, *_ = random_curve(0, 20)
    some = [*range(8), 9, 12, 15]
    volumes = [volume[some].copy() for volume in (curve.rv, curve.myocardium, curve.lv)]
    for noisy in (volumes[0], volumes[2]):
        noisy[[2, 8]] = noisy.max() + 10, noisy.min() - 5  # of a part of a beat, whatever its shape
    found = find_ed_es(VolumeCurve(*volumes), is_cycle=False)
    assert found == (2, 8) != find_ed_es(VolumeCurve(*volumes), is_cycle=True)


def test_phases_out_of_order_are_no_heartbeat_and_have_extremes_alone():
    noticed = []
    for seed in range(40):
        curve, *_ = random_curve(seed, 20)
        assert curve.is_heartbeat
        order = np.random.default_rng(seed).permutation(20)
        shuffled = VolumeCurve(*(volume[order] for volume in (curve.rv, curve.myocardium, curve.lv)))
        noticed.append(not shuffled.is_heartbeat)
        if noticed[-1]:
            assert find_ed_es(shuffled, is_cycle=True) == (int(shuffled.blood.argmax()), int(shuffled.blood.argmin()))
    assert np.mean(noticed) > 0.8


def test_a_phase_in_which_no_heart_was_seen_is_no_end_systole():
    curve, *_ = random_curve(5, 20)
    lost = int(curve.blood.argmax()) - 3
    curve.lv[lost] = curve.rv[lost] = 0
    ed, es = find_ed_es(curve, is_cycle=True)
    assert (ed, es) == (int(curve.blood.argmax()), int(np.where(curve.blood > 0, curve.blood, np.inf).argmin()))
    assert find_ed_es(VolumeCurve(np.array([0.0, 90.0]), np.zeros(2), np.array([0.0, 120.0])), is_cycle=True) is None


def test_the_first_phase_of_the_cine_changes_nothing():
    curve, *_ = random_curve(1, 25)
    ed, es = find_ed_es(curve, is_cycle=True)
    for shift in range(25):
        turned = VolumeCurve(*(np.roll(volume, shift) for volume in (curve.rv, curve.myocardium, curve.lv)))
        assert find_ed_es(turned, is_cycle=True) == ((ed + shift) % 25, (es + shift) % 25)


def test_two_phases_are_a_full_and_an_empty_one():
    assert find_ed_es(VolumeCurve(np.array([50.0, 90.0]), np.zeros(2), np.array([60.0, 120.0])), is_cycle=True) == (1, 0)


@pytest.mark.parametrize("volume", [[], [100.0], [0.0, 0.0, 0.0], [70.0, 70.0]])
def test_nothing_is_found_where_nothing_changes(volume):
    volume = np.array(volume)
    assert find_ed_es(VolumeCurve(volume * 0, volume, volume), is_cycle=True) is None


def test_voxels_are_counted_by_structure_and_phase():
    masks = np.zeros((4, 4, 2, 3), np.uint8)
    masks[0, :2, 0, 0], masks[1, :3, 1, 1], masks[2, 0, 0, 2] = 1, 2, 3
    curve = VolumeCurve.from_masks(masks, voxel_ml=0.5)
    np.testing.assert_allclose([curve.rv, curve.myocardium, curve.lv], [[1, 0, 0], [0, 1.5, 0], [0, 0, 0.5]])


def test_a_beat_has_one_minimum_and_a_kink_makes_two():
    timing = random_timing(np.random.default_rng(0))
    volume = 150 - 80 * timing.ejected(np.arange(30) / 30)
    assert all(count_minima(np.roll(volume, shift)) == 1 for shift in range(30))
    kinked = volume.copy()
    kinked[int(volume.argmin()) + 1] += 30
    assert count_minima(kinked) == 2
    assert count_minima(np.full(30, 5.0)) == 0


@pytest.mark.slow
def test_ed_and_es_of_a_generated_beat():
    beat = make_beat(seed=0, number=3, phases=10, start=0.7)
    voxel_ml = abs(np.linalg.det(beat.affine[:3, :3])) / 1000
    ed, es = find_ed_es(VolumeCurve.from_masks(beat.labels, voxel_ml), is_cycle=True)
    assert apart(ed, beat.ed, 10) <= 1
    assert apart(es, beat.es, 10) <= 1
