"""From which side pictures show a patient, whatever way the voxels are stored."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from prato.data.nifti import Volume
from prato.data.stack import slice_axis

#: How well a direction (left, posterior, superior) suits the way to the right and the way down: as radiologists look at patients.
_RIGHT, _DOWN = np.array([1.0, 0.3, 0.0]), np.array([0.0, 0.7, -1.0])


@dataclass(frozen=True)
class View:
    """How stored voxels (X, Y, Z) are looked at: ``axes`` are those that run down, to the right, and from slice to slice; ``steps`` of the
    first two are -1 where they are reversed."""

    axes: tuple[int, int, int]
    steps: tuple[int, int]

    @classmethod
    def of(cls, grid: Volume) -> View:
        """Patients lie with their left on the right, and posterior, or else inferior, below, as far as the slices' plane allows."""
        axis = slice_axis(grid.array.shape[:3], grid.spacing)
        directions = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0) * np.array([[-1.0], [-1.0], [1.0]])

        def suits(choice: tuple[tuple[int, ...], tuple[int, ...]]) -> float:
            (down, right), (down_step, right_step) = choice
            return float(_DOWN @ directions[:, down] * down_step + _RIGHT @ directions[:, right] * right_step)

        plane = [a for a in range(3) if a != axis]
        (down, right), (down_step, right_step) = max(product(permutations(plane), product((1, -1), repeat=2)), key=suits)
        return cls((down, right, axis), (down_step, right_step))

    def apply(self, array: np.ndarray) -> np.ndarray:
        """``array`` (X, Y, Z, ...) as (rows, columns, slices, ...), a view."""
        return np.moveaxis(array, self.axes, (0, 1, 2))[:: self.steps[0], :: self.steps[1]]
