"""Slices along any axis."""

import numpy as np
import pytest

from prato.data.nifti import Volume
from prato.data.stack import from_stack, slice_axis, stack_axes, to_stack, volume_to_stack
from prato.inference.predictor import Predictor
from prato.prompts.box import Box
from tests.prato.conftest import predict


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
    box = Box((0, 1, 2), (2, 3, 4))
    axes = stack_axes(axis)
    assert box.permute(axes).permute([axes.index(a) for a in range(3)]) == box
    assert np.array_equal(to_stack(array, axis)[box.permute(axes).slices], to_stack(array[box.slices], axis))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_to_stack_lies_where_it_lay(axis):
    affine = np.array([[0.0, -1.4, 0.3, 5], [1.5, 0, 0, -3], [0, 0.2, 8.0, 1], [0, 0, 0, 1]])
    volume = Volume(np.zeros((5, 6, 7)), affine)
    moved = volume_to_stack(volume, axis)
    voxel = np.array([1, 2, 3])
    order = [a for a in range(3) if a != axis] + [axis]
    assert np.allclose(moved.affine @ [*voxel[order], 1], affine @ [*voxel, 1])


def stored_box(box: Box, axis: int) -> Box:
    return box.permute([stack_axes(axis).index(a) for a in range(3)])


@pytest.mark.parametrize("axis", [0, 1])
def test_the_mask_does_not_depend_on_how_the_stack_is_stored(model_files, heart, axis):
    predictor = Predictor.from_files(model_files["unetr"])
    box = Box((15, 5, 1), (45, 35, 4))
    usual = predict(predictor, heart, box, return_tokens=True)
    # the stored volume whose stack, slices moved to the end, is the usual one
    columns = heart.affine[:, [0, 1, 2]]
    order = list(np.argsort([*(a for a in range(3) if a != axis), axis]))
    affine = np.column_stack([columns[:, order], heart.affine[:, 3]])
    stored = Volume(from_stack(heart.array, axis), affine)
    other = predict(predictor, stored, stored_box(box, axis), return_tokens=True)
    assert other.mask.shape == stored.array.shape
    assert np.array_equal(to_stack(other.mask, axis), usual.mask)
    assert np.array_equal(to_stack(other.tokens, axis), usual.tokens)
    assert other.box == stored_box(usual.box, axis)
