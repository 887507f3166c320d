"""Slices along any axis."""

import numpy as np
import pytest

from prato.data.stack import from_stack, slice_axis, stack_axes, to_stack


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [((1.5, 1.5, 8.0), 2), ((8.0, 1.5, 1.5), 0), ((1.5, 8.0, 1.2), 1), ((1.5, 1.5, 1.5), 2), ((2.0, 1.5, 1.5), 2), ((1.0, 1.0, 0.9), 2)],
)
def test_the_thickest_edge_says_where_the_slices_are(spacing, axis):
    assert slice_axis((20, 30, 5), spacing) == axis


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("spacing", [(1.5, 1.5, 8.0), (8.0, 1.5, 1.5), (1.0, 1.0, 1.0)])
def test_a_single_slice_lies_across_its_one_voxel_however_thick(axis, spacing):
    shape = [20, 30, 40]
    shape[axis] = 1
    assert slice_axis(shape, spacing) == axis


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_there_and_back(axis):
    array = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(from_stack(to_stack(array, axis), axis), array)
    assert to_stack(array, axis).shape == tuple(array.shape[a] for a in stack_axes(axis))
