"""From an ROI drawn in 3D Slicer to the voxel box of the wire contract, and back.

A box is ``(i0, i1, j0, j1, k0, k1)``: half-open voxel bounds in the index order of the volume node, of which that of the stored image may
be the reverse (see volumes.py). World is RAS, in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import slicer
import vtk

from PratoLabelLib.errors import UserError
from PratoLabelLib.scene.volumes import ijk_to_ras, matrix_to_array
from PratoLabelLib.translation import translator

_ = translator(__file__)

Box = tuple[int, int, int, int, int, int]

#: A face this close to a voxel centre (in voxels) counts as on it: node matrices carry rounding errors far below it.
_ROUNDING = 1e-6


class GeometryError(UserError):
    """An ROI or box that is unusable."""


def roi_to_ijk_box(roi_node: slicer.vtkMRMLMarkupsROINode, volume_node: slicer.vtkMRMLScalarVolumeNode) -> Box:
    """The voxels of ``volume_node`` whose centres lie inside the ROI; at least one along each axis, clamped to the volume.

    All eight corners of the ROI go through its own rotation and its parent transforms, back through the volume's parent transforms, and
    into voxel indices; where the ROI is oblique to the volume, the box is the smallest that encloses it.

    Args:
        roi_node: turned and under transforms as may be.
        volume_node: with an image.

    Raises:
        GeometryError: the ROI has no size yet or lies outside the volume, the volume is empty, or one of them lies under a transform
            that is not linear, and not the other.
    """
    name = roi_node.GetName()
    if roi_node.GetNumberOfControlPoints() == 0 or min(roi_node.GetSize()) <= 0:
        raise GeometryError(_("The ROI {name} has no size yet: place it around the heart.").format(name=name))
    if roi_node.GetParentTransformNode() is not volume_node.GetParentTransformNode():
        _check_transforms(roi_node)
    # not GetObjectToWorldMatrix: it straightens an ROI that a parent transform shears, which Crop Volume does not
    pose = to_ijk(roi_node.GetParentTransformNode(), volume_node) @ matrix_to_array(roi_node.GetObjectToNodeMatrix())
    half = np.array(roi_node.GetSize()) / 2
    corners = np.array([(*(np.array(signs) * half), 1.0) for signs in product((-1, 1), repeat=3)])
    box = enclosing_box((corners @ pose.T)[:, :3], _dimensions(volume_node))
    if box is None:
        raise GeometryError(
            _("The ROI {name} lies outside {volume}: move it over the heart.").format(name=name, volume=volume_node.GetName())
        )
    return box


def enclosing_box(points: np.ndarray, shape: Sequence[int]) -> Box | None:
    """The box of the voxels whose centres lie between the extremes of ``points``; None where that reaches no voxel of the volume.

    Args:
        points: (N, 3) in continuous voxel indices; integers are voxel centres.
        shape: the volume's voxels along each axis.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    if not np.isfinite(points).all() or (high < -0.5).any() or (low > np.array(shape) - 0.5).any():
        return None
    first = np.clip(np.ceil(low - _ROUNDING), 0, np.array(shape) - 1)
    last = np.clip(np.floor(high + _ROUNDING), 0, np.array(shape) - 1)
    # thinner than a voxel and between two centres: the voxel that its middle lies in
    middle = np.clip(np.round((low + high) / 2), 0, np.array(shape) - 1)
    first, last = np.where(first > last, middle, first), np.where(first > last, middle, last)
    return tuple(int(bound) for pair in zip(first, last + 1) for bound in pair)  # type: ignore[return-value]


def ijk_box_to_roi(box: Sequence[int], volume_node: slicer.vtkMRMLScalarVolumeNode, roi_node: slicer.vtkMRMLMarkupsROINode) -> None:
    """Make the ROI enclose exactly the voxels of ``box``, faces half a voxel beyond the outer centres.

    The ROI is turned along the volume's axes and put under the volume's parent transform, so that it stays on the voxels whatever that is.

    Args:
        box: half-open voxel bounds.
        volume_node: whose voxels they are.
        roi_node: gets a new pose, size and parent transform.

    Raises:
        GeometryError: the box contains no voxel.
    """
    start, stop = np.array(box[0::2], dtype=float), np.array(box[1::2], dtype=float)
    if (stop <= start).any():
        raise GeometryError(_("The box {box} contains no voxel: its upper bounds must lie above its lower ones.").format(box=list(box)))
    to_ras = ijk_to_ras(volume_node)
    spacing = np.linalg.norm(to_ras[:3, :3], axis=0)
    axes = to_ras[:3, :3] / spacing
    if np.linalg.det(axes) < 0:
        axes = axes * (1, 1, -1)  # a box is its own mirror image; a left-handed one is no pose for an ROI
    centre = to_ras @ (*((start + stop - 1) / 2), 1.0)
    pose = vtk.vtkMatrix4x4()
    for row, column in product(range(3), range(3)):
        pose.SetElement(row, column, axes[row, column])
    for row in range(3):
        pose.SetElement(row, 3, centre[row])
    roi_node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    roi_node.SetAndObserveObjectToNodeMatrix(pose)
    roi_node.SetSize(*((stop - start) * spacing))


def to_ijk(parent: slicer.vtkMRMLTransformNode | None, volume_node: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """4x4 matrix from coordinates under the transform node ``parent`` (None for the world) to voxel indices.

    Under the volume's own transform these do not depend on it. It may bend: Slicer's DICOM module puts a stack of slices that do not lie
    evenly under a grid transform.

    Raises:
        GeometryError: the volume is empty, or lies under a transform that is not linear, and is not ``parent``.
    """
    if min(_dimensions(volume_node)) < 1:
        raise GeometryError(_("The volume {name} is empty: open an image first.").format(name=volume_node.GetName()))
    if parent is not volume_node.GetParentTransformNode():
        _check_transforms(volume_node)
    between, ras_to_ijk = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(parent, volume_node.GetParentTransformNode(), between)
    volume_node.GetRASToIJKMatrix(ras_to_ijk)
    return matrix_to_array(ras_to_ijk) @ matrix_to_array(between)


def _check_transforms(node: slicer.vtkMRMLTransformableNode) -> None:
    parent = node.GetParentTransformNode()
    if parent is not None and not parent.IsTransformToWorldLinear():
        raise GeometryError(
            _("{name} lies under the transform {transform}, which is not linear: remove it from that transform.").format(
                name=node.GetName(), transform=parent.GetName()
            )
        )


def _dimensions(volume_node: slicer.vtkMRMLScalarVolumeNode) -> tuple[int, int, int]:
    image = volume_node.GetImageData()
    return tuple(image.GetDimensions()) if image is not None else (0, 0, 0)
