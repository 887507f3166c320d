"""Boxes of a cine that are keyed by phase: an ROI that moves from each keyed phase to the next, as the server moves it.

The keys are kept with the ROI, in the scene, as bounds in the order of the stored image, in which the server is sent them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import slicer

from PratoLabelLib.scene.geometry import Box, GeometryError, ijk_box_to_roi, roi_to_ijk_box
from PratoLabelLib.scene.volumes import to_file_order

#: Node attribute of an ROI: its bounds by keyed phase.
KEYS_ATTRIBUTE = "PratoLabel.keys"


def move_box(keys: Mapping[int, Sequence[int]], phase: int, count: int) -> list[int]:
    """The bounds in ``phase`` of a box that moves linearly from each keyed phase to the next, and from the last over the end to the first.

    Args:
        keys: half-open voxel bounds in the order of the stored image, by phase; at least one.
        count: phases of the cine.
    """
    before = max((key for key in keys if key <= phase), default=max(keys))
    after = min((key for key in keys if key > phase), default=min(keys))
    steps, step = (after - before) % count or count, (phase - before) % count
    sides = zip((1, 0) * 3, keys[before], keys[after])  # half a voxel is rounded outwards
    return [(2 * ((steps - step) * a + step * b) + steps - is_start) // (2 * steps) for is_start, a, b in sides]


def read_keys(roi_node: slicer.vtkMRMLMarkupsROINode, count: int) -> dict[int, list[int]]:
    """The keys of the ROI in a cine of ``count`` phases, in the order of the stored image; none of a box that serves for all phases."""
    kept = json.loads(roi_node.GetAttribute(KEYS_ATTRIBUTE) or "{}") if count > 1 else {}
    return {int(phase): box for phase, box in sorted(kept.items(), key=lambda item: int(item[0])) if int(phase) < count}


def write_keys(roi_node: slicer.vtkMRMLMarkupsROINode, keys: Mapping[int, Sequence[int]]) -> None:
    """Keep ``keys`` with the ROI; none: it serves for all phases."""
    text = json.dumps({str(phase): [*box] for phase, box in sorted(keys.items())})
    roi_node.SetAttribute(KEYS_ATTRIBUTE, text if keys else None)


def key_box(roi_node: slicer.vtkMRMLMarkupsROINode, volume_node: slicer.vtkMRMLScalarVolumeNode, phase: int, count: int) -> None:
    """Let the ROI as it is be the box of ``phase``.

    Raises:
        GeometryError: the ROI is unusable.
    """
    box = to_file_order(roi_to_ijk_box(roi_node, volume_node), volume_node)
    write_keys(roi_node, {**read_keys(roi_node, count), phase: box})


def note_moved(roi_node: slicer.vtkMRMLMarkupsROINode, volume_node: slicer.vtkMRMLScalarVolumeNode, phase: int, count: int) -> None:
    """Key a keyed ROI in ``phase`` if it is no longer where it was shown, by whatever it was moved; what is unusable is no key."""
    keys = read_keys(roi_node, count)
    if not keys:
        return
    try:
        box = to_file_order(roi_to_ijk_box(roi_node, volume_node), volume_node)
    except GeometryError:
        return
    if box != move_box(keys, phase, count):
        write_keys(roi_node, {**keys, phase: box})


def show_box(roi_node: slicer.vtkMRMLMarkupsROINode, volume_node: slicer.vtkMRMLScalarVolumeNode, phase: int, count: int) -> None:
    """Move a keyed ROI to where it is in ``phase``."""
    keys = read_keys(roi_node, count)
    if keys:
        ijk_box_to_roi(to_file_order(move_box(keys, phase, count), volume_node), volume_node, roi_node)


def boxes_by_phase(
    rois: Sequence[slicer.vtkMRMLMarkupsROINode], volume_node: slicer.vtkMRMLScalarVolumeNode, count: int
) -> tuple[dict[int, list[Box]], dict[int, list[list[int]]]]:
    """The boxes of all ROIs in each phase, in the order of the volume node, and those that are sent: by phase, in the order of the file.

    What is sent is empty where no ROI is keyed. ROIs that are keyed in different phases are sent for every phase, so that each moves by
    its own keys alone.

    Raises:
        GeometryError: an ROI is unusable.
    """
    found = [read_keys(roi, count) for roi in rois]
    as_shown = [to_file_order(roi_to_ijk_box(roi, volume_node), volume_node) for roi in rois]
    keys = [own or {0: box} for own, box in zip(found, as_shown)]
    moved = {phase: [move_box(key, phase, count) for key in keys] for phase in range(count)}
    keyed = {tuple(own) for own in found if own}
    sent = {phase: moved[phase] for phase in (keyed.pop() if len(keyed) == 1 else range(count))} if keyed else {}
    boxes = {phase: [_to_box(to_file_order(box, volume_node)) for box in there] for phase, there in moved.items()}
    return boxes, sent


def _to_box(bounds: Sequence[int]) -> Box:
    i0, i1, j0, j1, k0, k1 = bounds
    return i0, i1, j0, j1, k0, k1
