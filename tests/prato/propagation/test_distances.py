"""Masks as depths: the deepest class is a voxel's own, and distances are exact as far as they reach."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from prato.propagation.distances import signed_distances

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
