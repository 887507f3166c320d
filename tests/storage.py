"""The same image, stored in all ways: with any axis across its slices, mirrored, transposed, and with the slices in either order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from prato.data.nifti import Volume
from prato.prompts.box import Box

#: A short-axis plane as most scanners store it: along i, along j, and from base to apex, to the left, to the back and to the head.
SHORT_AXIS = np.array([[0.71, 0.70, -0.03], [-0.31, 0.27, -0.91], [0.63, -0.66, -0.41]])


@dataclass(frozen=True)
class Storage:
    """Axis n of the stored image is axis ``axes[n]`` of the usual one (X, Y, slices), which is reversed where ``steps[n]`` is -1."""

    axes: tuple[int, ...]
    steps: tuple[int, ...]

    def array(self, usual: np.ndarray) -> np.ndarray:
        turned = usual.transpose([*self.axes, *range(3, usual.ndim)])
        return np.ascontiguousarray(turned[tuple(slice(None, None, step) for step in self.steps)])

    def volume(self, usual: Volume) -> Volume:
        affine = usual.affine.copy()
        affine[:3, :3] = usual.affine[:3, self.axes] * self.steps
        last = [usual.array.shape[axis] - 1 if step < 0 else 0 for axis, step in zip(self.axes, self.steps)]
        affine[:3, 3] += usual.affine[:3, self.axes] @ last
        return Volume(self.array(usual.array), affine)

    def voxels(self, usual: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """``usual`` int (n, 3), voxels of the usual image of ``shape``."""
        ends = [(shape[axis] - 1, axis) for axis in self.axes]
        return np.column_stack([last - usual[:, a] if step < 0 else usual[:, a] for (last, a), step in zip(ends, self.steps)])

    def box(self, usual: Box, shape: tuple[int, ...]) -> Box:
        corners = self.voxels(np.array([usual.start, [b - 1 for b in usual.stop]]), shape)
        return Box(tuple(corners.min(0).tolist()), tuple((corners.max(0) + 1).tolist()))


def oblique(array: np.ndarray, spacing: tuple[float, float, float]) -> Volume:
    """``array`` (X, Y, slices) on a short-axis grid, stored as most scanners do."""
    columns, _ = np.linalg.qr(SHORT_AXIS.T)  # exactly at right angles
    columns *= np.sign((columns * SHORT_AXIS.T).sum(0))
    affine = np.eye(4)
    affine[:3, :3] = columns * np.array([[-1.0], [-1.0], [1.0]]) * spacing
    affine[:3, 3] = (20.0, -30.0, 10.0)
    return Volume(array, affine)


STORAGES = [Storage(axes, steps) for axes, steps in product(permutations(range(3)), product((1, -1), repeat=3))]
