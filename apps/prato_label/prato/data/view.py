"""From which side a patient is looked at, whatever way the voxels are stored: by people on pictures, and by networks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from prato.data.nifti import Volume
from prato.data.stack import slice_axis, stack_axes

#: How well a direction (left, posterior, superior) suits the way down and the way to the right: as radiologists look at patients.
_DOWN, _RIGHT = np.array([0.0, 0.7, -1.0]), np.array([1.0, 0.3, 0.0])
#: From apex to base, a unit vector in those directions: what short-axis slices lie across. Hearts differ by some 30 degrees.
_BASE = np.array([-0.66, 0.66, 0.36])
#: Ways along both axes of short-axis slices as most scanners store them: away from the right ventricle, and to the feet.
_FROM_RIGHT, _TO_FEET = np.array([0.7, 0.7, 0.0]), np.array([-0.25, 0.25, -0.93])
#: Cosine from which slices count as across the heart's axis. Those along the body's axes, as in headers without an orientation, do not.
_SHORT_AXIS = 0.75


@dataclass(frozen=True)
class View:
    """How stored voxels (X, Y, Z) are looked at: ``axes`` are those that become the first, the second, and the one from slice to slice;
    ``steps`` are -1 where they are reversed."""

    axes: tuple[int, int, int]
    steps: tuple[int, int, int] = (1, 1, 1)

    @property
    def is_reversed(self) -> bool:
        """Whether any axis is."""
        return -1 in self.steps

    def apply(self, array: np.ndarray) -> np.ndarray:
        """``array`` (X, Y, Z, ...) as (first, second, slices, ...), a view."""
        return np.moveaxis(array, self.axes, (0, 1, 2))[:: self.steps[0], :: self.steps[1], :: self.steps[2]]

    def restore(self, array: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`apply`: ``array`` (first, second, slices, ...) as it is stored; a view."""
        return np.moveaxis(array[:: self.steps[0], :: self.steps[1], :: self.steps[2]], (0, 1, 2), self.axes)

    def apply_to(self, volume: Volume) -> Volume:
        """``volume`` looked at so, with the affine that belongs to it."""
        affine = volume.affine.copy()
        affine[:3, :3] = volume.affine[:3, self.axes] * self.steps
        for axis, step in zip(self.axes, self.steps):
            if step < 0:
                affine[:3, 3] += volume.affine[:3, axis] * (volume.array.shape[axis] - 1)
        return Volume(self.apply(volume.array), affine)


def radiological_view(grid: Volume) -> View:
    """As (rows, columns, slices): patients lie with their left on the right, and posterior, or else inferior, below, as far as the slices'
    plane allows. Slices keep their order."""
    return _closest(grid, _DOWN, _RIGHT)


def network_view(grid: Volume) -> View:
    """As (X, Y, slices): as networks learned to see hearts.

    They learned from short-axis slices that lie as most scanners store them, the first at the base. Converters mirror, transpose or reverse
    stacks, and some scanners turn them: by what the affine says, they are turned back, so that a network sees the same heart however its
    voxels are stored. Slices whose affine names another plane, or none (all of ACDC), are seen as they are.
    """
    axis = slice_axis(grid.array.shape[:3], grid.spacing)
    to_base = float(_directions(grid)[:, axis] @ _BASE)
    if abs(to_base) < _SHORT_AXIS:
        first, second, across = stack_axes(axis)
        return View((first, second, across))
    view = _closest(grid, _FROM_RIGHT, _TO_FEET)
    return View(view.axes, (*view.steps[:2], -1 if to_base > 0 else 1))


def _directions(grid: Volume) -> np.ndarray:
    """(3, 3), for each axis, in a column, how far a step leads to the left, to the back, and to the head."""
    return np.asarray(grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0) * np.array([[-1.0], [-1.0], [1.0]]))


def _closest(grid: Volume, first: np.ndarray, second: np.ndarray) -> View:
    """The view whose first two axes run most nearly along the directions ``first`` and ``second``."""
    axis, directions = slice_axis(grid.array.shape[:3], grid.spacing), _directions(grid)

    def suits(choice: tuple[tuple[int, ...], tuple[int, ...]]) -> float:
        (a, b), (a_step, b_step) = choice
        return float(first @ directions[:, a] * a_step + second @ directions[:, b] * b_step)

    plane = [a for a in range(3) if a != axis]
    (a, b), (a_step, b_step) = max(product(permutations(plane), product((1, -1), repeat=2)), key=suits)
    return View((a, b, axis), (a_step, b_step, 1))
