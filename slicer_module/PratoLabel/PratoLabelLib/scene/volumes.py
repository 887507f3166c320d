"""Volume nodes, the files that they come from and go to, and the token map laid over them.

3D Slicer does not support left-handed IJK coordinates (surfaces are turned inside out), and newer versions reverse the slices of such an
image when they read it. So does this module, with every version. Boxes and masks of the wire contract are in the stored image's own index
order: they are turned round on their way there and back.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk

from PratoLabelLib.errors import UserError
from PratoLabelLib.translation import translator

_ = translator(__file__)

#: Node attribute: set where the stored image has the slices of the volume node in reverse.
_REVERSED_ATTRIBUTE = "PratoLabel.slicesReversed"
#: Node attribute: set where the image came from the server.
_LOADED_ATTRIBUTE = "PratoLabel.loaded"
_TOKEN_COLOUR_NODE = "vtkMRMLColorTableNodeFileColdToHotRainbow.txt"
_TOKEN_OPACITY = 0.35
#: Largest cosine between two voxel axes that still counts as a right angle, as on the server.
_MAX_COSINE = 2e-3


def read_volume(node: slicer.vtkMRMLVolumeNode, path: Path) -> bool:
    """Read the file ``path`` into a volume node, in the scene or not, in the file's order; False where it cannot be read."""
    return bool(path.is_file() and _storage_node(path).ReadData(node) and node.GetImageData() is not None)


def check_image(node: slicer.vtkMRMLVolumeNode) -> None:
    """Do nothing where the volume node has an image that a NIfTI file holds as it is.

    Raises:
        UserError: there is none; it has no place or no size; or its axes are sheared, as after a transform was hardened: Slicer would
            straighten them in the file.
    """
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        raise UserError(_("There is no image in {name}: open one first.").format(name=node.GetName()))
    matrix = ijk_to_ras(node)
    axes, lengths = matrix[:3, :3], np.linalg.norm(matrix[:3, :3], axis=0)
    if not (np.isfinite(matrix).all() and lengths.all()):
        raise UserError(
            _("The origin and the spacing of {name} must be numbers, and no spacing 0: set them in the module Volumes.").format(
                name=node.GetName()
            )
        )
    cosines = axes.T @ axes / np.outer(lengths, lengths)
    if not np.allclose(cosines, np.eye(3), rtol=0, atol=_MAX_COSINE):
        raise UserError(
            _("The axes of {name} are not at right angles to each other: resample it first, for example in the module Crop Volume.").format(
                name=node.GetName()
            )
        )


def write_volume(node: slicer.vtkMRMLVolumeNode, path: Path) -> bool:
    """Write a volume node to the file ``path``, without its parent transforms; False where it cannot be written."""
    return bool(_storage_node(path).WriteData(node))


