"""Corrected phases carried to the others from the panel: what is sent, what follows, and what is never touched."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.server.connection import ServerError
from PratoLabelLib.server.label_responses import PhaseState
from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.cines import CINE, PHASES, beating_heart

pytestmark = pytest.mark.slow
#: What the fake server carries into a phase.
FOLLOWED = np.where(beating_heart() > 0, 2, 0)


def correct_two_phases(driver: CineDriver) -> dict[int, np.ndarray]:
    """Segment all phases, then correct the first and the third; returns these masks (I, J, K)."""
    driver.open()
    driver.click("allPhases")
    edited = {}
    for phase in (0, 2):
        driver.show(phase)
        edited[phase] = driver.edit().T
    driver.rest(0.4)
    return edited


def test_the_other_phases_follow_the_corrected_ones(cine_driver: CineDriver) -> None:
    driver = cine_driver
    driver.open()
    driver.click("allPhases")
    assert not driver.ui.propagateButton.enabled  # nothing is corrected yet
    edited = correct_two_phases(driver)
    driver.click("propagate")
    assert driver.sent("infer")[-1][3] == {"prune": "default", "propagate": [0, 2]}
    (label,) = driver.server.labels_sent
    for phase in range(PHASES):
        assert np.array_equal(label[..., phase], edited[phase] if phase in edited else np.zeros_like(edited[0]))
        assert np.array_equal(driver.masks()[..., phase], edited.get(phase, FOLLOWED[..., phase]))
    assert driver.ui.keptLabel.text == "Phases 1, 3 follow phases 0, 2: check the cine, then submit."
    assert driver.logic.current_study.edited == {0, 2}  # what follows is a proposal
    driver.click("submit")
    assert driver.sent("submit")[-1][2]["phases"] == {"0": "corrected", "1": "proposed", "2": "corrected", "3": "proposed"}
    assert np.array_equal(driver.server.sent[0], driver.masks())


def test_corrected_phases_of_the_label_are_keys_too(cine_driver: CineDriver) -> None:
    driver = cine_driver
    driver.server.states[CINE] = {0: PhaseState("final", "Ada", "Bob"), 3: PhaseState("proposed", "Ada", reason="apex missing")}
    driver.server.latest[CINE] = 1
    driver.open()
    driver.click("propagate")
    assert driver.sent("infer")[-1][3]["propagate"] is True and driver.server.labels_sent == [None]
    truth = FOLLOWED.copy()
    truth[..., [0, 3]] = beating_heart()[..., [0, 3]]  # what was sent back is a labeller's work, too
    assert np.array_equal(driver.masks(), truth)
    driver.show(2)
    edited = driver.edit()
    driver.click("propagate")
    assert driver.sent("infer")[-1][3]["propagate"] == [2]
    assert driver.ui.keptLabel.text == "Phase 1 follows phases 0, 2: check the cine, then submit."
    assert np.array_equal(driver.masks()[..., 2], edited.T)


def test_what_is_edited_while_the_server_computes_stays(cine_driver: CineDriver) -> None:
    driver = cine_driver
    correct_two_phases(driver)
    driver.ui.propagateButton.click()
    driver.show(3)
    edited = driver.edit(value=1)
    driver.settle()
    assert np.array_equal(driver.masks()[..., 3], edited.T) and driver.logic.current_study.edited == {0, 2, 3}
    assert driver.ui.keptLabel.text == "Phase 1 follows phases 0, 2: check the cine, then submit."


def test_the_segment_editors_undo_takes_it_back_where_it_is_shown(cine_driver: CineDriver) -> None:
    driver = cine_driver
    correct_two_phases(driver)
    driver.show(1)
    before = driver.masks()[..., 1]
    driver.click("propagate")
    assert np.array_equal(driver.masks()[..., 1], FOLLOWED[..., 1])
    driver.editor.undo()
    assert np.array_equal(driver.masks()[..., 1], before)
    driver.editor.redo()
    assert np.array_equal(driver.masks()[..., 1], FOLLOWED[..., 1])


def test_a_structure_that_is_kept_does_not_follow(cine_driver: CineDriver) -> None:
    driver = cine_driver
    correct_two_phases(driver)
    driver.ui.lockLvCheckBox.checked = True
    driver.click("propagate")
    assert np.array_equal(driver.masks()[..., 1] == 3, beating_heart()[..., 1] == 3)
    assert (driver.masks()[..., 1] != 1).all()


def test_it_is_cancelled_or_fails_and_nothing_changes(cine_driver: CineDriver) -> None:
    driver = cine_driver
    correct_two_phases(driver)
    before = driver.masks()
    driver.ui.propagateButton.click()
    driver.wait(lambda: driver.ui.cineProgress.visible and driver.ui.cineProgress.value == 2)
    assert driver.ui.cineProgress.format == "%v of %m steps" and driver.ui.cancelButton.enabled
    driver.ui.cancelButton.click()
    driver.settle()
    assert not driver.ui.cineProgress.visible and np.array_equal(driver.masks(), before)
    driver.server.failure = ServerError("Phase 2 of the label is empty: draw the heart in it.", 400)
    driver.click("propagate")
    assert driver.status.startswith("Phase 2 of the label is empty") and not driver.ui.cineProgress.visible
    assert np.array_equal(driver.masks(), before)


def test_a_box_is_sent_along(cine_driver: CineDriver) -> None:
    driver = cine_driver
    correct_two_phases(driver)
    driver.click("fit")
    driver.click("key")
    driver.click("propagate")
    assert driver.sent("infer")[-1][3]["roi"] == {"2": [[1, 23, 2, 20, 0, 5]]}
    assert np.array_equal(driver.masks()[..., 3], FOLLOWED[..., 3])
