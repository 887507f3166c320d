"""Two clicks in a slice view make the rectangle that was clicked; runs inside Slicer."""

from __future__ import annotations

import unittest
from collections.abc import Sequence

import numpy as np
import slicer
import slicer.util
import vtk

from PratoLabelLib.scene.geometry import roi_to_ijk_box
from PratoLabelLib.scene.placement import Placement, style_box
from PratoLabelLib.scene.slice_views import show_planes

UPRIGHT = [1, 0, 0, 0, 1, 0, 0, 0, 1]


class PratoLabelPlacementTestCase(unittest.TestCase):
    """An oblique short-axis stack of 9 slices."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear(0)
        self.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "heart")
        slicer.util.updateVolumeFromArray(self.volume, np.zeros((9, 28, 30), np.int16))
        place = vtk.vtkTransform()
        place.RotateZ(-40)
        place.RotateX(50)
        place.Scale(1.5, 1.5, 8.0)
        self.to_ras = place.GetMatrix()
        self.volume.SetIJKToRASMatrix(self.to_ras)
        self.roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
        style_box(self.roi)

    def click(self, voxel: Sequence[float]) -> None:
        """As the views do: a preview that follows the mouse becomes a point."""
        display, event, point = self.roi.GetDisplayNode(), slicer.vtkMRMLInteractionEventData(), -1
        event.SetWorldPosition(self.to_ras.MultiplyPoint((*voxel, 1.0))[:3])
        for status in (self.roi.PositionPreview, self.roi.PositionDefined):
            start = point if point >= 0 else self.roi.GetControlPointPlacementStartIndex()
            point = display.UpdateActiveControlPointWorld(start, event, UPRIGHT, None, None, status)

    def test_the_rectangle_over_the_whole_stack(self) -> None:
        placed: list[int] = []
        Placement(self.roi, self.volume, None, lambda: placed.append(1))
        self.click((21, 5, 4))
        self.click((6, 19, 4))
        self.assertEqual(placed, [1])
        self.assertEqual(roi_to_ijk_box(self.roi, self.volume), (6, 22, 5, 20, 0, 9))

    def test_red_shows_the_acquired_slices(self) -> None:
        red = next((view for view in slicer.util.getNodesByClass("vtkMRMLSliceNode") if view.GetLayoutName() == "Red"), None)
        if red is None:
            red = slicer.vtkMRMLSliceNode()
            red.SetLayoutName("Red")
            red = slicer.mrmlScene.AddNode(red)
        show_planes(self.volume)
        normal = [red.GetSliceToRAS().GetElement(row, 2) for row in range(3)]
        across = [self.to_ras.GetElement(row, 2) / 8 for row in range(3)]
        self.assertAlmostEqual(abs(float(np.dot(normal, across))), 1.0, places=5)


if __name__ == "__main__":
    unittest.main()
