"""What a labeller has drawn: the mask that is sent, and the parts beside it that a mask cannot hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import slicer
import slicer.util
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from PratoLabelLib.scene.segments import find_segment, merge_segments
from PratoLabelLib.scene.volumes import ijk_to_ras


class Part(NamedTuple):
    """A segment that is no structure, or a structure that another one covers in part.

    Attributes:
        structure: "" for none.
        name: of the segment.
        voxels: all of the segment's, bool (K, J, I).
    """

    structure: str
    name: str
    voxels: np.ndarray


class Drawing(NamedTuple):
    """The segments of one phase.

    Attributes:
        mask: uint8 (K, J, I), what is sent.
        parts: what would be lost if it were drawn anew from ``mask``, in the order of their names.
    """

    mask: np.ndarray
    parts: tuple[Part, ...] = ()

    def is_like(self, other: Drawing) -> bool:
        """Whether both are the same, voxel by voxel."""
        return np.array_equal(self.mask, other.mask) and has_same_parts(self.parts, other.parts)


def has_same_parts(parts: Sequence[Part], others: Sequence[Part]) -> bool:
    """Whether both are the same, voxel by voxel."""
    if [part[:2] for part in parts] != [other[:2] for other in others]:
        return False
    return all(np.array_equal(part.voxels, other.voxels) for part, other in zip(parts, others))


def read_parts(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    labels: Mapping[str, int],
    mask: np.ndarray,
) -> tuple[Part, ...]:
    """What lies beside ``mask``, the segments of ``labels``: see :class:`Drawing`. Where there is nothing, the voxels are only counted."""
    segmentation = segmentation_node.GetSegmentation()
    structures = {find_segment(segmentation, name): name for name in labels}
    counts = {segment_id: _count_voxels(segmentation, segment_id) for segment_id in segmentation.GetSegmentIDs()}
    is_covered = sum(count for segment_id, count in counts.items() if segment_id in structures) != np.count_nonzero(mask)
    found = []
    for segment_id, count in counts.items():
        structure = structures.get(segment_id, "")
        if not count or (structure and not is_covered):
            continue
        voxels = merge_segments(segmentation_node, [segment_id], volume_node) > 0
        if voxels.any() and not (structure and np.array_equal(voxels, mask == labels[structure])):
            found.append(Part(structure, segmentation.GetSegment(segment_id).GetName(), voxels))
    return tuple(sorted(found, key=lambda part: part[:2]))


def write_parts(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    labels: Mapping[str, int],
    parts: Sequence[Part],
) -> None:
    """Draw parts beside the mask that is in the segments already; segments that are not there are added."""
    segmentation, logic = segmentation_node.GetSegmentation(), slicer.vtkSlicerSegmentationsModuleLogic
    for part in parts:
        structures = {find_segment(segmentation, name) for name in labels}
        own = [i for i in segmentation.GetSegmentIDs() if i not in structures and segmentation.GetSegment(i).GetName() == part.name]
        known = find_segment(segmentation, part.structure) if part.structure else next(iter(own), "")
        segment_id = known or segmentation.AddEmptySegment("", part.name)
        labelmap = slicer.vtkOrientedImageData()
        labelmap.SetDimensions(part.voxels.shape[::-1])
        labelmap.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(volume_node)))
        labelmap.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(part.voxels, np.uint8).ravel(), deep=True))
        segmentation.SeparateSegmentLabelmap(segment_id)  # so that it may cover others
        logic.SetBinaryLabelmapToSegment(labelmap, segmentation_node, segment_id, logic.MODE_REPLACE)


def _count_voxels(segmentation: slicer.vtkSegmentation, segment_id: str) -> int:
    """How many voxels the segment has; 1 where that is not known before it is converted."""
    binary = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    if not segmentation.ContainsRepresentation(binary):
        return 1
    segment = segmentation.GetSegment(segment_id)
    labelmap = segment.GetRepresentation(binary)
    scalars = labelmap.GetPointData().GetScalars() if labelmap is not None else None
    return 0 if scalars is None else int(np.count_nonzero(vtk_to_numpy(scalars) == segment.GetLabelValue()))
