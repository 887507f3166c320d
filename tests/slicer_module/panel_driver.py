"""Clicks through the panel and waits, as a user does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import slicer
from PySide6.QtCore import QRect

from PratoLabelLib.scene.segmentation import import_mask
from PratoLabelLib.server.connection import ServerError
from tests.slicer_harness import qt_standin
from tests.slicer_harness.core import new_scene
from tests.slicer_harness.event_loop import hold, process_events
from tests.slicer_module.fake_client import FakeClient
from tests.waiting import wait_until

MODULE = Path(__file__).resolve().parents[2] / "slicer_module" / "PratoLabel" / "PratoLabel.py"
BUTTONS = (
    *("test", "next", "refresh", "open", "skip", "reject", "send", "place", "run", "cancel", "fit"),
    *("submit", "submitNext", "start", "stop"),
)


class PanelDriver:
    """The module's widget in front of a user.

    Args:
        folder: for the settings and the pictures.
        make_client: instead of the real Client.
    """

    def __init__(self, folder: Path, make_client: Callable[[str, str], Any] | None = None) -> None:
        self.folder = folder
        self.app = qt_standin.install(MODULE, folder)
        import PratoLabel
        from tests.slicer_harness.desktop import qSlicerScriptedLoadableModuleWidget  # needs qt, which install has made

        make_logic = partial(PratoLabel.PratoLabelLogic, make_client) if make_client else PratoLabel.PratoLabelLogic
        with mock.patch.object(PratoLabel, "PratoLabelLogic", make_logic):
            self.frame = qSlicerScriptedLoadableModuleWidget(MODULE)
        self.frame.show()
        self.frame.enter()
        self._pictures = 0

    @property
    def widget(self) -> Any:
        """The module's widget, the newest where it was reloaded."""
        return self.frame.widget

    @property
    def ui(self) -> Any:
        """The widgets of the .ui file by name."""
        return self.widget.ui

    @property
    def logic(self) -> Any:
        """What is done with scene and server."""
        return self.widget.logic

    @property
    def panel(self) -> Any:
        """What brings sections and logic together."""
        return self.widget.panel

    @property
    def enabled(self) -> set[str]:
        """The buttons that can be pressed."""
        return {name for name in BUTTONS if getattr(self.ui, f"{name}Button").enabled}

    @property
    def editor(self) -> Any:
        """The Segment Editor in the panel."""
        return self.panel.correct._editor

    @property
    def status(self) -> str:
        """What the top of the panel says."""
        return self.ui.statusLabel.text

    def rest(self, seconds: float) -> None:
        """Let Qt run for a while, as in 3D Slicer: no other thread runs meanwhile, but in the panel's own ticks."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            process_events()
            hold(0.002)
        process_events()  # whatever was due by now, on a machine that had no time for it

    def wait(self, until: Callable[[], Any]) -> None:
        """Let Qt run until ``until`` holds."""
        wait_until(until, process_events, lambda: f"the panel says: {self.status}", sleep=hold)

    def click(self, name: str, until: Callable[[], Any] = lambda: True) -> None:
        """Press a button, which must be enabled, and wait until ``until`` holds and all answers are there."""
        button = getattr(self.ui, f"{name}Button")
        assert button.enabled, f"{name} is not enabled; the panel says: {self.status}"
        button.click()
        self.rest(0.1)
        self.wait(until)
        self.settle()

    def settle(self) -> None:
        """Wait until all answers are there and driver."""
        self.wait(lambda: not self.logic._worker.is_busy)
        self.rest(0.1)

    def edit(self, value: int = 3) -> np.ndarray:
        """Paint some voxels of a structure, as a brush does; returns all segments as they are then."""
        study = self.logic.current_study
        mask = study.mask()
        mask[1, 2:5, 2:5] = value
        import_mask(study.segmentation_node, study.volume_node, study.labels, mask)
        return mask

    def choose(self, box: str, value: str) -> None:
        """Pick an entry of a combo box."""
        combo = getattr(self.ui, f"{box}Box")
        index = combo.findData(value)
        assert index >= 0, f"{box} does not offer {value}"
        combo.setCurrentIndex(index)
        combo.activated.emit(index)

    def select(self, study: int) -> None:
        """Select a row of the list of studies."""
        self.ui.studyTree.setCurrentItem(self.ui.studyTree.topLevelItem(study))

    def rows(self) -> dict[str, str]:
        """The list of studies: name -> label."""
        items = [self.ui.studyTree.topLevelItem(i) for i in range(self.ui.studyTree.topLevelItemCount)]
        return {item.text(0): item.text(1) for item in items}

    def states(self) -> dict[str, str]:
        """The list of studies: name -> state."""
        items = [self.ui.studyTree.topLevelItem(i) for i in range(self.ui.studyTree.topLevelItemCount)]
        return {item.text(0): item.text(2) for item in items}

    def roi(self, name: str = "heart", select: bool = True) -> Any:
        """An ROI on the studies of the fake server, 20 mm high."""
        roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
        roi.CreateDefaultDisplayNodes()
        roi.SetCenter(-24, -22, 16)
        roi.SetSize(30, 30, 20)
        if select:
            self.ui.roiSelector.setCurrentNode(roi)
        return roi

    def picture(self, name: str) -> Path:
        """Write a picture of the whole panel, numbered."""
        self._pictures += 1
        self.rest(0.4)  # the table is measured
        parent, last = self.widget.parent, self.ui.advancedSection
        parent.resize(440, parent.layout().totalHeightForWidth(440))
        self.rest(0.02)
        bottom = last.parentWidget().mapTo(parent, last.geometry.bottomLeft()).y() + 16
        path = self.folder / f"{self._pictures:02d}_{name}.png"
        assert parent.grab(QRect(0, 0, 440, bottom)).save(str(path))
        return path


class FakeServerDriver(PanelDriver):
    """The panel in front of a fake server, which fails with ``failure``."""

    def __init__(self, folder: Path, failure: ServerError | None = None) -> None:
        self.server = FakeClient(folder)
        self.server.failure = failure
        super().__init__(folder, self.server)

    def open_study(self) -> FakeServerDriver:
        """Connected, with a study open that has no label, and was not segmented."""
        self.click("test")
        self.select(1)
        self.click("open")
        assert self.logic.current_study.study == "p1_ES"
        return self

    @property
    def inferences(self) -> list[Any]:
        """The requests for a segmentation."""
        return [request for request in self.server.requests if request[0] == "infer"]


@contextmanager
def run_panel(folder: Path) -> Iterator[FakeServerDriver]:
    """A panel in an empty scene, until the block ends."""
    new_scene()
    panel = FakeServerDriver(folder)
    try:
        yield panel
    finally:
        panel.widget.cleanup()


def end_interaction(roi: Any) -> None:
    """What Slicer's views do when the user lets go of the ROI's handle."""
    roi.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent)


def dialogs(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What slicer.util.errorDisplay was given: in testing mode it writes to the log alone."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR and record.name == "root"]
