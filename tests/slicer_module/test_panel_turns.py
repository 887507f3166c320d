"""Masks of all phases are put into the segments in turns with Slicer's event loop; nobody ever sees half of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.studies import predict_logic
from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.cines import CINE, PHASES, beating_heart

pytestmark = pytest.mark.slow


@pytest.fixture
def driver(cine_driver: CineDriver, monkeypatch: pytest.MonkeyPatch) -> CineDriver:
    """With a cine open, and a turn for each phase."""
    monkeypatch.setattr(predict_logic, "TURN_S", 0.0)
    cine_driver.server.gate.set()
    cine_driver.open()
    return cine_driver


def segment_and(driver: CineDriver, do: Callable[[], None], after: int = 2) -> list[np.ndarray]:
    """Segment all phases, and ``do`` something when ``after`` of them are ready; returns what was in the segments between the turns."""
    seen: list[np.ndarray] = []
    before = len(driver.sent("infer"))

    def look() -> None:
        progress = driver.logic.progress
        if progress is None or len(driver.sent("infer")) == before or progress.done == PHASES:
            return
        seen.append(driver.masks())
        if len(seen) == after:
            do()

    driver.logic.progressed.connect(look)
    driver.click("allPhases")
    driver.logic.progressed.disconnect(look)
    assert len(seen) >= after
    return seen


def test_until_all_of_them_are_ready_nothing_changes_and_cancel_can_be_pressed(driver: CineDriver) -> None:
    can_cancel: list[bool] = []
    seen = segment_and(driver, lambda: can_cancel.append(driver.ui.cancelButton.enabled))
    assert can_cancel == [True] and not any(masks.any() for masks in seen)
    assert np.array_equal(driver.masks(), beating_heart()) and driver.logic.progress is None


@pytest.mark.parametrize("leave", ["cancel", "open", "close", "delete"])
def test_what_ends_the_request_ends_the_turns(driver: CineDriver, leave: str) -> None:
    study = driver.logic.current_study
    ways = {
        "cancel": driver.ui.cancelButton.click,
        "open": lambda: driver.logic.open_study("p1_ES"),
        "close": slicer.mrmlScene.Clear,
        "delete": lambda: slicer.mrmlScene.RemoveNode(study.cine.browser),
    }
    segment_and(driver, ways[leave])
    assert driver.logic.progress is None and study.reply is None and "unexpected" not in driver.status
    assert (driver.logic.current_study is study) == (leave == "cancel")
    assert leave != "cancel" or not driver.masks().any()


def test_a_phase_that_is_edited_meanwhile_stays(driver: CineDriver) -> None:
    driver.show(0)
    edited: list[np.ndarray] = []
    segment_and(driver, lambda: edited.append(driver.edit().T), after=3)  # when the first phase has had its turn
    truth = beating_heart()
    truth[..., 0] = edited[0]
    assert np.array_equal(driver.masks(), truth) and driver.logic.current_study.edited == {0}
    assert driver.ui.keptLabel.text == "Phase 0 stays as corrected."


def test_a_label_that_is_shown_meanwhile_is_kept_outside_the_box(driver: CineDriver) -> None:
    study, shown = driver.logic.current_study, np.zeros(beating_heart()[..., 0].T.shape, np.uint8)
    shown[:, :2, :] = 1  # outside the box that the server proposes
    segment_and(driver, lambda: study.write(dict.fromkeys(range(PHASES), shown)), after=3)
    truth = beating_heart()
    truth[:, :2] = 1
    assert np.array_equal(driver.masks(), truth) and study.study == CINE
