"""From a drawn ROI to a voxel box and back, against 3D Slicer's own Crop Volume; runs inside Slicer."""

from __future__ import annotations

import unittest
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk

from PratoLabelLib.scene.geometry import GeometryError, ijk_box_to_roi, roi_to_ijk_box

SHAPE = (30, 28, 9)


def transform(name: str, degrees: tuple[float, float, float], offset: tuple[float, float, float]) -> Any:
    """A transform node that turns by ``degrees`` and moves by ``offset`` (mm)."""
    turn = vtk.vtkTransform()
    turn.Translate(*offset)
    for angle, axis in zip(degrees, ("X", "Y", "Z")):
        getattr(turn, f"Rotate{axis}")(angle)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(turn.GetMatrix())
    return node


class PratoLabelBoxTestCase(unittest.TestCase):
    """An oblique volume of anisotropic voxels, under a transform of its own."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear(0)
        self.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "heart")
        slicer.util.updateVolumeFromArray(self.volume, np.zeros(SHAPE[::-1], np.int16))
        place = vtk.vtkTransform()
        place.RotateX(25)
        place.RotateZ(-40)
        place.Translate(12, -30, 5)
        place.Scale(1.5, 1.5, -8.0)  # an axis that runs the other way
        self.volume.SetIJKToRASMatrix(place.GetMatrix())
        self.volume.SetAndObserveTransformNodeID(transform("table", (3, 7, -5), (4, 1, 2)).GetID())
        self.roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")

    def test_there_and_back(self) -> None:
        box = (4, 19, 6, 25, 2, 7)
        ijk_box_to_roi(box, self.volume, self.roi)
        self.assertEqual(roi_to_ijk_box(self.roi, self.volume), box)

    def test_crop_volume_agrees(self) -> None:
        ijk_box_to_roi((4, 19, 6, 25, 2, 7), self.volume, self.roi)
        self.roi.SetAndObserveTransformNodeID(transform("turned", (0, 0, 15), (3, 2, 1)).GetID())
        inside = [0] * 6
        slicer.modules.cropvolume.logic().GetVoxelBasedCropOutputExtent(self.roi, self.volume, inside, True)
        i0, i1, j0, j1, k0, k1 = roi_to_ijk_box(self.roi, self.volume)
        ours = (i0, i1 - 1, j0, j1 - 1, k0, k1 - 1)
        # Crop Volume wants whole voxels inside, the prompt their centres: half a voxel on each side
        self.assertTrue(all(abs(a - b) <= 1 for a, b in zip(ours, inside)), f"{ours} {inside}")

    def test_a_box_elsewhere_is_refused(self) -> None:
        self.roi.SetCenter(900, 900, 900)
        self.roi.SetSize(10, 10, 10)
        with self.assertRaisesRegex(GeometryError, "box"):
            roi_to_ijk_box(self.roi, self.volume)


if __name__ == "__main__":
    unittest.main()
