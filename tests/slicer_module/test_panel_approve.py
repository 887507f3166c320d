"""A second person in the panel: the states of a label's phases, approved or sent back as they are shown."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.sections import ERROR_STYLE, WARNING_STYLE
from PratoLabelLib.server.connection import ServerError
from PratoLabelLib.server.label_responses import PhaseState
from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.cines import CINE, beating_heart
from tests.slicer_module.panel_driver import FakeServerDriver

pytestmark = pytest.mark.slow


def rows(driver: CineDriver) -> list[tuple[str, ...]]:
    tree = driver.ui.statesTree
    return [tuple(tree.topLevelItem(n).text(column) for column in range(4)) for n in range(tree.topLevelItemCount)]


def tick(driver: CineDriver, *phases: int) -> None:
    import qt

    tree = driver.ui.statesTree
    for n in range(tree.topLevelItemCount):
        item = tree.topLevelItem(n)
        if item.text(1) != "proposed":
            item.setCheckState(0, qt.Qt.Checked if int(item.text(0)) in phases else qt.Qt.Unchecked)


def open_as_bob(driver: CineDriver) -> CineDriver:
    """A label of Ada's: two phases drawn, one proposed, one sent back before."""
    states = {0: PhaseState("corrected", "Ada"), 1: PhaseState("proposed", "a03b"), 2: PhaseState("corrected", "Ada")}
    driver.server.states[CINE] = states | {3: PhaseState("proposed", "Ada", reason="apex missing")}
    driver.server.latest[CINE] = 2
    driver.open()
    driver.ui.annotatorEdit.text = "Bob"
    return driver


def test_the_states_of_the_phases_stand_in_the_panel(cine_driver: CineDriver) -> None:
    driver = cine_driver
    driver.open()
    assert not driver.ui.approveSection.visible  # there is no label
    open_as_bob(driver)
    driver.open("p1_ED")
    driver.open()
    assert driver.ui.approveSection.visible and driver.ui.approveSection.text == "Review: 2 corrected, 2 proposed"
    assert rows(driver) == [
        ("0", "corrected", "Ada", ""),
        ("1", "proposed", "a03b", ""),
        ("2", "corrected", "Ada", ""),
        ("3", "proposed", "Ada", "sent back: apex missing"),
    ]
    driver.ui.statesTree.setCurrentItem(driver.ui.statesTree.topLevelItem(2))
    assert driver.logic.current_study.phase == 2  # a click shows the phase


def test_a_reason_that_the_column_cuts_off_stands_in_the_tooltip(cine_driver: CineDriver) -> None:
    reason = "the right ventricle has no basal slice, and the myocardium is thin there"
    cine_driver.server.states[CINE], cine_driver.server.latest[CINE] = {2: PhaseState("proposed", "Ada", reason=reason)}, 1
    cine_driver.open()
    assert cine_driver.ui.statesTree.topLevelItem(0).toolTip(3) == f"sent back: {reason}"
    assert [cine_driver.ui.studyTree.topLevelItem(n).toolTip(0) for n in range(3)] == cine_driver.server.names  # a name may be long as well


def test_phases_are_approved(cine_driver: CineDriver) -> None:
    driver = open_as_bob(cine_driver)
    driver.click("approve")  # those that are corrected are ticked
    assert driver.sent("approve") == [("approve", CINE, [0, 2], "Bob", 2)]
    assert driver.ui.decisionLabel.text == "Phases 0, 2 are approved."
    assert driver.ui.approveSection.text == "Review: 2 final, 2 proposed"
    assert rows(driver)[0] == ("0", "final", "Ada", "approved by Bob")
    driver.click("approve")
    assert "No phase is ticked" in driver.status and len(driver.sent("approve")) == 1


def test_what_speaks_against_a_label_is_said_to_who_submits_and_who_approves(cine_driver: CineDriver) -> None:
    driver = open_as_bob(cine_driver)
    driver.server.label_warnings = ["RV and LV seem to be swapped in phase 0."]
    driver.click("approve")
    assert driver.ui.decisionLabel.text == "Phases 0, 2 are approved. RV and LV seem to be swapped in phase 0."
    assert driver.ui.decisionLabel.styleSheet == WARNING_STYLE
    driver.open("p1_ED")
    driver.click("run")
    driver.click("submitNext")
    assert "swapped in phase 0" in driver.ui.submitLabel.text and driver.ui.submitLabel.styleSheet == WARNING_STYLE
    assert driver.logic.current_study.study == "p1_ED"  # the next one would hide what was said


def test_phases_are_sent_back_for_a_reason(cine_driver: CineDriver) -> None:
    driver = open_as_bob(cine_driver)
    tick(driver, 2)
    driver.click("sendBack")
    assert "Why" in driver.status and driver.ui.statusLabel.styleSheet == ERROR_STYLE and not driver.sent("send back")
    driver.ui.sendBackEdit.text = " base missing "
    driver.click("sendBack")
    assert driver.sent("send back") == [("send back", CINE, [2], "base missing", "Bob", 2)]
    assert driver.ui.decisionLabel.text == "Phase 2 is sent back." and driver.ui.sendBackEdit.text == ""
    assert rows(driver)[2] == ("2", "proposed", "Ada", "sent back: base missing")


