"""Volumes as stacks of slices: the networks look at planes, and the slices of a stored volume need not lie along its last axis."""

from __future__ import annotations

import numpy as np

from prato.data.nifti import Volume
from prato.prompts.box import Box

#: How much thicker than both other edges of a voxel its third edge must be to say, against the usual order, where the slices lie.
_CLEARLY = 1.5


def slice_axis(spacing: tuple[float, float, float]) -> int:
    """The axis across the slices: the one with by far the largest voxel edge (mm), else the last, as short-axis stacks are stored."""
    thickest = int(np.argmax(spacing))
    others = [mm for axis, mm in enumerate(spacing) if axis != thickest]
    return thickest if spacing[thickest] > _CLEARLY * max(others) else 2


def to_stack(array: np.ndarray, axis: int) -> np.ndarray:
    """``array`` (X, Y, Z) with ``axis`` moved to the end."""
    return np.moveaxis(array, axis, 2)


def from_stack(array: np.ndarray, axis: int) -> np.ndarray:
    """The inverse of :func:`to_stack`."""
    return np.moveaxis(array, 2, axis)


def _order(axis: int) -> list[int]:
    return [a for a in range(3) if a != axis] + [axis]


def volume_to_stack(volume: Volume, axis: int) -> Volume:
    """``volume`` with ``axis`` as its last, and the affine that belongs to it."""
    affine = volume.affine.copy()
    affine[:, :3] = volume.affine[:, _order(axis)]
    return Volume(to_stack(volume.array, axis), affine)


def box_to_stack(box: Box, axis: int) -> Box:
    """``box`` on the to_stack volume."""
    order = _order(axis)
    return Box(tuple(box.start[a] for a in order), tuple(box.stop[a] for a in order))


def box_from_stack(box: Box, axis: int) -> Box:
    """The inverse of :func:`box_to_stack`."""
    start, stop = list(box.start[:2]), list(box.stop[:2])
    start.insert(axis, box.start[2])
    stop.insert(axis, box.stop[2])
    return Box(tuple(start), tuple(stop))
