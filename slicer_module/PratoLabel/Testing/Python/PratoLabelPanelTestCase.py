"""The panel without a server; runs inside Slicer."""

from __future__ import annotations

import time
import unittest

import slicer
import slicer.util

#: Nothing listens on TCP's discard port.
NOWHERE = "127.0.0.1:9"


class PratoLabelPanelTestCase(unittest.TestCase):
    """A panel in a window of its own."""

    def setUp(self) -> None:
        from PratoLabel import PratoLabelWidget

        slicer.mrmlScene.Clear(0)
        self.widget = PratoLabelWidget()
        self.ui = self.widget.ui
        self.widget.enter()

    def tearDown(self) -> None:
        self.widget.cleanup()
        self.widget.parent.deleteLater()

    def test_it_begins_with_the_server(self) -> None:
        self.assertTrue(self.ui.testButton.enabled)
        for button in (self.ui.nextButton, self.ui.runButton, self.ui.submitButton, self.ui.startButton):
            self.assertFalse(button.enabled)

    def test_no_server_is_one_sentence(self) -> None:
        self.widget.panel.request(lambda: self.widget.logic.connect_to(NOWHERE))
        deadline = time.monotonic() + 10
        while "No server runs" not in self.ui.statusLabel.text and time.monotonic() < deadline:
            slicer.app.processEvents()
        self.assertIn("No server runs at http://127.0.0.1:9", self.ui.statusLabel.text)

    def test_parameters_are_stored_in_the_scene(self) -> None:
        roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
        self.ui.roiSelector.setCurrentNode(roi)
        self.ui.liveCheckBox.checked = False
        self.ui.epochsBox.value = 7
        node = self.widget.logic.getParameterNode()
        self.assertEqual(node.GetNodeReferenceID("roi"), roi.GetID())
        self.assertEqual((node.GetParameter("live_update"), node.GetParameter("max_epochs")), ("False", "7"))
        self.ui.roiSelector.setCurrentNode(None)
        self.assertIsNone(node.GetNodeReferenceID("roi"))


if __name__ == "__main__":
    unittest.main()
