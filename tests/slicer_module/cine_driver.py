"""Clicks through the panel in front of a fake server that has a cine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.slicer_harness.core import new_scene
from tests.slicer_module.cines import CINE, PHASES, CineClient
from tests.slicer_module.fake_client import LABELS
from tests.slicer_module.panel_driver import PanelDriver


class CineDriver(PanelDriver):
    """The panel in front of a :class:`CineClient`."""

    def __init__(self, folder: Path) -> None:
        self.server = CineClient(folder)
        super().__init__(folder, self.server)

    def open(self, study: str = CINE) -> Any:
        """Open a study by the list, connected before."""
        if self.logic.info is None:
            self.click("test")
        self.select(self.server.names.index(study))
        self.click("open")
        assert self.logic.current_study.study == study, self.status
        return self.logic.current_study

    def show(self, phase: int) -> None:
        """Move the slider to a phase."""
        self.ui.phaseSlider.value = phase
        self.rest(0.05)

    def masks(self) -> np.ndarray:
        """The segments of all phases (I, J, K, T)."""
        study = self.logic.current_study
        return np.stack([study.cine.mask(phase, LABELS).T for phase in range(PHASES)], 3)

    def sent(self, kind: str) -> list[Any]:
        """The requests of a kind, with which each begins."""
        return [request for request in self.server.requests if request[0] == kind]


@contextmanager
def run_cine_panel(folder: Path) -> Iterator[CineDriver]:
    """A panel in an empty scene, until the block ends."""
    new_scene()
    panel = CineDriver(folder)
    try:
        yield panel
    finally:
        panel.widget.cleanup()
