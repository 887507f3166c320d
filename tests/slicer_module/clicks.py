"""What 3D Slicer's slice views do with the mouse while a box is placed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk

_UPRIGHT = [1, 0, 0, 0, 1, 0, 0, 0, 1]


def world_position(volume: Any, voxel: Sequence[float]) -> list[float]:
    """Where ``voxel`` (continuous i, j, k) lies in the world."""
    to_ras, position = vtk.vtkMatrix4x4(), [0.0, 0.0, 0.0]
    volume.GetIJKToRASMatrix(to_ras)
    volume.TransformPointToWorld(to_ras.MultiplyPoint((*voxel, 1.0))[:3], position)
    return position


def click(roi: Any, position: Sequence[float], moves: Sequence[Sequence[float]] = ()) -> None:
    """Move the mouse over the positions ``moves``, then to ``position``, and click; as vtkSlicerMarkupsWidget::PlacePoint does it."""
    display, event, point = roi.GetDisplayNode(), slicer.vtkMRMLInteractionEventData(), -1
    for place, status in (*((m, roi.PositionPreview) for m in (*moves, position)), (position, roi.PositionDefined)):
        event.SetWorldPosition(list(np.asarray(place, float)))
        start = point if point >= 0 else roi.GetControlPointPlacementStartIndex()
        point = display.UpdateActiveControlPointWorld(start, event, _UPRIGHT, None, None, status)


def click_voxels(roi: Any, volume: Any, *voxels: Sequence[float]) -> None:
    """Click on each of ``voxels``."""
    for voxel in voxels:
        click(roi, world_position(volume, voxel))
