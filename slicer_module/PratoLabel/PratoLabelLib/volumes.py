"""Volume nodes: read and written in the stored image's own index order, and the token map laid over them.

3D Slicer turns the k axis of a left-handed image round when it reads it (ForceRightHandedIJKCoordinateSystem). Boxes and masks of the wire
contract are in the file's order, so that is switched off here, and undone where Slicer has done it: in a scene that was saved and reopened.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk

#: Node attribute: the sixteen numbers of the stored image's IJK to RAS matrix, row by row.
_GRID_ATTRIBUTE = "PratoLabel.ijkToRas"
_TOKEN_COLOUR_NODE = "vtkMRMLColorTableNodeFileColdToHotRainbow.txt"
_TOKEN_OPACITY = 0.35


def read_volume(node: slicer.vtkMRMLVolumeNode, path: Path) -> bool:
    """Read the file ``path`` into a volume node, in the scene or not; False where it cannot be read."""
    return bool(path.is_file() and _storage_node(path).ReadData(node) and node.GetImageData() is not None)


def write_volume(node: slicer.vtkMRMLVolumeNode, path: Path) -> bool:
    """Write a volume node to the file ``path``, without its parent transforms; False where it cannot be written."""
    return bool(_storage_node(path).WriteData(node))


def load_volume(path: Path, name: str) -> slicer.vtkMRMLScalarVolumeNode | None:
    """A new node in the scene with the image in the file ``path``; None where it cannot be read, and the scene is as it was."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    if not read_volume(node, path):
        slicer.mrmlScene.RemoveNode(node)
        return None
    node.CreateDefaultDisplayNodes()
    return node


def restore_index_order(node: slicer.vtkMRMLVolumeNode) -> None:
    """Store the index order of a volume node in it; where an earlier one is stored and Slicer has turned it round since, turn it back."""
    matrix = ijk_to_ras(node)
    stored = node.GetAttribute(_GRID_ATTRIBUTE)
    if stored is not None:
        original = np.array([float(value) for value in stored.split()]).reshape(4, 4)
        slices = node.GetImageData().GetDimensions()[2]
        flipped = matrix @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, slices - 1], [0, 0, 0, 1.0]])
        if np.linalg.det(matrix[:3, :3]) * np.linalg.det(original[:3, :3]) < 0:
            array = slicer.util.arrayFromVolume(node)[::-1].copy()
            node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(flipped))
            slicer.util.updateVolumeFromArray(node, array)
            matrix = flipped
    node.SetAttribute(_GRID_ATTRIBUTE, " ".join(repr(float(value)) for value in matrix.ravel()))


def ijk_to_ras(node: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """The volume node's 4x4 matrix from voxel indices to RAS mm, without parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix_to_array(matrix)


def matrix_to_array(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    """``matrix`` as a float array (4, 4)."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def unpack_token_map(tokens: Mapping[str, Any]) -> np.ndarray:
    """The reply's ``tokens`` as float32 (K, J, I) in 0..1: share of the pruning stages that the token over each voxel survived.

    Raises:
        ValueError: not what ``docs/protocol.md`` describes.
    """
    try:
        levels = np.frombuffer(zlib.decompress(base64.b64decode(tokens["data"])), np.uint8).reshape(tokens["shape"])
    except (KeyError, TypeError, zlib.error) as error:
        raise ValueError("The token map in the server's answer cannot be read: server and module are of different versions.") from error
    return (levels.T / np.float32(255)).astype(np.float32)


def show_token_map(
    token_map: np.ndarray, volume_node: slicer.vtkMRMLScalarVolumeNode, node: slicer.vtkMRMLScalarVolumeNode | None
) -> slicer.vtkMRMLScalarVolumeNode:
    """Lay ``token_map`` (K, J, I) over the slice views, on the grid of ``volume_node``; returns its volume node.

    Args:
        node: the volume node of an earlier map, to be reused; None for a new one.
    """
    if node is None or node.GetScene() is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"{volume_node.GetName()} tokens kept")
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(volume_node)))
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    slicer.util.updateVolumeFromArray(node, token_map)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(_TOKEN_COLOUR_NODE)
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, 1.0)
    slicer.util.setSliceViewerLayers(foreground=node, foregroundOpacity=_TOKEN_OPACITY)
    return node


def hide_token_map(node: slicer.vtkMRMLScalarVolumeNode | None) -> None:
    """Take the map off the slice views and out of the scene."""
    if node is not None and node.GetScene() is not None:
        slicer.util.setSliceViewerLayers(foreground=None)
        slicer.mrmlScene.RemoveNode(node)


def _storage_node(path: Path) -> slicer.vtkMRMLVolumeArchetypeStorageNode:
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    if hasattr(storage, "SetForceRightHandedIJKCoordinateSystem"):  # older Slicers leave the order alone
        storage.SetForceRightHandedIJKCoordinateSystem(False)
    storage.SetFileName(str(path))
    return storage
