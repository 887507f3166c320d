"""The module as 3D Slicer sees it; PratoLabelLib does the work."""

from __future__ import annotations

import sys
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
import slicer.util
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

from PratoLabelLib import logic as lib
from PratoLabelLib.panel import Panel
from PratoLabelLib.sample_data import register_sample_data
from PratoLabelLib.server.client import Client


class PratoLabel(ScriptedLoadableModule):
    """What the list of modules and the help section show."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = _("PrATo Label")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation"), translate("qSlicerAbstractCoreModule", "Cardiac")]
        parent.dependencies = ["Markups", "Plots", "Segmentations", "SegmentEditor", "Sequences", "Volumes"]
        parent.contributors = ["The PrATo Label authors"]
        parent.helpText = _(
            "Draw a box around the heart in a cardiac MRI, and get right ventricle, myocardium and left ventricle back from a PrATo Label "
            "server. Correct them, submit them, and let the model learn from them. Work from the top of the panel to the bottom; hover "
            "over anything to see what it does. Not a medical device. "
            '<a href="https://github.com/prato-label/SlicerPratoLabel/blob/main/docs/tutorial.md">The tutorial</a> takes ten minutes, with '
            "a generated heart from the module Sample Data."
        )
        parent.acknowledgementText = _(
            "PrATo Label applies prompt-driven adaptive token pruning; please cite "
            '<a href="https://arxiv.org/abs/2506.16369">arXiv:2506.16369</a>, and '
            '<a href="https://doi.org/10.1016/j.media.2024.103207">MONAI Label</a>, of which the server is an app.'
        )
        # Sample Data need not be loaded before
        slicer.app.connect("startupCompleted()", register_sample_data)


def make_client(address: str, token: str) -> Client:
    """A client that trusts the certificate which the user has named in the settings, if any."""
    return Client(address, token, certificate=slicer.util.settingsValue("PratoLabel/certificate", ""))


class PratoLabelLogic(lib.PratoLabelLogic, ScriptedLoadableModuleLogic):
    """The loop, with the parameter node that every scripted module has."""

    def __init__(self, make_client: Callable[[str, str], Client] = make_client) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        lib.PratoLabelLogic.__init__(self, make_client)


class PratoLabelWidget(ScriptedLoadableModuleWidget):
    """Loads the panel and forwards what Slicer calls."""

    def setup(self) -> None:
        """The module is opened for the first time."""
        super().setup()
        self._root = slicer.util.loadUI(self.resourcePath("UI/PratoLabel.ui"))
        self.layout.addWidget(self._root)
        self._root.setMRMLScene(slicer.mrmlScene)
        self.ui = slicer.util.childWidgetVariables(self._root)
        self.logic = PratoLabelLogic()
        self.panel = Panel(self.ui, self.logic, self.logic.getParameterNode)

    def cleanup(self) -> None:
        """The module, or Slicer, is closed, or the module is reloaded, which would keep the old widgets, hidden."""
        if not self.panel.is_closed:
            self.panel.cleanup()
            self._root.deleteLater()

    def enter(self) -> None:
        """The module is chosen."""
        self.panel.enter()

    def exit(self) -> None:
        """Another module is chosen."""
        self.panel.exit()

    def onReload(self) -> None:
        """Reload PratoLabelLib as well, not this file alone."""
        for name in [name for name in sys.modules if name.split(".")[0] == "PratoLabelLib"]:
            del sys.modules[name]
        super().onReload()


class PratoLabelTest(ScriptedLoadableModuleTest):
    """Runs the test cases of Testing/Python inside Slicer; they need no server."""

    def runTest(self, **kwargs: Any) -> None:
        """Run them all.

        Raises:
            AssertionError: one failed; the Python console shows which.
        """
        cases = unittest.defaultTestLoader.discover(str(Path(__file__).parent / "Testing" / "Python"), "PratoLabel*TestCase.py")
        result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(cases)
        self.assertTrue(result.testsRun > 0 and result.wasSuccessful(), f"{len(result.failures) + len(result.errors)} test cases failed.")
