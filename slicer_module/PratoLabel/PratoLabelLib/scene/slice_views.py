"""The slice views: which plane of a volume each shows, and how to go to a slice of it."""

from __future__ import annotations

import numpy as np
import slicer
import slicer.util
import vtk

from PratoLabelLib.scene.volumes import ijk_to_ras, matrix_to_array

#: How much thicker than voxels are wide slices must be to be told by that, as for the server: a scribble lies on one of its slices.
_THICKER = 1.5
#: The cosine above which a view shows slices as they were acquired.
_PARALLEL = 0.999


def slice_axis(volume_node: slicer.vtkMRMLVolumeNode) -> int:
    """The axis (0, 1, 2) that runs across the acquired slices: the only one of a single voxel, else by far the coarsest, else the last."""
    single = [axis for axis, n in enumerate(volume_node.GetImageData().GetDimensions()) if n == 1]
    if len(single) == 1:
        return single[0]
    spacing = volume_node.GetSpacing()
    coarsest = int(np.argmax(spacing))
    return coarsest if spacing[coarsest] > _THICKER * sorted(spacing)[1] else 2


def show_planes(volume_node: slicer.vtkMRMLVolumeNode) -> None:
    """Show the acquired slices in Red, and the planes across them in Green and Yellow; any other view takes its nearest plane.

    Slicer's own RotateToVolumePlane gives each view the nearest plane: that of a short-axis stack lands in Green, and Red shows what was
    never acquired.
    """
    across = slice_axis(volume_node)
    column, row = (axis for axis in range(3) if axis != across)
    normals = {"Red": across, "Green": row, "Yellow": column}
    directions = _directions(volume_node)
    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        name = view.GetLayoutName()
        if name in normals:
            view.GetSliceToRAS().DeepCopy(_plane(directions, normals[name], view.GetSliceToRAS()))
            view.UpdateMatrices()
        else:
            view.RotateToVolumePlane(volume_node)


def jump_to_slice(volume_node: slicer.vtkMRMLVolumeNode, index: int) -> None:
    """Go to slice ``index`` (from 0) of the volume in the views that show slices as they were acquired; each keeps its zoom."""
    normal = _directions(volume_node)[:, slice_axis(volume_node)]
    centre = (np.array(volume_node.GetImageData().GetDimensions()) - 1) / 2
    centre[slice_axis(volume_node)] = index
    world = [0.0, 0.0, 0.0]
    volume_node.TransformPointToWorld((ijk_to_ras(volume_node) @ (*centre, 1.0))[:3], world)  # by whatever bends the stack
    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        if abs(sum(view.GetSliceToRAS().GetElement(row, 2) * normal[row] for row in range(3))) > _PARALLEL:
            view.JumpSliceByOffsetting(*world)


def _plane(directions: np.ndarray, normal: int, present: vtk.vtkMatrix4x4) -> vtk.vtkMatrix4x4:
    """SliceToRAS of the plane across axis ``normal``, through the origin of ``present``.

    As images are read: what points most to the head, else to the front, is up, and left or the back are to the right.
    """
    first, second = (axis for axis in range(3) if axis != normal)
    towards = np.argmax(np.abs(directions), axis=0)  # right, front or head
    right, up = (first, second) if towards[second] >= towards[first] else (second, first)
    signs = np.where(directions[towards, range(3)] < 0, -1.0, 1.0)
    x, y = -signs[right] * directions[:, right], signs[up] * directions[:, up]
    matrix = vtk.vtkMatrix4x4()
    for row in range(3):
        for column, axis in enumerate((x, y, signs[normal] * directions[:, normal])):
            matrix.SetElement(row, column, axis[row])
        matrix.SetElement(row, 3, present.GetElement(row, 3))
    return matrix


def _directions(volume_node: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """The volume's axes in the world, as unit columns (3, 3)."""
    axes = _ijk_to_world(volume_node)[:3, :3]
    return axes / np.linalg.norm(axes, axis=0)


def _ijk_to_world(volume_node: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    to_world = vtk.vtkMatrix4x4()
    parent = volume_node.GetParentTransformNode()
    if parent is not None and parent.IsTransformToWorldLinear():
        parent.GetMatrixTransformToWorld(to_world)
    return matrix_to_array(to_world) @ ijk_to_ras(volume_node)
