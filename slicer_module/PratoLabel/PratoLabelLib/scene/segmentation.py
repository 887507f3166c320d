"""Masks between files, numpy and a segmentation node with named, coloured segments.

A mask here is a uint8 array in numpy's order of Slicer, (K, J, I), with the values of a ``labels`` table, structure name -> value;
0 is background.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from PratoLabelLib.errors import UserError
from PratoLabelLib.scene.segments import add_segments, find_segment, merge_segments, tidied_displays
from PratoLabelLib.scene.volumes import has_reversed_slices, ijk_to_ras, is_left_handed, read_volume, reverse_slices, write_volume
from PratoLabelLib.translation import translator

_ = translator(__file__)

#: How far a corner of the mask may lie from the volume's, in smallest voxel edges: files round far below this.
_TOLERANCE = 0.1

#: What helps where the server has another image by now than the scene, in which a study that is opened is looked for first.
REOPEN = _("delete its image in the module Data, and open the study again")
#: The same where the scene has segments of a study with edits perhaps, and the server another image on the same grid.
REOPEN_STUDY = _("delete the image and the segmentation of {study} in the module Data and open it again, where your edits are offered.")


class MaskError(UserError):
    """A mask that does not fit."""


def read_mask(path: Path, volume_node: slicer.vtkMRMLScalarVolumeNode, labels: Mapping[str, int]) -> np.ndarray:
    """The mask in the file ``path`` (NIfTI or NRRD), checked against ``volume_node``; the scene is not touched.

    Raises:
        MaskError: it is unreadable, on another grid than the volume, or contains values that ``labels`` does not name.
    """
    node = slicer.vtkMRMLLabelMapVolumeNode()
    if not read_volume(node, path):
        raise MaskError(_("The mask for {name} cannot be read: try again.").format(name=volume_node.GetName()))
    if is_left_handed(node) != is_left_handed(volume_node):
        reverse_slices(node)
    if node.GetImageData().GetDimensions() != volume_node.GetImageData().GetDimensions():
        ours, theirs = ("x".join(map(str, n.GetImageData().GetDimensions())) for n in (node, volume_node))
        raise MaskError(
            _("The mask has {ours} voxels and {name} has {theirs}: {way}.").format(
                ours=ours, name=volume_node.GetName(), theirs=theirs, way=REOPEN
            )
        )
    if _corner_distance(node, volume_node) > _TOLERANCE * min(volume_node.GetSpacing()):
        raise MaskError(_("The mask is not in the same place as {name}: {way}.").format(name=volume_node.GetName(), way=REOPEN))
    mask = slicer.util.arrayFromVolume(node)
    unknown = set(np.unique(mask).tolist()) - {0, *labels.values()}
    if unknown:
        raise MaskError(
            _("The mask holds the value {value}, which names no structure: server and module are of different versions.").format(
                value=min(unknown)
            )
        )
    return mask.astype(np.uint8)


def write_mask(path: Path, mask: np.ndarray, volume_node: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Write ``mask`` to the NIfTI file ``path`` on the grid of the image that ``volume_node`` was made from, without parent transforms.

    Raises:
        MaskError: the file could not be written.
    """
    node = slicer.vtkMRMLLabelMapVolumeNode()
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(volume_node)))
    slicer.util.updateVolumeFromArray(node, mask)
    if has_reversed_slices(volume_node):
        reverse_slices(node)
    if not write_volume(node, path):
        raise MaskError(_("{path} cannot be written: free some disk space, or set another temporary folder.").format(path=path))


def create_segmentation(
    volume_node: slicer.vtkMRMLScalarVolumeNode, labels: Mapping[str, int], name: str
) -> slicer.vtkMRMLSegmentationNode:
    """A segmentation node with an empty segment for each structure, on the grid and under the transform of ``volume_node``."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    follow_transform(node, volume_node)
    add_segments(node, labels)
    return node


def follow_transform(node: slicer.vtkMRMLTransformableNode, leader: slicer.vtkMRMLTransformableNode) -> None:
    """Put what is drawn on an image under the transform that the image is under: otherwise its voxels would not be the image's."""
    if node.GetTransformNodeID() != leader.GetTransformNodeID():
        node.SetAndObserveTransformNodeID(leader.GetTransformNodeID())


