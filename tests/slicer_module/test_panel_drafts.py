"""Only what was sent counts as sent, and a draft goes only once just its drawing was sent, or the labeller has discarded it."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.server.connection import ServerError
from PratoLabelLib.studies import autosave
from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.cines import CINE
from tests.slicer_module.fake_client import write
from tests.slicer_module.panel_driver import FakeServerDriver
from tests.slicer_module.unsent import Questions, drafts, has_painted, paint, restart, slow


@pytest.mark.slow
def test_edits_made_while_the_label_is_sent_outlast_the_scene(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    driver.edit(1)
    with slow(driver, "submit", "submit"):
        edited = paint(driver, 2)
        slicer.mrmlScene.Clear(0)
    assert len(drafts(driver)) == 1
    driver.click("next")
    driver.ui.recoverButton.click()
    assert np.array_equal(driver.logic.current_study.mask(), edited)


@pytest.mark.slow
def test_edits_of_a_cine_made_while_its_label_is_sent_outlast_the_scene(cine_driver: CineDriver, questions: Questions) -> None:
    driver = cine_driver
    driver.open()
    driver.show(1)
    driver.edit(2)
    with slow(driver, "submit", "submit"):
        driver.show(3)
        edited = paint(driver, 1)
        slicer.mrmlScene.Clear(0)
    assert len(driver.server.sent) == 1 and len(drafts(driver)) == 1
    driver.open()
    driver.ui.recoverButton.click()
    assert np.array_equal(driver.masks()[..., 3].T, edited)


@pytest.mark.slow
def test_edits_made_while_the_label_is_sent_stay_edits_of_a_study_that_was_left(driver: FakeServerDriver, questions: Questions) -> None:
    driver.click("test")
    for n in (0, 1):
        driver.select(n)
        driver.click("open")
        driver.edit(1)
    with slow(driver, "submit", "submit"):
        paint(driver, 2)
        driver.select(0)
        driver.ui.openButton.click()  # which is in the scene
        driver.rest(0.1)
    assert driver.logic.current_study.study == "p1_ED" and driver.states()["p1_ES"] == "edited, not sent"
    driver.select(1)
    driver.click("open")
    study = driver.logic.current_study
    assert has_painted(study.mask(), 2) and study.has_unsent_edits and study.base == ("http://fake", 1)
    driver.select(0)
    driver.click("open")
    assert questions.asked[-1].startswith("p1_ES has edits that were not sent.") and study.is_in_scene
    assert not driver.ui.draftFrame.isVisible()  # its own edits, which are in the segments


@pytest.mark.slow
def test_edits_of_a_cine_made_while_its_label_is_sent_stay_edits_when_it_was_left(cine_driver: CineDriver, questions: Questions) -> None:
    driver = cine_driver
    driver.open("p1_ES")
    driver.edit(1)
    driver.open()
    for phase in (1, 2):
        driver.show(phase)
        driver.edit(2)
    with slow(driver, "submit", "submit"):
        for phase in (2, 3):
            driver.show(phase)
            paint(driver, 1)
        driver.select(driver.server.names.index("p1_ES"))  # which is in the scene
        driver.ui.openButton.click()
        driver.rest(0.1)
    assert driver.logic.current_study.study == "p1_ES" and len(driver.server.sent) == 1
    study = driver.open()
    assert study.edited == {2, 3} and study.base == ("http://fake", 1) and driver.states()[CINE] == "edited, not sent"


@pytest.mark.slow
def test_a_study_that_is_opened_again_before_the_reply_learns_of_it(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    driver.edit(1)
    with slow(driver, "submit", "submit"):
        driver.ui.openButton.click()
        driver.rest(0.1)
    study = driver.logic.current_study
    assert study.base == ("http://fake", 1) and not study.has_unsent_edits and drafts(driver) == []
    assert driver.states()["p1_ES"] == ""


@pytest.mark.slow
@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_label_says_which_prediction_it_was_made_from_also_later(
    driver: FakeServerDriver, questions: Questions, is_restarted: bool
) -> None:
    driver.open_study()
    driver.click("run")
    made_from = driver.logic.current_study.provenance
    driver.edit(2)
    driver.wait(lambda: drafts(driver))
    again = driver
    if is_restarted:
        again = restart(driver)
        again.open_study()
        again.ui.recoverButton.click()
    else:
        driver.select(0)
        driver.click("open")
        driver.open_study()
    again.click("submit")
    (_, _, info) = next(request for request in again.server.requests if request[0] == "submit")
    assert made_from["model_version"] and {name: info[name] for name in made_from} == made_from
    again.widget.cleanup()


@pytest.mark.slow
def test_a_draft_of_a_phase_that_was_not_sent_stays(cine_driver: CineDriver, questions: Questions) -> None:
    cine_driver.open()
    cine_driver.show(1)
    edited = cine_driver.edit(2)
    cine_driver.wait(lambda: drafts(cine_driver))
    again = restart(cine_driver)
    again.open()
    again.edit(3)
    again.click("submit")
    assert len(again.server.sent) == 1 and len(drafts(again)) == 1 and again.ui.draftFrame.isVisible()
    again.ui.recoverButton.click()
    assert np.array_equal(again.masks()[..., 1].T, edited)
    again.click("submit")
    assert len(again.server.sent) == 2 and drafts(again) == []
    again.widget.cleanup()


@pytest.mark.slow
def test_older_drafts_are_offered_after_the_newest(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    driver.edit(2)
    driver.wait(lambda: drafts(driver))
    again = restart(driver)
    again.open_study()
    newer = paint(again, 1)
    again.wait(lambda: len(drafts(again)) == 2)
    third = restart(again)
    third.open_study()
    third.ui.recoverButton.click()
    assert np.array_equal(third.logic.current_study.mask(), newer)
    assert third.ui.draftFrame.isVisible() and (third.logic.autosave.offer.drawings[0].mask == 2).any()
    paint(third, 3, 2)  # what was recovered is corrected further
    third.click("submit")
    assert len(drafts(third)) == 1 and third.ui.draftFrame.isVisible(), "the older one was never seen"
    third.ui.discardButton.click()
    assert drafts(third) == [] and not third.ui.draftFrame.isVisible()
    third.widget.cleanup()


@pytest.mark.slow
def test_a_recovery_that_was_undone_is_offered_again(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    edited = driver.edit(2)
    driver.wait(lambda: drafts(driver))
    again = restart(driver)
    again.open_study()
    again.ui.recoverButton.click()
    assert not again.ui.draftFrame.isVisible()
    again.editor.undo()
    again.wait(lambda: again.logic.autosave.offer is not None)
    assert np.array_equal(again.logic.autosave.offer.drawings[0].mask, edited)
    again.widget.cleanup()


@pytest.mark.slow
@pytest.mark.parametrize("was_edited", [False, True])
@pytest.mark.parametrize("goes_on", [False, True])
def test_a_recovery_that_was_undone_outlasts_what_is_sent_instead(
    driver: FakeServerDriver, questions: Questions, was_edited: bool, goes_on: bool
) -> None:
    driver.open_study()
    edited = driver.edit(2)
    driver.wait(lambda: drafts(driver))
    again = restart(driver)
    again.open_study()
    if was_edited:
        paint(again, 1)
        again.wait(lambda: len(drafts(again)) == 2)
    again.ui.recoverButton.click()
    again.rest(0.2)
    again.editor.undo()
    if goes_on:  # before anything was saved
        paint(again, 3, 2)
    again.rest(0.2)
    again.click("submit") if was_edited or goes_on else again.rest(0.2)
    assert len(drafts(again)) == 1 and np.array_equal(again.logic.autosave.offer.drawings[0].mask, edited)
    again.widget.cleanup()


@pytest.mark.slow
def test_what_was_recovered_and_left_is_not_offered_again(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    driver.edit(2)
    driver.wait(lambda: drafts(driver))
    again = restart(driver)
    again.open_study()
    again.ui.recoverButton.click()
    edited = paint(again, 1)
    for n in (0, 1):
        again.select(n)
        again.click("open")
    assert np.array_equal(again.logic.current_study.mask(), edited) and again.logic.autosave.offer is None
    again.click("submit")
    assert drafts(again) == []
    again.widget.cleanup()


@pytest.mark.slow
def test_a_recovery_replaces_no_edits_that_undo_does_not_bring_back(cine_driver: CineDriver, questions: Questions) -> None:
    cine_driver.open()
    for phase in (1, 3):
        cine_driver.show(phase)
        cine_driver.edit(2)
    cine_driver.wait(lambda: drafts(cine_driver))
    cine_driver.rest(0.2)
    again = restart(cine_driver)
    again.open()
    again.show(3)
    edited = paint(again, 1)
    again.show(0)
    again.ui.recoverButton.click()
    assert again.status == "Phase 3 has edits that were not sent: submit them first." and again.ui.draftFrame.isVisible()
    assert np.array_equal(again.masks()[..., 3].T, edited) and not again.masks()[..., 1].any()
    again.show(3)
    again.ui.recoverButton.click()
    assert again.logic.current_study.edited == {1, 3} and again.logic.current_study.phase == 3
    assert np.array_equal(again.logic.autosave.offer.drawings[3].mask, edited)  # also for a Slicer that crashes now
    again.editor.undo()
    assert np.array_equal(again.masks()[..., 3].T, edited)
    again.widget.cleanup()


@pytest.mark.slow
def test_a_draft_that_the_label_holds_is_no_edit(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    driver.edit(2)
    driver.wait(lambda: drafts(driver))
    again = restart(driver)  # the label was stored, and Slicer crashed before it heard of that
    mask = np.load(drafts(again)[0])["mask"][0]
    again.server.latest["p1_ES"], again.server.labelled["p1_ES"] = 1, "Ada"
    again.server.download_version = lambda study, version, folder: write(again.folder / "label.nii.gz", mask.T)
    again.click("refresh")
    assert again.states()["p1_ES"] == "edited, not sent"
    again.select(1)
    again.click("open")
    assert np.array_equal(again.logic.current_study.mask(), mask)
    assert not again.ui.draftFrame.isVisible() and drafts(again) == [] and again.states()["p1_ES"] == ""
    again.widget.cleanup()


@pytest.mark.slow
def test_edits_that_could_not_be_saved_are_saved_as_soon_as_they_can_be(
    driver: FakeServerDriver, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autosave, "LONGEST_S", 0.1)
    driver.open_study()
    obstacle = driver.folder / "PratoLabel"
    obstacle.write_text("in the way")
    driver.edit()
    driver.wait(lambda: "cannot be saved on this computer" in driver.status)
    assert driver.logic.current_study.has_unsent_edits
    obstacle.unlink()
    driver.wait(lambda: drafts(driver))
    assert len(drafts(driver)) == 1


@pytest.mark.slow
def test_what_was_not_sent_leaves_no_file_behind(cine_driver: CineDriver, questions: Questions) -> None:
    driver = cine_driver
    driver.open()
    driver.click("submit")  # nothing to submit yet
    driver.edit(1)
    driver.server.failure = ServerError("The server is full.")
    driver.click("submit")
    assert driver.status == "The server is full."
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "own")
    slicer.util.updateVolumeFromArray(volume, np.zeros((5, 22, 24), np.int16))
    driver.logic.send_volume(volume, "own")
    driver.settle()
    driver.server.failure = None  # which knows where it was raised, and so what for
    driver.logic.disconnect()
    driver.logic.submit("Ada", driver.logic.find_problems())
    driver.logic.send_volume(volume, "own")
    assert driver.status.startswith("Not connected") and list(driver.logic._temporary.path.iterdir()) == []
