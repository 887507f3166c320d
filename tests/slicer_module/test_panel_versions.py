"""Versions of the label: shown over edits after a question, which the draft keeps; and listed for the study that is open alone."""

from __future__ import annotations

import time

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.server.label_responses import PhaseState
from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.cines import CINE, beating_heart
from tests.slicer_module.panel_driver import FakeServerDriver
from tests.slicer_module.unsent import Questions, drafts, slow

pytestmark = pytest.mark.slow


def listed(driver: FakeServerDriver) -> list[str]:
    tree = driver.ui.versionTree
    return [tree.topLevelItem(n).text(0) for n in range(tree.topLevelItemCount)]


def select_version(driver: FakeServerDriver, version: int) -> None:
    driver.ui.versionTree.setCurrentItem(driver.ui.versionTree.topLevelItem(listed(driver).index(str(version))))


def open_first(driver: FakeServerDriver) -> None:
    driver.click("test")
    driver.select(0)
    driver.click("open")


def test_versions_have_the_times_of_the_clock_on_the_wall(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        open_first(driver)
    finally:
        monkeypatch.undo()
        time.tzset()
    tree = driver.ui.versionTree
    assert [tree.topLevelItem(n).text(2) for n in range(2)] == ["2025-03-03 15:00", "2025-03-02 15:00"]  # 09:30 UTC


@pytest.mark.parametrize("version", [3, 2])  # the current one, and an older one
def test_a_version_replaces_edits_after_a_question_and_their_draft_stays(
    driver: FakeServerDriver, questions: Questions, version: int
) -> None:
    open_first(driver)
    edited = driver.edit(1)
    study = driver.logic.current_study
    select_version(driver, version)
    questions.answer = False
    driver.click("showVersion")
    assert questions.asked[0].startswith("p1_ED has edits that were not sent.") and np.array_equal(study.mask(), edited)
    questions.answer = True
    driver.click("showVersion")
    assert not np.array_equal(study.mask(), edited) and not study.has_unsent_edits
    driver.rest(0.3)
    assert len(drafts(driver)) == 1 and driver.ui.draftFrame.isVisible()
    driver.editor.undo()
    driver.rest(0.3)
    assert np.array_equal(study.mask(), edited) and study.has_unsent_edits and not driver.ui.draftFrame.isVisible()
    driver.editor.redo()
    driver.rest(0.3)
    driver.select(1)
    driver.click("open")
    driver.select(0)
    driver.click("open")
    driver.ui.recoverButton.click()
    assert np.array_equal(driver.logic.current_study.mask(), edited) and len(questions.asked) == 2


def test_a_version_of_a_cine_replaces_edits_of_all_phases_and_their_draft_stays(cine_driver: CineDriver, questions: Questions) -> None:
    driver = cine_driver
    driver.server.latest[CINE] = 2
    driver.open()
    for phase in (1, 3):
        driver.show(phase)
        driver.edit(1)
    edited = driver.masks()
    select_version(driver, 2)
    driver.click("showVersion")
    assert len(questions.asked) == 1 and np.array_equal(driver.masks(), beating_heart())
    assert not driver.logic.current_study.has_unsent_work
    driver.rest(0.3)
    driver.ui.recoverButton.click()
    assert np.array_equal(driver.masks(), edited) and driver.logic.current_study.edited == {1, 3}


def test_edits_that_are_in_the_scene_alone_are_kept_in_a_draft(driver: FakeServerDriver, questions: Questions) -> None:
    open_first(driver)
    edited = driver.edit(1)
    driver.rest(0.3)
    driver.select(1)
    driver.click("open")
    for draft in drafts(driver):
        draft.unlink()  # the scene comes from another computer
    driver.select(0)
    driver.click("open")
    select_version(driver, 3)
    driver.click("showVersion")
    assert not np.array_equal(driver.logic.current_study.mask(), edited)
    driver.ui.recoverButton.click()
    assert np.array_equal(driver.logic.current_study.mask(), edited)


def test_edits_that_cannot_be_saved_are_not_replaced(driver: FakeServerDriver, questions: Questions) -> None:
    open_first(driver)
    (driver.folder / "PratoLabel").write_text("in the way")
    edited = driver.edit(1)
    select_version(driver, 2)
    driver.click("showVersion")
    assert "cannot be saved" in driver.status and np.array_equal(driver.logic.current_study.mask(), edited)


def test_a_reply_about_the_study_before_lists_nothing_here(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    driver.edit(1)
    driver.select(0)
    driver.click("open")
    driver.edit(1)
    driver.select(1)
    driver.click("open")
    with slow(driver, "submit", "submitNext"):
        driver.select(0)
        driver.ui.openButton.click()
        driver.rest(0.1)
    assert driver.server.latest["p1_ES"] == 1 and "p1_ES is stored" in driver.status
    assert driver.logic.current_study.study == "p1_ED", "the labeller has gone on with another study than the next one"
    assert listed(driver) == ["3", "2", "1"] and driver.ui.approveSection.visible


def test_a_restored_version_of_the_study_before_is_not_shown_here(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    driver.edit(1)
    driver.select(0)
    driver.click("open")
    left = driver.logic.current_study
    select_version(driver, 1)
    with slow(driver, "restore_version", "restoreVersion"):
        driver.select(1)
        driver.ui.openButton.click()
        driver.rest(0.1)
    assert driver.server.latest["p1_ED"] == 4 and "as version 4" in driver.status
    assert driver.logic.current_study.study == "p1_ES" and listed(driver) == [] and left.base == ("http://fake", 3)


def test_a_decision_about_the_study_before_is_not_told_here(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    driver.edit(1)
    driver.select(0)
    driver.click("open")
    driver.ui.annotatorEdit.text = "Bob"
    with slow(driver, "approve", "approve"):
        driver.select(1)
        driver.ui.openButton.click()
        driver.rest(0.1)
    assert driver.server.states["p1_ED"][0].state == "final"
    assert not driver.ui.decisionLabel.text and listed(driver) == []


def test_a_result_is_no_version_of_the_label_after_the_study_was_opened_again(driver: FakeServerDriver, questions: Questions) -> None:
    open_first(driver)
    driver.ui.annotatorEdit.text = "Bob"
    driver.click("run")
    for n in (1, 0):
        driver.select(n)
        driver.click("open")
    assert driver.logic.current_study.unsent_phases() == {0} and driver.logic.current_study.base == ("http://fake", 3)
    driver.click("approve")
    assert "the view differs from the label" in driver.status
    assert not [request for request in driver.server.requests if request[0] == "approve"]
    select_version(driver, 3)
    driver.click("showVersion")
    for n in (1, 0):
        driver.select(n)
        driver.click("open")
    driver.click("approve")
    assert driver.server.states["p1_ED"][0].state == "final"


def test_results_in_a_cine_can_be_submitted_after_it_was_opened_again(cine_driver: CineDriver, questions: Questions) -> None:
    driver = cine_driver
    driver.server.latest[CINE] = 2
    driver.server.states[CINE] = {phase: PhaseState("corrected", "Ada") for phase in (0, 2)}
    driver.server.marked = (0, 2)
    driver.open()
    driver.click("run")  # over what Ada has drawn
    driver.open("p1_ES")
    study = driver.open()
    assert study.unsent_phases() == {0} and study.unchanged_phases() == {2}
    driver.click("submit")
    assert len(driver.server.sent) == 1 and study.unsent_phases() == set()


def test_phases_of_somebody_else_are_known_after_the_cine_was_opened_again(cine_driver: CineDriver, questions: Questions) -> None:
    driver = cine_driver
    driver.server.latest[CINE] = 2
    study = driver.open()
    driver.edit(1)
    study.mark_sent(
        study.prepare_submission(driver.folder / "sent.nii.gz"), {"phases": {"2": {"version": 3}}, "replaced": [0]}, ("http://fake", 2)
    )
    assert study.stale == [2]
    driver.edit(2)  # or it would leave the scene
    driver.open("p1_ES")
    assert driver.open().stale == [2]


def test_marked_phases_are_known_after_the_cine_was_opened_again(cine_driver: CineDriver, questions: Questions) -> None:
    driver = cine_driver
    driver.server.marked = (1, 3)
    driver.open()
    driver.show(2)
    driver.edit(1)
    driver.open("p1_ES")
    study = driver.open()
    assert study.ed_es() == (1, 3) and study.phase == 2, "shown as it was left"
