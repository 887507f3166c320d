"""From a mask to named segments, to a file, and back without a voxel lost; runs inside Slicer."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import numpy as np
import slicer
import slicer.util

from PratoLabelLib.scene.segmentation import create_segmentation, export_mask, import_mask, read_mask, write_mask

LABELS = {"RV cavity": 1, "myocardium": 2, "LV cavity": 3}


class PratoLabelSegmentsTestCase(unittest.TestCase):
    """A volume of 20 x 16 x 6 voxels and a random mask on it."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear(0)
        self.mask = np.random.default_rng(3).integers(0, 4, (6, 16, 20)).astype(np.uint8)
        self.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "heart")
        slicer.util.updateVolumeFromArray(self.volume, self.mask.astype(np.int16))
        self.volume.SetSpacing(1.4, 1.4, 8.0)
        self.volume.SetOrigin(-30, 12, 7)

    def test_segments_contain_the_mask(self) -> None:
        node = create_segmentation(self.volume, LABELS, "heart")
        import_mask(node, self.volume, LABELS, self.mask)
        segmentation = node.GetSegmentation()
        names = [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]
        self.assertEqual(names, list(LABELS))
        self.assertTrue(np.array_equal(export_mask(node, self.volume, LABELS), self.mask))

    def test_a_file_contains_the_mask(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "label.nii.gz"
            write_mask(path, self.mask, self.volume)
            self.assertTrue(np.array_equal(read_mask(path, self.volume, LABELS), self.mask))


if __name__ == "__main__":
    unittest.main()