def test_a_refusal_stands_in_the_panel_and_changes_nothing(cine_driver: CineDriver) -> None:
    driver = open_as_bob(cine_driver)
    driver.ui.annotatorEdit.text = ""
    driver.click("approve")
    assert "Enter your name" in driver.status and not driver.sent("approve")
    driver.ui.annotatorEdit.text = "Ada"
    driver.server.failure = ServerError("Phase 0 was drawn by Ada: somebody else has to approve it.", 400)
    driver.click("approve")
    assert driver.status == "Phase 0 was drawn by Ada: somebody else has to approve it."
    assert driver.ui.statusLabel.styleSheet == ERROR_STYLE and not driver.ui.decisionLabel.visible
    assert driver.ui.approveSection.text == "Review: 2 corrected, 2 proposed"


def test_what_is_shown_otherwise_is_not_decided_about(cine_driver: CineDriver) -> None:
    driver = open_as_bob(cine_driver)
    driver.show(2)
    driver.edit()
    driver.click("approve")
    assert "Phase 2 cannot be decided about" in driver.status and not driver.sent("approve")
    tick(driver, 0)
    driver.show(0)
    driver.click("run")  # a prediction takes the place of what Ada drew
    driver.click("approve")
    assert "Phase 0 cannot be decided about" in driver.status and not driver.sent("approve")
    driver.show(2)
    driver.logic.versions.show(driver.logic.current_study, 2)  # in place of the edit, which undo would bring back
    driver.settle()
    assert np.array_equal(driver.masks(), beating_heart())
    tick(driver, 0, 2)
    driver.click("approve")
    assert driver.sent("approve") == [("approve", CINE, [0, 2], "Bob", 2)]


def test_a_newer_version_is_shown_before_it_is_decided_about(cine_driver: CineDriver) -> None:
    driver = open_as_bob(cine_driver)
    driver.server.latest[CINE] = 3  # Eve has submitted meanwhile
    study = driver.logic.current_study
    driver.click("approve")
    assert driver.sent("approve")[-1][-1] == 2  # the server knows whether one of the phases was replaced since
    driver.logic.versions.show(study, 3)
    driver.settle()
    tick(driver, 0)
    driver.click("approve")
    assert driver.sent("approve")[-1] == ("approve", CINE, [0], "Bob", 3) and study.base == ("http://fake", 3)
    driver.logic.versions.show(study, 1)
    driver.settle()
    tick(driver, 0)
    driver.click("approve")
    assert "the view differs" in driver.status and len(driver.sent("approve")) == 2


def test_what_a_labeller_drew_stays_that_labellers(cine_driver: CineDriver) -> None:
    driver = open_as_bob(cine_driver)
    study = driver.logic.current_study
    driver.click("goEs")
    driver.click("goEd")  # both were looked at
    assert study.phases_to_submit() == []
    driver.click("submit")
    assert "approve it" in driver.status and not driver.server.sent
    driver.show(1)
    edited = driver.edit()
    driver.rest(0.4)
    assert driver.ui.phasesLabel.text == "To be sent as corrected: phase 1."
    driver.click("submit")
    assert driver.sent("submit")[-1][2]["phases"] == {"1": "corrected"}
    assert np.array_equal(driver.server.sent[0][..., 1], edited.T)


def test_what_was_sent_back_is_not_replaced_by_a_prediction(cine_driver: CineDriver) -> None:
    driver = open_as_bob(cine_driver)
    driver.server.stored = np.zeros_like(beating_heart())
    driver.logic.versions.show(driver.logic.current_study, 2)
    driver.settle()
    driver.click("allPhases")
    assert driver.ui.keptLabel.text == "Phases 0, 2, 3 stay as corrected."
    assert [bool(driver.masks()[..., phase].any()) for phase in range(4)] == [False, True, False, False]


def test_another_persons_phases_are_named_after_a_submission(cine_driver: CineDriver) -> None:
    driver = open_as_bob(cine_driver)
    submit = driver.server.submit
    phases = {str(phase): {"state": "corrected", "version": 3 if phase == 2 else 2} for phase in range(4)} | {"1": {"version": 4}}
    driver.server.submit = lambda *sent: {**submit(*sent), "version": 4, "phases": phases, "replaced": [1], "kept": []}
    driver.show(1)
    driver.edit()
    driver.click("submit")
    assert driver.ui.submitLabel.text.endswith("Phase 2 of the label came from somebody else meanwhile: show version 4 to see that.")
    tick(driver, 2)
    driver.click("approve")
    assert "Phase 2 cannot be decided about" in driver.status


def test_a_study_of_one_phase_is_approved_too(driver: FakeServerDriver) -> None:
    driver.click("test")
    driver.select(0)
    driver.click("open")
    driver.ui.annotatorEdit.text = "Bob"
    driver.edit()
    driver.click("approve")
    assert driver.status.startswith("p1_ED cannot be decided about")
    driver.logic.versions.show(driver.logic.current_study, 3)
    driver.settle()
    driver.click("approve")
    assert driver.ui.decisionLabel.text == "Phase 0 is approved."
    assert ("approve", "p1_ED", [0], "Bob", 3) in driver.server.requests
