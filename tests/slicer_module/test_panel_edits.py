"""What a labeller made is never lost silently: leaving asks, a crash is recovered from, and what is sent is what is there."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.scene.segments import find_segment
from tests.slicer_module.panel_driver import FakeServerDriver, dialogs
from tests.slicer_module.unsent import Questions, drafts, restart


@pytest.mark.slow
def test_leaving_a_study_with_unsent_edits_asks(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    driver.click("run")
    driver.select(0)
    driver.click("open")
    assert questions.asked == []  # a prediction can be had again
    driver.edit()
    questions.answer = False
    driver.click("next")
    driver.select(1)
    driver.click("open")
    assert driver.logic.current_study.study == "p1_ED"
    assert len(questions.asked) == 2
    assert questions.asked[0].startswith("p1_ED has edits that were not sent.")
    questions.answer = True
    driver.select(1)
    driver.click("open")
    assert driver.logic.current_study.study == "p1_ES"
    assert driver.states() == {"p1_ED": "edited, not sent", "p1_ES": ""}


@pytest.mark.slow
def test_edits_that_were_undone_or_sent_are_no_longer_asked_about(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    study = driver.logic.current_study
    driver.editor.saveStateForUndo()
    driver.edit()
    assert study.has_unsent_edits
    driver.wait(lambda: drafts(driver))
    driver.editor.undo()
    assert not study.has_unsent_edits
    driver.wait(lambda: not drafts(driver))
    driver.edit()
    driver.click("submit")
    assert not study.has_unsent_edits
    driver.click("next")
    assert questions.asked == []


@pytest.mark.slow
def test_a_crash_loses_nothing(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    driver.click("run")
    edited = driver.edit(2)
    driver.wait(lambda: drafts(driver))
    again = restart(driver)
    assert again.logic.info is not None  # connected by itself
    assert again.states()["p1_ES"] == "edited, not sent"
    again.click("next")
    assert again.ui.draftFrame.isVisible()
    assert again.ui.draftLabel.text.startswith("p1_ES has edits of 2")
    assert again.inferences == []  # nothing is proposed over what is offered
    again.ui.recoverButton.click()
    assert np.array_equal(again.logic.current_study.mask(), edited)
    assert not again.ui.draftFrame.isVisible()
    assert again.logic.current_study.has_unsent_edits
    again.editor.undo()
    assert not again.logic.current_study.mask().any()
    again.editor.redo()
    again.click("submit")
    assert drafts(again) == []
    assert again.states()["p1_ES"] == ""
    again.widget.cleanup()
    assert questions.asked == []


@pytest.mark.slow
def test_a_crash_before_the_offer_was_answered_loses_nothing(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    driver.edit(2)
    driver.wait(lambda: drafts(driver))
    again = restart(driver)
    again.click("next")
    again.edit(1)  # without an answer
    again.wait(lambda: len(drafts(again)) == 2)
    third = restart(again)
    third.click("next")
    assert third.logic.autosave.offer is not None
    assert len(drafts(third)) == 2 and (third.logic.autosave.offer.drawings[0].mask == 1).any()
    third.ui.discardButton.click()
    assert third.ui.draftFrame.isVisible() and (third.logic.autosave.offer.drawings[0].mask == 2).any()  # nobody has seen that one yet
    third.ui.discardButton.click()
    assert drafts(third) == []
    assert not third.ui.draftFrame.isVisible()
    third.widget.cleanup()


@pytest.mark.slow
def test_edits_whose_image_is_deleted_before_they_rest_stay_edits(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    drawn = driver.edit(2)
    slicer.mrmlScene.RemoveNode(driver.logic.current_study.volume_node)
    driver.rest(0.2)
    driver.click("open")
    study = driver.logic.current_study
    assert np.array_equal(study.mask(), drawn) and study.has_unsent_edits and not questions.asked
    driver.select(0)
    driver.click("open")
    assert len(questions.asked) == 1 and study.segmentation_node.GetScene() is not None


@pytest.mark.slow
def test_segments_that_are_deleted_before_they_rest_are_offered_again(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    drawn = driver.edit(2)
    slicer.mrmlScene.RemoveNode(driver.logic.current_study.segmentation_node)
    assert len(drafts(driver)) == 1
    driver.click("open")
    driver.ui.recoverButton.click()
    assert np.array_equal(driver.logic.current_study.mask(), drawn)


@pytest.mark.slow
def test_closing_the_scene_keeps_unsent_edits(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    edited = driver.edit()
    slicer.mrmlScene.Clear(0)
    assert len(drafts(driver)) == 1
    driver.click("next")
    driver.ui.recoverButton.click()
    assert np.array_equal(driver.logic.current_study.mask(), edited)


@pytest.mark.slow
def test_edits_are_saved_before_anything_that_may_fail(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    driver.edit()
    driver.logic.clicks_changed.connect(Mock(side_effect=ValueError("unforeseen")))
    with pytest.raises(ValueError, match="unforeseen"):
        driver.widget.cleanup()  # Slicer exits
    assert len(drafts(driver)) == 1


@pytest.mark.slow
def test_edits_made_while_the_label_is_sent_keep_the_study_open(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    driver.edit(1)
    driver.ui.submitNextButton.click()
    driver.edit(2)
    driver.settle()
    assert driver.logic.current_study.study == "p1_ES"
    assert "not sent yet" in driver.ui.submitLabel.text
    assert driver.logic.current_study.has_unsent_edits
    driver.wait(lambda: drafts(driver))


@pytest.mark.slow
def test_a_study_that_is_opened_while_a_label_is_sent_is_not_left_for_the_next(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    driver.edit(1)
    driver.ui.submitNextButton.click()
    driver.select(0)
    driver.ui.openButton.click()
    driver.settle()
    assert [request[0] for request in driver.server.requests].count("submit") == 1
    assert "next" not in [request[0] for request in driver.server.requests]
    assert driver.logic.current_study.study == "p1_ED"


@pytest.mark.slow
def test_what_would_be_sent_otherwise_is_said_first(driver: FakeServerDriver, questions: Questions) -> None:
    driver.open_study()
    driver.click("run")
    segmentation = driver.logic.current_study.segmentation_node.GetSegmentation()
    segmentation.RemoveSegment(find_segment(segmentation, "RV cavity"))
    questions.answer = False
    driver.click("submit")
    assert "The segment of the RV cavity was removed" in questions.asked[0]
    assert not [request for request in driver.server.requests if request[0] == "submit"]
    driver.logic.submit("Ada")  # whoever does not ask is refused
    assert driver.status.endswith("Nothing was sent.")
    questions.answer = True
    driver.click("submit")
    assert [request for request in driver.server.requests if request[0] == "submit"]


@pytest.mark.slow
@pytest.mark.parametrize("asks", ["submit", "showVersion", "skip"])
def test_what_is_asked_about_a_study_is_not_done_to_the_next(
    driver: FakeServerDriver, questions: Questions, monkeypatch: pytest.MonkeyPatch, asks: str
) -> None:
    """3D Slicer's own event loop goes on behind a question, and with it the answers of the server."""
    driver.server.latest["p1_ES"], driver.server.labelled = 1, {}
    driver.open_study()
    driver.edit(1)
    driver.ui.versionTree.setCurrentItem(driver.ui.versionTree.topLevelItem(0))
    driver.ui.reasonBox.setEditText("not the heart")
    study = driver.logic.current_study
    if asks == "submit":
        driver.ui.submitNextButton.click()
        hidden = find_segment(study.segmentation_node.GetSegmentation(), "RV cavity")
        study.segmentation_node.GetDisplayNode().SetSegmentVisibility(hidden, False)  # which is said first

    def answer(text: str, *arguments: object, **options: object) -> bool:
        if asks != "submit":
            driver.logic.open_study("p1_ED")  # as an answer may do
        driver.settle()
        assert driver.logic.current_study.study == "p1_ED"
        return True

    for name in ("confirmYesNoDisplay", "confirmOkCancelDisplay"):
        monkeypatch.setattr(slicer.util, name, answer)
    getattr(driver.ui, f"{asks}Button").click()
    driver.settle()
    done = [request[:2] for request in driver.server.requests if request[0] in ("submit", "review", "version")]
    assert done.count(("submit", "p1_ES")) == (asks == "submit")
    assert not {("submit", "p1_ED"), ("review", "p1_ES")} & {*done} and done.count(("version", "p1_ES")) == 1  # when it was opened
    assert driver.logic.current_study.study == "p1_ED"


@pytest.mark.slow
def test_a_submission_that_fails_keeps_the_draft(driver: FakeServerDriver, questions: Questions) -> None:
    from PratoLabelLib.server.connection import ServerError

    driver.open_study()
    driver.edit()
    driver.wait(lambda: drafts(driver))
    driver.server.failure = ServerError("The server is gone.")
    driver.click("submitNext")
    assert driver.status == "The server is gone."
    assert len(drafts(driver)) == 1
    assert driver.logic.current_study.has_unsent_edits


@pytest.mark.slow
def test_a_disk_that_is_full_is_said_once_and_in_the_panel(
    driver: FakeServerDriver, questions: Questions, caplog: pytest.LogCaptureFixture
) -> None:
    driver.open_study()
    (driver.folder / "PratoLabel").write_text("in the way")
    driver.edit()
    driver.wait(lambda: "cannot be saved on this computer" in driver.status)
    assert dialogs(caplog) == []
    assert driver.logic.current_study.has_unsent_edits
