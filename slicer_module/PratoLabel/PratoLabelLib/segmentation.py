"""Masks on their way between the server, numpy and a segmentation node with named, coloured segments.

A mask here is a uint8 array in numpy's order of Slicer, (K, J, I), with the values of a ``labels`` table, structure name -> value;
0 is background.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util

from PratoLabelLib.volume_file import ijk_to_ras, read_into, write_from

#: Colours (RGB, 0..1) by structure; any other structure keeps the colour that Slicer gives it.
COLOURS = {"RV cavity": (0.35, 0.60, 0.95), "myocardium": (0.95, 0.75, 0.30), "LV cavity": (0.90, 0.30, 0.30)}
#: How far a corner of the mask may lie from the volume's, in smallest voxel edges: files round far below this.
_TOLERANCE = 0.1


class MaskError(ValueError):
    """A mask that does not fit; the message is one sentence for the user."""


def read_mask(path: Path, volume_node: Any, labels: Mapping[str, int]) -> np.ndarray:
    """The mask in the file ``path`` (NIfTI or NRRD), checked against ``volume_node``; the scene is not touched.

    Raises:
        MaskError: unreadable, on another grid than the volume, or with values that ``labels`` does not name.
    """
    node = slicer.vtkMRMLLabelMapVolumeNode()
    if not read_into(node, path):
        raise MaskError(f"The mask for {volume_node.GetName()} cannot be read: ask for it again.")
    if node.GetImageData().GetDimensions() != volume_node.GetImageData().GetDimensions():
        ours, theirs = ("x".join(map(str, n.GetImageData().GetDimensions())) for n in (node, volume_node))
        raise MaskError(f"The mask has {ours} voxels and {volume_node.GetName()} has {theirs}: open the study again.")
    if _corner_distance(node, volume_node) > _TOLERANCE * min(volume_node.GetSpacing()):
        raise MaskError(f"The mask lies elsewhere in space than {volume_node.GetName()}: open the study again.")
    mask = slicer.util.arrayFromVolume(node)
    unknown = set(np.unique(mask).tolist()) - {0, *labels.values()}
    if unknown:
        raise MaskError(f"The mask holds the value {min(unknown)}, which names no structure: the server and this module do not match.")
    return mask.astype(np.uint8)


def write_mask(path: Path, mask: np.ndarray, volume_node: Any) -> None:
    """Write ``mask`` to the NIfTI file ``path`` on the grid of ``volume_node``, without its parent transforms.

    Raises:
        MaskError: the file could not be written.
    """
    node = slicer.vtkMRMLLabelMapVolumeNode()
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(volume_node)))
    slicer.util.updateVolumeFromArray(node, mask)
    if not write_from(node, path):
        raise MaskError(f"{path} cannot be written: make room on the disk, or set another temporary folder.")


def new_segmentation(volume_node: Any, labels: Mapping[str, int], name: str) -> Any:
    """A segmentation node with an empty segment for each structure, on the grid and under the transform of ``volume_node``."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    add_segments(node, labels)
    return node


def add_segments(segmentation_node: Any, labels: Mapping[str, int]) -> None:
    """Add an empty segment for each structure that has none, in the order of their values."""
    segmentation = segmentation_node.GetSegmentation()
    for name in sorted(labels, key=lambda structure: labels[structure]):
        if not segmentation.GetSegmentIdBySegmentName(name):
            segment = segmentation.GetSegment(segmentation.AddEmptySegment("", name))
            if name in COLOURS:
                segment.SetColor(*COLOURS[name])


def mask_of(segmentation_node: Any, volume_node: Any, labels: Mapping[str, int]) -> np.ndarray:
    """The segments of ``labels`` as a mask on the grid of ``volume_node``; where two overlap, the one with the higher value counts."""
    mask = np.zeros(volume_node.GetImageData().GetDimensions()[::-1], np.uint8)
    segmentation = segmentation_node.GetSegmentation()
    for name in sorted(labels, key=lambda structure: labels[structure]):
        segment = segmentation.GetSegmentIdBySegmentName(name)
        if segment:
            filled = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation_node, segment, volume_node)
            if filled is not None:
                mask[filled > 0] = labels[name]
    return mask


def show_mask(segmentation_node: Any, volume_node: Any, labels: Mapping[str, int], mask: np.ndarray) -> None:
    """Give the segments of ``labels`` the voxels of ``mask``; identifiers, names, colours and all other segments stay."""
    add_segments(segmentation_node, labels)
    segmentation = segmentation_node.GetSegmentation()
    for name, value in labels.items():
        segment = segmentation.GetSegmentIdBySegmentName(name)
        slicer.util.updateSegmentBinaryLabelmapFromArray((mask == value).astype(np.uint8), segmentation_node, segment, volume_node)


def merged(current: np.ndarray, predicted: np.ndarray, boxes: Collection[Sequence[int]], locked: Collection[int]) -> np.ndarray:
    """``current`` with what ``predicted`` says inside the boxes.

    Args:
        current, predicted: masks (K, J, I).
        boxes: half-open voxel bounds ``(i0, i1, j0, j1, k0, k1)``; outside all of them nothing changes.
        locked: values that neither gain nor lose a voxel.
    """
    inside = np.zeros(current.shape, bool)
    for i0, i1, j0, j1, k0, k1 in boxes:
        inside[k0:k1, j0:j1, i0:i1] = True
    inside &= ~np.isin(current, list(locked))
    fresh = np.where(np.isin(predicted, list(locked)), current, predicted)
    return np.where(inside, fresh, current)


def _corner_distance(node: Any, other: Any) -> float:
    """Largest distance (mm) between matching corner voxels of two volumes of one size, both without their parent transforms."""
    corners = np.array([(*corner, 1.0) for corner in product(*((0, n - 1) for n in node.GetImageData().GetDimensions()))])
    return float(np.linalg.norm(corners @ (ijk_to_ras(node) - ijk_to_ras(other)).T, axis=1).max())