def check_writable(segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
    """Do nothing where masks can be written into the segments.

    Raises:
        MaskError: they are surfaces, from which voxels are made.
    """
    binary = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    if segmentation_node.GetSegmentation().GetSourceRepresentationName() != binary:
        sentence = _(
            "The segments cannot be changed, because they are surfaces: make {binary} the source representation of {name} in the module "
            "Segmentations."
        )
        raise MaskError(sentence.format(binary=binary, name=segmentation_node.GetName()))


@contextmanager
def renewed_surfaces(segmentation: slicer.vtkSegmentation) -> Iterator[None]:
    """Segments that have surfaces, to be shown in 3D, get new ones of what is written meanwhile: Slicer would keep or drop the old ones."""
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    has_surfaces = segmentation.ContainsRepresentation(surface)
    yield
    if has_surfaces:
        segmentation.RemoveRepresentation(surface)
        segmentation.CreateRepresentation(surface)


def export_mask(
    segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLScalarVolumeNode, labels: Mapping[str, int]
) -> np.ndarray:
    """The segments of ``labels`` as a mask on the grid of ``volume_node``; where two overlap, the higher value wins."""
    segmentation = segmentation_node.GetSegmentation()
    found = {find_segment(segmentation, name): labels[name] for name in sorted(labels, key=lambda structure: labels[structure])}
    found.pop("", None)
    values = np.array([0, *found.values()], np.uint8)
    return values[merge_segments(segmentation_node, list(found), volume_node)]


def import_mask(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    labels: Mapping[str, int],
    mask: np.ndarray,
) -> None:
    """Give the segments of ``labels`` the voxels of ``mask``; identifiers, names, colours and all other segments stay.

    Raises:
        MaskError: see :func:`check_writable`; nothing has changed then.
    """
    check_writable(segmentation_node)
    follow_transform(segmentation_node, volume_node)
    add_segments(segmentation_node, labels)
    segmentation = segmentation_node.GetSegmentation()
    with renewed_surfaces(segmentation), tidied_displays():
        for name, value in labels.items():
            segment = find_segment(segmentation, name)
            slicer.util.updateSegmentBinaryLabelmapFromArray((mask == value).astype(np.uint8), segmentation_node, segment, volume_node)


def import_changes(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    labels: Mapping[str, int],
    mask: np.ndarray,
    was: np.ndarray,
) -> None:
    """As :func:`import_mask`, where the segments are ``was``: only the box of the voxels that differ is touched, in some milliseconds."""
    changes = np.nonzero(mask != was)
    if not changes[0].size:
        return
    check_writable(segmentation_node)
    segmentation, logic = segmentation_node.GetSegmentation(), slicer.vtkSlicerSegmentationsModuleLogic
    is_moved = segmentation_node.GetParentTransformNode() is not volume_node.GetParentTransformNode()
    found = {name: find_segment(segmentation, name) for name in labels}
    if is_moved or not all(found.values()):
        import_mask(segmentation_node, volume_node, labels, mask)
        return
    bounds = [bound for axis in changes[::-1] for bound in (int(axis.min()), int(axis.max()))]
    part = mask[bounds[4] : bounds[5] + 1, bounds[2] : bounds[3] + 1, bounds[0] : bounds[1] + 1]
    region, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    region.SetExtent(*bounds)
    region.SetImageToWorldMatrix(matrix)
    # the minimum takes voxels away, the mask adds them: of a segment that loses some, and then of one that gains them.
    # Never the maximum, which writes the number 1 into a labelmap whatever number the segment has there
    for mode in (logic.MODE_MERGE_MIN, logic.MODE_MERGE_MASK):
        for name, value in labels.items():
            voxels = np.ascontiguousarray(part == value, np.uint8)
            region.GetPointData().SetScalars(numpy_to_vtk(voxels.ravel(), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR))
            logic.SetBinaryLabelmapToSegment(region, segmentation_node, found[name], mode, bounds)


def merge_masks(current: np.ndarray, predicted: np.ndarray, boxes: Collection[Sequence[int]], locked: Collection[int]) -> np.ndarray:
    """``current`` with the voxels of ``predicted`` inside the boxes.

    Args:
        current, predicted: masks (K, J, I).
        boxes: half-open voxel bounds ``(i0, i1, j0, j1, k0, k1)``; outside all of them nothing changes.
        locked: values that neither gain nor lose a voxel.
    """
    merged = current.copy()
    for i0, i1, j0, j1, k0, k1 in boxes:
        inside = slice(k0, k1), slice(j0, j1), slice(i0, i1)
        was, is_now = current[inside], predicted[inside]
        keep = np.isin(was, list(locked)) | np.isin(is_now, list(locked)) if locked else False
        merged[inside] = np.where(keep, was, is_now)
    return merged


def _corner_distance(node: slicer.vtkMRMLVolumeNode, other: slicer.vtkMRMLVolumeNode) -> float:
    """Largest distance (mm) between matching corner voxels of two volumes of one size, both without their parent transforms."""
    corners = np.array([(*corner, 1.0) for corner in product(*((0, n - 1) for n in node.GetImageData().GetDimensions()))])
    return float(np.linalg.norm(corners @ (ijk_to_ras(node) - ijk_to_ras(other)).T, axis=1).max())
