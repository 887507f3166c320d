"""Masks as depths: the deepest class is a voxel's own, and distances are exact as far as they reach."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from prato.data.distances import halfway, signed_distances

SIZES = st.tuples(*[st.floats(0.7, 9.0)] * 2)


@settings(max_examples=30, deadline=None)
@given(masks=arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(2)), elements=st.integers(0, 3)), sizes=SIZES)
def test_depths_are_scipys_distances_as_far_as_they_reach_and_the_deepest_class_is_the_masks(masks, sizes):
    found = signed_distances(masks, sizes, 8.0)
    np.testing.assert_array_equal(found.argmax(0), masks)
    for value in range(4):
        for k in range(2):
            own = masks[..., k] == value
            to_class, to_others = (
                np.minimum(distance_transform_edt(~part, sizes), 8.0) if part.any() else np.full(own.shape, 8.0) for part in (own, ~own)
            )
            np.testing.assert_allclose(found[value, ..., k], np.where(own, to_others, -to_class), rtol=1e-5)


def test_half_way_between_two_labels():
    one, other = np.zeros((2, 40, 40), np.uint8)
    one[10:30, 10:20] = 2
    other[10:30, 10:26] = 2
    between = halfway(one, other, (1.0, 1.0), 8.0)
    assert np.flatnonzero(between[20]).tolist() == list(range(10, 23))
    assert np.array_equal(halfway(one, one, (1.0, 1.0), 8.0), one)
    assert not halfway(one, np.zeros_like(one), (1.0, 1.0), 8.0).any()  # in one slice alone
