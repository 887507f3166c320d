"""Volumes between files and nodes, in the stored image's own index order.

3D Slicer turns the k axis of a left-handed image round when it reads it (ForceRightHandedIJKCoordinateSystem). Boxes and masks of the wire
contract are in the file's order, so that is switched off here, and undone where Slicer has done it: in a scene that was saved and reopened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk

#: Node attribute: the sixteen numbers of the stored image's IJK to RAS matrix, row by row.
_GRID = "PratoLabel.ijkToRas"


def read_into(node: Any, path: Path) -> bool:
    """Read the file ``path`` into a volume node, in the scene or not; False where it cannot be read."""
    return bool(path.is_file() and _storage(path).ReadData(node) and node.GetImageData() is not None)


def write_from(node: Any, path: Path) -> bool:
    """Write a volume node to the file ``path``, without its parent transforms; False where it cannot be written."""
    return bool(_storage(path).WriteData(node))


def load_image(path: Path, name: str) -> Any:
    """A new scalar volume node with the image in the file ``path``; None where it cannot be read, and the scene is as it was."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    if not read_into(node, path):
        slicer.mrmlScene.RemoveNode(node)
        return None
    node.CreateDefaultDisplayNodes()
    return node


def keep_order(node: Any) -> None:
    """Remember the index order of a volume node; where it was remembered before and Slicer has turned it round since, turn it back."""
    matrix = ijk_to_ras(node)
    stored = node.GetAttribute(_GRID)
    if stored is not None:
        original = np.array([float(value) for value in stored.split()]).reshape(4, 4)
        slices = node.GetImageData().GetDimensions()[2]
        turned = matrix @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, slices - 1], [0, 0, 0, 1.0]])
        if np.linalg.det(matrix[:3, :3]) * np.linalg.det(original[:3, :3]) < 0:
            array = slicer.util.arrayFromVolume(node)[::-1].copy()
            node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(turned))
            slicer.util.updateVolumeFromArray(node, array)
            matrix = turned
    node.SetAttribute(_GRID, " ".join(repr(float(value)) for value in matrix.ravel()))


def ijk_to_ras(node: Any) -> np.ndarray:
    """The volume node's 4x4 matrix from voxel indices to RAS mm, without parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def _storage(path: Path) -> Any:
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    if hasattr(storage, "SetForceRightHandedIJKCoordinateSystem"):  # older Slicers leave the order alone
        storage.SetForceRightHandedIJKCoordinateSystem(False)
    storage.SetFileName(str(path))
    return storage
