import numpy as np
import pytest

from prato.data.structures import STRUCTURES
from prato.phantom.beat import make_beat, make_beat_labels, random_timing


@pytest.fixture(scope="module")
def beat():
    return make_beat(seed=3, number=2, phases=8, start=0.4)


@pytest.mark.slow
def test_the_same_arguments_give_the_same_beat(beat):
    again = make_beat(seed=3, number=2, phases=8, start=0.4)
    np.testing.assert_array_equal(again.images, beat.images)
    np.testing.assert_array_equal(again.labels, beat.labels)


@pytest.mark.slow
def test_labels_alone_are_those_of_the_same_beat(beat):
    alone = make_beat_labels(seed=3, number=2, phases=8, start=0.4)
    np.testing.assert_array_equal(alone.labels, beat.labels)
    np.testing.assert_allclose(alone.spacing, np.linalg.norm(beat.affine[:3, :3], axis=0))
    assert (alone.ed, alone.es) == (beat.ed, beat.es)


def test_every_phase_has_all_structures_and_ed_and_es_the_most_and_least_blood(beat):
    counts = {name: (beat.labels == value).sum((0, 1, 2)) for name, value in STRUCTURES.items()}
    assert all((count > 0).all() for count in counts.values())
    blood = counts["LV cavity"]
    assert blood[beat.ed] >= 0.98 * blood.max()
    assert blood[beat.es] <= 1.02 * blood.min()


def test_what_does_not_beat_stays_but_for_noise(beat):
    still = (beat.labels == 0).all(-1) & (beat.images[..., 0] > np.percentile(beat.images, 60))
    still[20:-20] = False  # the skin and fat at the image's rim, far from the heart
    assert still.sum() > 1000
    values = beat.images[still].astype(float)
    assert (values.std(1) / values.mean(1)).mean() < 0.1


def test_phases_are_even_and_fill_the_cycle(beat):
    steps = np.diff([*beat.times_ms, beat.rr_ms])
    assert steps == pytest.approx(beat.rr_ms / 8)
    assert 600 < beat.rr_ms < 1300


@pytest.mark.parametrize("seed", range(20))
def test_the_volume_falls_once_and_rises_in_two_parts(seed):
    timing = random_timing(np.random.default_rng(seed))
    at = np.linspace(0, 1, 2001)
    ejected = timing.ejected(at)
    assert ejected[0] == ejected[-1] == 0
    assert ejected.min() == 0 and ejected.max() == 1
    assert np.abs(np.diff(ejected)).max() < 0.01  # it never jumps
    systole = (at >= timing.opening) & (at <= timing.end)
    assert (np.diff(ejected[systole]) >= 0).all()
    assert (np.diff(ejected[at >= timing.filling]) <= 0).all()
    assert np.allclose(ejected[(at > timing.diastasis) & (at < timing.atrium)], timing.kick)
