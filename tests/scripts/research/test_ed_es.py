"""scripts/research/ed_es.py: contours are moved as far as it says, and distances go round the cycle."""

import numpy as np
import pytest

from prato.phantom.beat import make_beat_labels
from scripts.research.ed_es import MOVED_MM, distance, draw_unsteadily, measure_beat


def test_distances_go_the_shorter_way_round():
    assert [distance(*pair, 20) for pair in ((3, 3), (4, 3), (2, 3), (0, 19), (19, 0))] == [0, 1, -1, 1, -1]


@pytest.mark.slow
def test_what_is_not_moved_is_the_label_and_what_is_moved_flickers_about_it():
    beat = make_beat_labels(seed=1, number=1, phases=4)
    rng = np.random.default_rng(0)
    still, moved = (draw_unsteadily(rng, beat, mm) for mm in (0.0, 3.0))
    assert (still > 0).sum() == (beat.labels > 0).sum()
    changed = [(still[..., t] != moved[..., t]).sum() / (still[..., t] > 0).sum() for t in range(4)]
    assert all(0.05 < share < 0.6 for share in changed)
    assert set(np.unique(moved)) == {0, 1, 2, 3}


@pytest.mark.slow
def test_a_row_for_each_way_of_drawing():
    rows = measure_beat(seed=16, number=35)  # of 13 phases
    assert [row["moved_mm"] for row in rows] == list(MOVED_MM)
    assert all(abs(row["off"][name]) <= row["phases"] // 2 for row in rows for name in ("ed", "es"))