def load_volume(path: Path, name: str) -> slicer.vtkMRMLScalarVolumeNode | None:
    """A new node in the scene, right-handed, with the image in the file ``path``; None where that cannot be read, with nothing changed."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    if not read_volume(node, path):
        slicer.mrmlScene.RemoveNode(node)
        return None
    if is_left_handed(node):
        reverse_slices(node)
        node.SetAttribute(_REVERSED_ATTRIBUTE, "1")
    node.SetAttribute(_LOADED_ATTRIBUTE, "1")
    node.CreateDefaultDisplayNodes()
    return node


def copy_marks(node: slicer.vtkMRMLNode, to: slicer.vtkMRMLNode) -> None:
    """Let ``to`` say of the stored image what ``node`` says of it."""
    for name in (_REVERSED_ATTRIBUTE, _LOADED_ATTRIBUTE):
        to.SetAttribute(name, node.GetAttribute(name))


def is_loaded_here(node: slicer.vtkMRMLVolumeNode) -> bool:
    """Whether this module has loaded the volume node, from a server."""
    return node.GetAttribute(_LOADED_ATTRIBUTE) is not None


def can_be_study(node: slicer.vtkMRMLVolumeNode) -> bool:
    """Whether the node can be worked on where it is: in the scene, its voxels are counted from 0, as in a file, and no other images are
    put into it, as into one that shows an item of a sequence."""
    image = node.GetImageData()
    return node.GetScene() is not None and image is not None and not any(image.GetExtent()[::2]) and not find_browsers(node)


def find_browsers(node: slicer.vtkMRMLNode) -> list[slicer.vtkMRMLSequenceBrowserNode]:
    """The browsers that let the node show an item of a sequence."""
    return [browser for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode") if browser.IsProxyNodeID(node.GetID())]


def remove_node(node: slicer.vtkMRMLNode) -> None:
    """Remove a node from the scene, with its display and storage nodes."""
    shown = range(node.GetNumberOfDisplayNodes()) if node.IsA("vtkMRMLDisplayableNode") else ()
    parts = [node.GetNthDisplayNode(n) for n in shown] + ([node.GetStorageNode()] if node.IsA("vtkMRMLStorableNode") else [])
    for part in (node, *parts):
        if part is not None and part.GetScene() is not None:
            slicer.mrmlScene.RemoveNode(part)


def leave_out_of_files(node: slicer.vtkMRMLDisplayableNode) -> None:
    """Let scenes be saved without the node, and without its display nodes: those alone would come back, and belong to nothing."""
    for part in (node, *map(node.GetNthDisplayNode, range(node.GetNumberOfDisplayNodes()))):
        part.SetSaveWithScene(False)


def is_left_handed(node: slicer.vtkMRMLVolumeNode) -> bool:
    """Whether the axes of the voxel indices make a left-handed system in RAS."""
    return bool(np.linalg.det(ijk_to_ras(node)[:3, :3]) < 0)


def reverse_slices(node: slicer.vtkMRMLVolumeNode) -> None:
    """Store the slices the other way round; every voxel stays where it is in space."""
    matrix, array = ijk_to_ras(node), slicer.util.arrayFromVolume(node)[::-1].copy()
    matrix[:3, 3] += matrix[:3, 2] * (len(array) - 1)
    matrix[:3, 2] *= -1
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    slicer.util.updateVolumeFromArray(node, array)


def mark_as_stored(node: slicer.vtkMRMLVolumeNode) -> None:
    """From here on the stored image is what the volume node is, as it was sent: the labeller's, be it a copy of one that was loaded."""
    node.RemoveAttribute(_REVERSED_ATTRIBUTE)
    node.RemoveAttribute(_LOADED_ATTRIBUTE)


def has_reversed_slices(node: slicer.vtkMRMLVolumeNode) -> bool:
    """Whether the stored image has the slices of the volume node in reverse."""
    return node.GetAttribute(_REVERSED_ATTRIBUTE) is not None


def to_file_order(box: Sequence[int], node: slicer.vtkMRMLVolumeNode) -> list[int]:
    """``box``, half-open voxel bounds of the volume node, as bounds of the stored image; the same function leads back."""
    i0, i1, j0, j1, k0, k1 = box
    slices = node.GetImageData().GetDimensions()[2]
    return [i0, i1, j0, j1, slices - k1, slices - k0] if has_reversed_slices(node) else [i0, i1, j0, j1, k0, k1]


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
        UserError: not what ``docs/protocol/infer.md`` describes.
    """
    try:
        levels = np.frombuffer(zlib.decompress(base64.b64decode(tokens["data"])), np.uint8).reshape(tokens["shape"])
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise UserError(_("The token map in the server's answer cannot be read: server and module are of different versions.")) from error
    return (levels.T / np.float32(255)).astype(np.float32)


def show_token_map(
    token_map: np.ndarray, volume_node: slicer.vtkMRMLScalarVolumeNode, node: slicer.vtkMRMLScalarVolumeNode | None
) -> slicer.vtkMRMLScalarVolumeNode:
    """Lay ``token_map`` over the slice views, on the grid of ``volume_node``; returns its volume node.

    Args:
        token_map: (K, J, I) in the stored image's order.
        node: the volume node of an earlier map, to be reused; None for a new one.
    """
    if node is None or node.GetScene() is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"{volume_node.GetName()} tokens kept")
        node.SetHideFromEditors(True)  # a picture for now: neither a study nor worth saving
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(volume_node)))
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    slicer.util.updateVolumeFromArray(node, token_map[::-1].copy() if has_reversed_slices(volume_node) else token_map)
    node.CreateDefaultDisplayNodes()
    leave_out_of_files(node)
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
        remove_node(node)


def _storage_node(path: Path) -> slicer.vtkMRMLVolumeArchetypeStorageNode:
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    if hasattr(storage, "SetForceRightHandedIJKCoordinateSystem"):  # older Slicers leave the order alone
        storage.SetForceRightHandedIJKCoordinateSystem(False)
    storage.SetSingleFile(True)  # Slicer would read files of one slice whose names differ by a number as the slices of one volume
    storage.SetFileName(str(path))
    return storage
