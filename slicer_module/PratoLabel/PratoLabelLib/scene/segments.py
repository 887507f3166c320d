"""Which segment is which structure: told by a tag that stays when a segment is renamed, and checked before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations, product

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from PratoLabelLib.scene.geometry import enclosing_box, to_ijk
from PratoLabelLib.scene.volumes import matrix_to_array
from PratoLabelLib.translation import translator

_ = translator(__file__)

#: Segment tag: the structure that a segment is, whatever its name.
STRUCTURE_TAG = "PratoLabel.structure"
#: Colours (RGB, 0..1) by structure, those of the server's pages and reports; any other structure keeps the colour that Slicer gives it.
COLOURS = {"RV cavity": (0.26, 0.55, 0.96), "myocardium": (0.30, 0.78, 0.40), "LV cavity": (0.95, 0.33, 0.31)}


def add_segments(segmentation_node: slicer.vtkMRMLSegmentationNode, labels: Mapping[str, int]) -> None:
    """Add an empty segment for each structure that has none, in the order of their values, and tag those that have no tag yet."""
    segmentation = segmentation_node.GetSegmentation()
    for name in sorted(labels, key=lambda structure: labels[structure]):
        segment_id = find_segment(segmentation, name) or segmentation.AddEmptySegment("", name)
        segment = segmentation.GetSegment(segment_id)
        if not _structure_of(segment):
            segment.SetTag(STRUCTURE_TAG, name)
            if name in COLOURS:
                segment.SetColor(*COLOURS[name])


def find_segment(segmentation: slicer.vtkSegmentation, structure: str) -> str:
    """The id of the first segment that is ``structure``: by its tag, else an untagged one by its name; "" where there is none."""
    return next(iter(_find_segments(segmentation, structure)), "")


def find_problems(
    segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLScalarVolumeNode, labels: Mapping[str, int]
) -> list[str]:
    """What of the segments would be sent otherwise than the labeller may think, a sentence each.

    A structure whose segment was removed, or has several; a segment that has the name of another structure; one that is hidden, though it
    is sent; voxels of two structures at once, of which one wins; and segments that are no structure and are not sent.
    """
    segmentation, display = segmentation_node.GetSegmentation(), segmentation_node.GetDisplayNode()
    problems, used = [], {}
    for structure in sorted(labels, key=lambda name: labels[name]):
        found = _find_segments(segmentation, structure)
        used.update(dict.fromkeys(found, structure))
        if not found:
            problems.append(
                _("The segment of the {structure} was removed: the label would say that there is none.").format(structure=structure)
            )
        if len(found) > 1:
            problems.append(
                _("{count} segments are the {structure}: only {name} would be sent.").format(
                    count=len(found), structure=structure, name=_name(segmentation, found[0])
                )
            )
        for segment_id in found[:1]:
            name = _name(segmentation, segment_id)
            if name != structure and name in labels:
                problems.append(
                    _("The segment called {name} is the {structure}, and would be sent as such: rename it.").format(
                        name=name, structure=structure
                    )
                )
            if display is not None and not display.GetSegmentVisibility(segment_id):
                problems.append(_("{name} is hidden, but would still be sent.").format(name=name))
    masks = {i: merge_segments(segmentation_node, [i], volume_node) > 0 for i in segmentation.GetSegmentIDs()}
    for segment_id, mask in masks.items():
        if segment_id not in used and mask.any():
            problems.append(_describe_unsent(segmentation, segment_id, used))
    return problems + _find_overlaps(segmentation, masks, used, labels)


def _describe_unsent(segmentation: slicer.vtkSegmentation, segment_id: str, used: Mapping[str, str]) -> str:
    """Why a segment is not sent: it may have been imported under the name of a structure that has one already."""
    name = _name(segmentation, segment_id)
    names = {_name(segmentation, known) for known in used}
    instead = next((_name(segmentation, known) for known, structure in used.items() if structure == name), None)
    if name in names:
        said = _("A second segment is called {name}, and would not be sent: remove the one that is wrong.")
    elif instead is not None:
        said = _("The segment {name} would not be sent, because {instead} is the {name}: remove the one that is wrong.")
    else:
        said = _("The segment {name} is not a structure of the model, and would not be sent.")
    return said.format(name=name, instead=instead)


def _find_overlaps(
    segmentation: slicer.vtkSegmentation, masks: Mapping[str, np.ndarray], used: Mapping[str, str], labels: Mapping[str, int]
) -> list[str]:
    ordered = sorted(used, key=lambda segment_id: labels[used[segment_id]])
    found = []
    for lower, higher in combinations(ordered, 2):
        shared = int(np.count_nonzero(masks[lower] & masks[higher])) if used[lower] != used[higher] else 0
        if shared:
            names = _name(segmentation, lower), _name(segmentation, higher)
            found.append(
                _("{lower} and {higher} share {count} voxels, which would be sent as {higher}.").format(
                    lower=names[0], higher=names[1], count=shared
                )
            )
    return found


def _find_segments(segmentation: slicer.vtkSegmentation, structure: str) -> list[str]:
    ids = segmentation.GetSegmentIDs()
    tagged = [segment_id for segment_id in ids if _structure_of(segmentation.GetSegment(segment_id)) == structure]
    return tagged or [i for i in ids if _name(segmentation, i) == structure and not _structure_of(segmentation.GetSegment(i))]


def _structure_of(segment: slicer.vtkSegment) -> str:
    value = vtk.reference("")
    return str(value) if segment.GetTag(STRUCTURE_TAG, value) else ""


def _name(segmentation: slicer.vtkSegmentation, segment_id: str) -> str:
    return str(segmentation.GetSegment(segment_id).GetName())


def merge_segments(
    segmentation_node: slicer.vtkMRMLSegmentationNode, segment_ids: Sequence[str], volume_node: slicer.vtkMRMLScalarVolumeNode
) -> np.ndarray:
    """The segments on the grid of ``volume_node``: int (K, J, I), n where the n-th of ``segment_ids`` is, from 1; the last one wins.

    Nothing in the scene changes, not even for a moment, unless the segments have to be converted or moved to the grid.
    """
    merged, shape = slicer.vtkOrientedImageData(), volume_node.GetImageData().GetDimensions()[::-1]
    if not segment_ids:
        return np.zeros(shape, np.int16)
    binary = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    moved = segmentation_node.GetParentTransformNode() is not volume_node.GetParentTransformNode()
    if moved or not segmentation_node.GetSegmentation().ContainsRepresentation(binary):
        return _merge_exported(segmentation_node, segment_ids, volume_node)
    matrix, grid, ids = vtk.vtkMatrix4x4(), slicer.vtkOrientedImageData(), vtk.vtkStringArray()
    volume_node.GetIJKToRASMatrix(matrix)
    grid.SetDimensions(shape[::-1])
    grid.SetImageToWorldMatrix(matrix)
    for segment_id in segment_ids:
        ids.InsertNextValue(segment_id)
    mode = slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY
    if not segmentation_node.GenerateMergedLabelmapForAllSegments(merged, mode, grid, ids):
        raise ValueError(f"The segments of {segmentation_node.GetName()} cannot be read.")
    return vtk_to_numpy(merged.GetPointData().GetScalars()).reshape(shape)


def _merge_exported(
    segmentation_node: slicer.vtkMRMLSegmentationNode, segment_ids: Sequence[str], volume_node: slicer.vtkMRMLScalarVolumeNode
) -> np.ndarray:
    merged = np.zeros(volume_node.GetImageData().GetDimensions()[::-1], np.int16)
    with tidied_displays():
        for number, segment_id in enumerate(segment_ids, 1):
            if _has_nothing_in(segmentation_node, segment_id, volume_node):
                continue  # there is nothing to export, which Slicer takes for a failure
            array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation_node, segment_id, volume_node)
            if array is not None:
                merged[array > 0] = number
    return merged


def _has_nothing_in(
    segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, volume_node: slicer.vtkMRMLScalarVolumeNode
) -> bool:
    """Whether a segment has no voxel in the image: none at all, or its own linear transform has moved all of them out of it."""
    extent, image, resample = [0] * 6, slicer.vtkOrientedImageData(), slicer.vtkOrientedImageDataResample
    parents = [parent for node in (segmentation_node, volume_node) if (parent := node.GetParentTransformNode()) is not None]
    binary = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    is_told = segmentation_node.GetSegmentation().ContainsRepresentation(binary) and all(p.IsTransformToWorldLinear() for p in parents)
    if not is_told or not segmentation_node.GetBinaryLabelmapRepresentation(segment_id, image):
        return False
    if not resample.CalculateEffectiveExtent(image, extent):
        return True
    to_world = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(to_world)
    corners = np.array([(*corner, 1.0) for corner in product(extent[:2], extent[2:4], extent[4:])])
    found = corners @ (to_ijk(segmentation_node.GetParentTransformNode(), volume_node) @ matrix_to_array(to_world)).T
    return enclosing_box(found[:, :3], volume_node.GetImageData().GetDimensions()) is None


@contextmanager
def tidied_displays() -> Iterator[None]:
    """Remove the display nodes that slicer.util leaves behind of its temporary labelmaps."""
    kind = "vtkMRMLLabelMapVolumeDisplayNode"
    before = set(slicer.util.getNodesByClass(kind))
    try:
        yield
    finally:
        for node in set(slicer.util.getNodesByClass(kind)) - before:
            slicer.mrmlScene.RemoveNode(node)
