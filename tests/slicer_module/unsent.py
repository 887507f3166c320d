"""What the tests of edits that were not sent share: who is asked what, the drafts on the disk, a crash of Slicer, a slow server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from PratoLabelLib.scene.segmentation import import_mask
from PratoLabelLib.studies import autosave
from tests.slicer_harness.core import new_scene
from tests.slicer_module.panel_driver import PanelDriver


class Questions:
    """Answers what the panel asks, and keeps it; edits are saved as soon as they rest for a moment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.answer = True
        monkeypatch.setattr(autosave, "REST_S", 0.05)
        for name in ("confirmYesNoDisplay", "confirmOkCancelDisplay"):
            monkeypatch.setattr(slicer.util, name, self._ask)

    def _ask(self, text: str, *arguments: object, **options: object) -> bool:
        self.asked.append(text)
        return self.answer


def drafts(driver: PanelDriver) -> list[Path]:
    """The files of edits that were not sent."""
    return list(driver.folder.rglob("unsent/*/*.npz"))


def restart(driver: Any) -> Any:
    """Slicer has crashed, and was started again: nothing was cleaned up, and the scene is empty."""
    driver.panel._timer.stop()
    driver.logic._worker.stop()
    new_scene()
    again = type(driver)(driver.folder)
    again.server.latest, again.server.labelled = driver.server.latest, driver.server.labelled
    again.settle()
    return again


def paint(driver: PanelDriver, value: int, i: int = 10) -> np.ndarray:
    """Paint voxels from column ``i`` on slice 3, elsewhere than ``edit``; returns all segments as they are then."""
    study = driver.logic.current_study
    mask = study.mask()
    mask[3, 10:14, i : i + 4] = value
    import_mask(study.segmentation_node, study.volume_node, study.labels, mask)
    return mask


def has_painted(mask: np.ndarray, value: int, i: int = 10) -> bool:
    """Whether a mask (K, J, I) has what ``paint`` has drawn."""
    return bool((mask[3, 10:14, i : i + 4] == value).all())


@contextmanager
def slow(driver: Any, request: str, button: str) -> Iterator[None]:
    """Press a button, and have the reply to its request, a method of the client, once the block has ended."""
    gate, reply = threading.Event(), getattr(driver.server, request)

    def wait(*arguments: Any) -> Any:
        gate.wait(200)
        return reply(*arguments)

    setattr(driver.server, request, wait)
    try:
        getattr(driver.ui, f"{button}Button").click()
        driver.rest(0.1)
        yield
    finally:
        gate.set()
        setattr(driver.server, request, reply)
    driver.settle()
    driver.rest(0.2)
