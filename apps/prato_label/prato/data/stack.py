"""Volumes as stacks of slices: the networks look at planes, and the slices of a stored volume need not lie along its last axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from prato.data.intensity import finite_voxels
from prato.data.nifti import Volume, VolumeError
from prato.data.orientation import check_affine, check_field_of_view

#: How much thicker than both other edges of a voxel its third edge must be to say, against the usual order, where the slices lie.
_CLEARLY = 1.5


def check_image(volume: Volume) -> Volume:
    """``volume``, made by hand or read, with its array and affine as a file would have given them.

    Raises:
        VolumeError: it is no ``Volume`` of three axes of numbers, some of them finite, or has an affine or a size in mm that no image has.
    """
    if not isinstance(volume, Volume):
        raise VolumeError(f"An image must be a Volume, not {type(volume).__name__}: make it by read_volume(path) or Volume(array, affine).")
    array, affine = np.asarray(volume.array), np.asarray(volume.affine, dtype=np.float64)
    if array.ndim != 3 or not array.size or array.dtype.kind not in "biuf":
        raise VolumeError(f"An image must have three axes (X, Y, Z) of numbers, not {array.dtype} of shape {array.shape}.")
    check_affine(affine, "The image")
    check_field_of_view(affine, array.shape, "The image")
    array, warnings = finite_voxels(array.view(np.uint8) if array.dtype.kind == "b" else array, "The image")
    return replace(volume, array=array, affine=affine, warnings=(*volume.warnings, *warnings))


def slice_axis(shape: Sequence[int], spacing: Sequence[float]) -> int:
    """The axis across the slices of an image of ``shape`` voxels of ``spacing`` mm.

    A single slice lies across the one axis with one voxel. Else it is the axis with by far the largest voxel edge, else the last, as
    short-axis stacks are stored.
    """
    single = [axis for axis in range(3) if shape[axis] == 1]
    if len(single) == 1:
        return single[0]
    thickest = int(np.argmax(spacing))
    others = [mm for axis, mm in enumerate(spacing) if axis != thickest]
    return thickest if spacing[thickest] > _CLEARLY * max(others) else 2


def to_stack(array: np.ndarray, axis: int) -> np.ndarray:
    """``array`` (X, Y, Z) with ``axis``, which lies across the slices, moved to the end; a view."""
    return np.moveaxis(array, axis, 2)


def from_stack(array: np.ndarray, axis: int) -> np.ndarray:
    """The inverse of :func:`to_stack`: ``array``, whose last axis lies across the slices, with that as its ``axis``; a view."""
    return np.moveaxis(array, 2, axis)


def blank_slices(stack: np.ndarray) -> list[int]:
    """The slices of ``stack`` (X, Y, Z) that show nothing, as every voxel has the same value: programs add them, until all stacks are as
    long."""
    return [k for k in range(stack.shape[2]) if not stack[:, :, k].min() < stack[:, :, k].max()]


def stack_axes(axis: int) -> list[int]:
    """The stored volume's axes in the order in which the stacked one has them."""
    return [a for a in range(3) if a != axis] + [axis]
