"""Placing the box by two clicks: the rectangle that was clicked, along the volume's axes, over the whole stack or the slices chosen.

3D Slicer's own result is of no use here: it bounds the clicks along the former axes of the ROI, takes its former centre in, and
gives the box the shorter side as its depth. And it forgets both clicks as soon as the second has come, so they are followed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import slicer

from PratoLabelLib.scene.geometry import Box, GeometryError, ijk_box_to_roi, roi_to_ijk_box, to_ijk
from PratoLabelLib.scene.slice_views import slice_axis
from PratoLabelLib.scene.volumes import matrix_to_array

#: Two positions closer than this (in voxels) are one.
_SAME = 1e-3


def style_box(roi_node: slicer.vtkMRMLMarkupsROINode) -> None:
    """Show the box by its outline alone: nothing is laid over the heart, and it does not turn by accident."""
    roi_node.CreateDefaultDisplayNodes()
    display = roi_node.GetDisplayNode()
    display.SetFillOpacity(0.0)
    display.SetPropertiesLabelVisibility(False)
    display.SetHandlesInteractive(True)
    display.SetRotationHandleVisibility(False)


@contextmanager
def keeping_place_node() -> Iterator[None]:
    """While the panel adds a node, which Slicer would put all following points into: it may show what was there before, or a proposal."""
    selection = slicer.app.applicationLogic().GetSelectionNode()
    placed, kind = selection.GetActivePlaceNodeID(), selection.GetActivePlaceNodeClassName()
    try:
        yield
    finally:
        selection.SetReferenceActivePlaceNodeID(placed)
        selection.SetReferenceActivePlaceNodeClassName(kind)


class Placement:
    """Follows the clicks from now on, until the box is there.

    Args:
        roi_node: loses its points, and is turned along the axes of ``volume_node``.
        volume_node: the image that is clicked in.
        slices: first and one past the last slice of the box; None for the whole stack.
        on_placed: called once, when the box is there.
    """

    def __init__(
        self,
        roi_node: slicer.vtkMRMLMarkupsROINode,
        volume_node: slicer.vtkMRMLScalarVolumeNode,
        slices: tuple[int, int] | None,
        on_placed: Callable[[], None],
    ) -> None:
        self._roi, self._volume, self._slices, self._on_placed = roi_node, volume_node, slices, on_placed
        try:
            self._before: Box | None = roi_to_ijk_box(roi_node, volume_node)
        except GeometryError:
            self._before = None
        dimensions = volume_node.GetImageData().GetDimensions()
        ijk_box_to_roi([bound for n in dimensions for bound in (0, n)], volume_node, roi_node)  # the volume's axes
        roi_node.RemoveAllControlPoints()
        for kind in (roi_node.ROITypeBoundingBox, roi_node.ROITypeBox):  # a box that was complete takes two points again
            roi_node.SetROIType(kind)
        self._first: np.ndarray | None = None
        self._preview: np.ndarray | None = None  # where the second corner was last seen
        self._centre: np.ndarray | None = None
        self._tags = [
            roi_node.AddObserver(roi_node.PointModifiedEvent, lambda *_: self._on_moved()),
            roi_node.AddObserver(roi_node.PointPositionDefinedEvent, lambda *_: self._on_defined()),
        ]

    @property
    def is_pending(self) -> bool:
        """Whether clicks are still awaited."""
        return bool(self._tags)

    @property
    def is_lost(self) -> bool:
        """Whether the ROI was deleted before the box was there."""
        return self.is_pending and self._roi.GetScene() is None

    def cancel(self) -> None:
        """Await no more clicks; a box that was there before is there again."""
        if self.is_pending:
            self._stop()
            self._roi.RemoveAllControlPoints()
            if self._before is not None:
                ijk_box_to_roi(self._before, self._volume, self._roi)

    def _stop(self) -> None:
        for tag in self._tags:
            self._roi.RemoveObserver(tag)
        self._tags = []

    def _on_moved(self) -> None:
        roi = self._roi
        if self.is_pending and roi.GetNumberOfControlPoints() > 0 and roi.GetRequiredNumberOfControlPoints() > 1:
            self._first = self._position(0)
            self._preview = self._position(1) if roi.GetNumberOfControlPoints() > 1 else None
            self._centre = self._to_ijk(roi.GetCenter())

    def _on_defined(self) -> None:
        roi = self._roi
        if not self.is_pending or self._first is None or roi.GetRequiredNumberOfControlPoints() > 1:
            return
        corners = np.stack([self._first, self._second_corner()])
        self._stop()
        box = box_from_clicks(corners, self._volume, self._slices)
        if box is None:
            roi.RemoveAllControlPoints()
        else:
            ijk_box_to_roi(box, self._volume, roi)
        self._on_placed()

    def _position(self, point: int) -> np.ndarray:
        return self._to_ijk(self._roi.GetNthControlPointPosition(point))

    def _to_ijk(self, position: Any) -> np.ndarray:
        return (to_ijk(self._roi.GetParentTransformNode(), self._volume) @ (*position, 1.0))[:3]

    def _second_corner(self) -> np.ndarray:
        """In continuous voxel indices, from the bounds that Slicer made of both corners and the former centre."""
        pose = to_ijk(self._roi.GetParentTransformNode(), self._volume) @ matrix_to_array(self._roi.GetObjectToNodeMatrix())
        half, centre = np.abs(pose[:3, :3] @ np.diag(self._roi.GetSize())).sum(axis=1) / 2, pose[:3, 3]
        assert self._first is not None and self._centre is not None
        corner = np.empty(3)
        for axis, (low, high) in enumerate(zip(centre - half, centre + half)):
            seen = [] if self._preview is None else [self._preview[axis]]
            known = self._first[axis], self._centre[axis]
            # in the plane that was clicked in, the depth was made up around the corners
            candidates = [*seen, self._first[axis]] if self._is_depth(axis, centre, half) else [*seen, high, low, self._first[axis]]
            fits = [c for c in candidates if abs(min(*known, c) - low) < _SAME and abs(max(*known, c) - high) < _SAME]
            corner[axis] = (fits or candidates)[0]
        return corner

    def _is_depth(self, axis: int, centre: np.ndarray, half: np.ndarray) -> bool:
        sizes = half * self._volume.GetSpacing()
        first = self._first if self._first is not None else centre
        return bool(abs(centre[axis] - first[axis]) < _SAME and sizes[axis] <= min(np.delete(sizes, axis)) + _SAME)


def box_from_clicks(corners: np.ndarray, volume_node: slicer.vtkMRMLScalarVolumeNode, slices: tuple[int, int] | None) -> Box | None:
    """The voxels from the one that was clicked first to the one that was clicked second, both included; None outside the volume.

    Args:
        corners: (2, 3), the clicks in continuous voxel indices.
        slices: first and one past the last slice of the box, for clicks in one slice; None for the whole stack. Clicks in a view across the
            slices choose the slices themselves.
    """
    shape = np.array(volume_node.GetImageData().GetDimensions())
    voxels = np.floor(np.asarray(corners) + 0.5 + 1e-6)
    first, stop = voxels.min(axis=0), voxels.max(axis=0) + 1
    across = slice_axis(volume_node)
    if first[across] + 1 == stop[across]:
        first[across], stop[across] = slices or (0, shape[across])
    else:
        _give_depth(first, stop, across, np.array(volume_node.GetSpacing()))
    if (stop <= 0).any() or (first >= shape).any():
        return None
    first, stop = np.clip(first, 0, shape - 1), np.clip(stop, 1, shape)
    return tuple(int(bound) for pair in zip(first, stop) for bound in pair)  # type: ignore[return-value]


def _give_depth(first: np.ndarray, stop: np.ndarray, across: int, spacing: np.ndarray) -> None:
    """Where both clicks lie in one row or column, make the box as deep there as it is wide."""
    row, column = (axis for axis in range(3) if axis != across)
    for axis, other in ((row, column), (column, row)):
        if first[axis] + 1 == stop[axis] and first[other] + 1 < stop[other]:
            half = np.floor((stop[other] - first[other]) * spacing[other] / spacing[axis] / 2)
            first[axis], stop[axis] = first[axis] - half, stop[axis] + half
            return


def set_slices(roi_node: slicer.vtkMRMLMarkupsROINode, volume_node: slicer.vtkMRMLScalarVolumeNode, slices: tuple[int, int]) -> None:
    """Make the box reach from the first of ``slices`` to one before the second.

    Raises:
        GeometryError: the ROI is unusable.
    """
    box, across = list(roi_to_ijk_box(roi_node, volume_node)), slice_axis(volume_node)
    box[2 * across : 2 * across + 2] = slices
    ijk_box_to_roi(box, volume_node, roi_node)
