"""A cine in the panel: opened as sequences, browsed, segmented, corrected, submitted and left, without a trace."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")
from PratoLabelLib.server.connection import ServerError
from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.cines import CINE, PHASES, RADII, beating_heart


@pytest.fixture
def driver(cine_driver: CineDriver) -> CineDriver:
    """The panel in front of a fake server with a cine."""
    return cine_driver


def nodes() -> list[str]:
    return sorted(f"{n.GetClassName()} {n.GetName()}" for n in slicer.util.getNodesByClass("vtkMRMLNode") if n.IsA("vtkMRMLStorableNode"))


@pytest.mark.slow
def test_a_cine_is_a_sequence_with_its_browser(driver: CineDriver) -> None:
    study = driver.open()
    browser = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")[0]
    assert browser.GetNumberOfItems() == PHASES and browser.GetSaveChanges(study.cine.segmentations)
    assert [study.cine.images.GetNthIndexValue(n) for n in range(PHASES)] == ["0", "40", "80", "120"]
    for phase in (0, 2, 3):
        driver.show(phase)
        assert set(np.unique(slicer.util.arrayFromVolume(study.volume_node))) == {10 + phase}
        assert driver.ui.phaseNowLabel.text == f"phase {phase}, {40 * phase} ms (4 phases)"
    browser.SetSelectedItemNumber(1)  # by Slicer's own toolbar
    assert driver.ui.phaseSlider.value == 1
    driver.ui.playButton.checked = True
    assert browser.GetPlaybackActive()
    driver.open("p1_ES")
    assert not driver.ui.cineFrame.visible


@pytest.mark.slow
def test_a_study_of_one_phase_shows_nothing_of_cines(driver: CineDriver) -> None:
    driver.open("p1_ES")
    assert not driver.ui.cineFrame.visible and not driver.ui.curveButton.visible and driver.ui.runButton.text == "Segment"


@pytest.mark.slow
def test_a_cine_leaves_nothing_in_the_scene(driver: CineDriver) -> None:
    driver.open("p1_ES")
    driver.open()
    before = nodes()
    driver.open("p1_ES")
    alone = nodes()
    study = driver.open()
    assert nodes() == before
    driver.click("allPhases")
    driver.click("curve")
    driver.wait(lambda: study.has_unsent_work)
    study.mark_sent(study.prepare_submission(driver.folder / "sent.nii.gz"), {}, None)
    driver.open("p1_ES")
    assert nodes() == alone
    assert not [n for kind in ("vtkMRMLSequenceNode", "vtkMRMLPlotChartNode") for n in slicer.util.getNodesByClass(kind)]


@pytest.mark.slow
def test_end_diastole_and_end_systole_are_marked_and_changed(driver: CineDriver) -> None:
    driver.server.marked = (1, 3)
    study = driver.open()
    assert study.phase == 1 and study.ed_es() == (1, 3)
    driver.ui.annotatorEdit.text = "Ada"
    driver.show(2)
    driver.click("markEs")
    assert study.ed_es() == (1, 2) and driver.server.marked == (1, 2)
    assert driver.sent("mark") == [("mark", CINE, 1, 2, "Ada")]
    driver.rest(0.3)  # the table follows
    driver.choose("ed", "0")
    driver.settle()
    assert study.ed_es() == (0, 2) and driver.server.marked == (0, 2)
    driver.click("goEs")
    assert study.phase == 2
    driver.click("markEd")
    assert "both" in driver.status and study.ed_es() == (0, 2)


@pytest.mark.slow
def test_a_mark_alone_that_the_server_is_not_told_says_what_is_missing(driver: CineDriver) -> None:
    study = driver.open()
    driver.show(1)
    driver.click("markEd")
    assert driver.status == "ED is phase 1. Mark ES, too: the server keeps both or neither." and driver.server.marked is None
    driver.show(3)
    driver.click("markEs")
    assert study.ed_es() == (1, 3) and driver.server.marked == (1, 3) and driver.status == "ED is phase 1, and ES is phase 3."
    driver.server.failure = ServerError("The connection was lost.")
    driver.show(2)
    driver.click("markEs")
    assert driver.status == "The connection was lost." and study.ed_es() == (1, 3), "the server was not told"


@pytest.mark.slow
def test_warnings_of_some_phases_say_which(driver: CineDriver) -> None:
    driver.open()
    about = {"unit_ignored": [*range(PHASES)], "lv_cavity_is_open": [0, 1, 2], "mask_is_empty": [3], "Phase 1: swapped.": [1]}
    driver.server.warnings, driver.server.warned = [*about, "parameter_ignored: tau"], about
    driver.click("allPhases")
    unit, lv, empty, *others = driver.ui.warningLabel.text.splitlines()
    assert unit.startswith("The image's file names a unit") and lv.startswith("Phases 0 to 2: The myocardium does not enclose")
    assert empty.startswith("Phase 3: Nothing was found") and others == ["Phase 1: swapped.", "parameter_ignored: tau"]
    driver.server.warned = {}
    driver.click("allPhases")
    assert driver.ui.warningLabel.text.splitlines()[1] == lv.removeprefix("Phases 0 to 2: ")


@pytest.mark.slow
def test_a_phase_that_was_found_to_be_end_systole_may_be_marked_as_end_diastole(driver: CineDriver) -> None:
    study = driver.open()
    driver.click("allPhases")
    assert study.ed_es() == (0, 2)
    driver.show(2)
    driver.click("markEd")
    ed, es = study.ed_es()
    assert ed == 2 and es in (1, 3) and driver.server.marked == (ed, es) and driver.status == f"ED is phase 2, and ES is phase {es}."
    driver.show(0)
    driver.click("markEs")
    assert study.ed_es() == (2, 0) and driver.server.marked == (2, 0)


@pytest.mark.slow
def test_all_phases_are_segmented_but_those_that_are_corrected(driver: CineDriver) -> None:
    study = driver.open()
    driver.show(3)
    edited = driver.edit()
    driver.show(0)
    driver.server.warned = {"unit_ignored": [0, 1, 2, 3], "lv_cavity_is_open": [1, 3], "mask_is_empty": [3]}
    driver.server.warnings = [*driver.server.warned]
    driver.click("allPhases")
    unit, lv = driver.ui.warningLabel.text.splitlines()  # and nothing of the model's mask of phase 3, which nobody sees
    assert unit.startswith("The image's file") and lv.startswith("Phase 1: The myocardium")
    assert driver.sent("infer")[-1][3]["phases"] == "all" and driver.ui.keptLabel.text == "Phase 3 stays as corrected."
    truth = beating_heart()
    truth[..., 3] = edited.T
    assert np.array_equal(driver.masks(), truth)
    assert study.ed_es() == (0, 2) and study.edited == {3}
    driver.rest(0.4)
    table = driver.ui.cardiacTable
    ml = 32.0 / 1000
    edv, esv = (int((beating_heart()[..., phase] == 3).sum()) * ml for phase in (0, 2))
    assert table.item(1, 2).text() == f"{edv:.1f}" and table.item(1, 3).text() == f"{esv:.1f}"


@pytest.mark.slow
def test_next_study_segments_the_whole_cine_and_shows_end_diastole(driver: CineDriver) -> None:
    driver.server.labelled["p1_ES"] = "Ada"
    driver.server.found = (3, 2)
    driver.click("test")
    driver.click("next")
    study = driver.logic.current_study
    assert study.study == CINE and len(study.volumes()) == PHASES
    assert study.phase == 3 and "3 (ED)" in driver.ui.phasesLabel.text
    driver.click("submitNext", until=lambda: driver.server.sent)  # a proposal that is right takes one click, as with a single phase
    assert driver.server.requests[[r[0] for r in driver.server.requests].index("submit")][2]["phases"]["3"] == "corrected"


@pytest.mark.slow
def test_next_study_shows_the_phase_that_the_server_says_is_next(driver: CineDriver) -> None:
    driver.server.labelled["p1_ES"] = "Ada"
    driver.server.latest[CINE] = 1  # end-diastole is corrected, end-systole is not
    driver.server.next_phase = 2
    driver.click("test")
    driver.click("next")
    study = driver.logic.current_study
    assert study.study == CINE and study.phase == 2 and driver.ui.phaseSlider.value == 2
    assert np.array_equal(driver.masks(), beating_heart()) and not study.has_unsent_edits


@pytest.mark.slow
def test_one_phase_is_segmented_though_another_is_shown_by_then(driver: CineDriver) -> None:
    study = driver.open()
    driver.show(1)
    assert driver.ui.runButton.text == "Segment this phase"
    driver.ui.runButton.click()
    driver.show(2)
    driver.settle()
    assert driver.sent("infer")[-1][3]["phases"] == 1
    assert driver.status.startswith(CINE), driver.status
    filled = [bool(driver.masks()[..., phase].any()) for phase in range(PHASES)]
    assert filled == [False, True, False, False] and not study.has_unsent_edits


@pytest.mark.slow
def test_a_late_result_leaves_edits_that_no_undo_would_bring_back(driver: CineDriver) -> None:
    study = driver.open()
    driver.show(1)
    edited = driver.edit()
    driver.ui.runButton.click()
    driver.show(2)
    driver.settle()
    assert study.phase == 2 and np.array_equal(driver.masks()[..., 1], edited.T) and "Phase 1 was edited" in driver.status
    driver.show(1)
    driver.click("run")
    assert not np.array_equal(driver.masks()[..., 1], edited.T)
    driver.editor.undo()
    assert np.array_equal(driver.masks()[..., 1], edited.T) and study.edited == {1}


@pytest.mark.slow
def test_what_is_submitted_is_corrected_where_somebody_has_looked(driver: CineDriver) -> None:
    study = driver.open()
    driver.click("allPhases")
    assert driver.ui.phasesLabel.text == "To be sent as corrected: phase 0 (ED). View ES to send it as corrected, too."
    driver.click("goEs")
    driver.show(1)
    edited = driver.edit()
    driver.rest(0.4)
    assert driver.ui.phasesLabel.text == "To be sent as corrected: phases 0 (ED), 1, 2 (ES)."
    driver.click("submit")
    info = driver.server.requests[[r[0] for r in driver.server.requests].index("submit")][2]
    assert info["phases"] == {"0": "corrected", "1": "corrected", "2": "corrected", "3": "proposed"} and info["base_version"] == 0
    truth = beating_heart()
    truth[..., 1] = edited.T
    assert np.array_equal(driver.server.sent[0], truth)
    assert not study.has_unsent_work and driver.states()[CINE] == ""


@pytest.mark.slow
def test_nothing_is_submitted_that_nobody_has_seen(driver: CineDriver) -> None:
    driver.open()
    driver.click("submit")
    assert "nothing to submit yet" in driver.status and not driver.server.sent


@pytest.mark.slow
def test_unsent_edits_of_every_phase_are_recovered(driver: CineDriver) -> None:
    study = driver.open()
    truth = {}
    for phase in (1, 3):
        driver.show(phase)
        truth[phase] = driver.edit(value=1 + phase % 3)
    assert study.edited == {1, 3} and driver.states()[CINE] == ""
    driver.rest(1.8)
    assert driver.states()[CINE] == "edited, not sent"
    driver.logic.forget_scene()
    slicer.mrmlScene.Clear()
    study = driver.open()
    assert not driver.masks().any() and driver.ui.draftFrame.visible
    driver.ui.recoverButton.click()
    driver.rest(0.1)
    assert all(np.array_equal(driver.masks()[..., phase].T, mask) for phase, mask in truth.items()) and study.edited == {1, 3}


@pytest.mark.slow
def test_edits_of_phases_outlast_another_study(driver: CineDriver) -> None:
    driver.open()
    driver.show(2)
    edited = driver.edit()
    driver.logic.open_study("p1_ES")
    driver.settle()
    study = driver.open()
    assert study.edited == {2} and np.array_equal(driver.masks()[..., 2], edited.T)


@pytest.mark.slow
def test_a_cine_of_which_a_node_was_deleted_opens_anew(driver: CineDriver) -> None:
    study = driver.open()
    before = nodes()
    driver.show(1)
    edited = driver.edit()
    driver.rest(1.8)
    slicer.mrmlScene.RemoveNode(study.cine.browser)
    assert driver.logic.current_study is None
    driver.open()
    assert nodes() == before
    driver.ui.recoverButton.click()
    assert np.array_equal(driver.masks()[..., 1].T, edited)


@pytest.mark.slow
def test_a_label_opens_with_its_phases(driver: CineDriver) -> None:
    driver.server.latest[CINE] = 2
    study = driver.open()
    assert np.array_equal(driver.masks(), beating_heart()) and study.base == ("http://fake", 2)
    assert study.ed_es() == (0, RADII.index(min(RADII))) and not study.has_unsent_work


@pytest.mark.slow
def test_the_editors_undo_stays_in_its_phase(driver: CineDriver) -> None:
    driver.open()
    driver.click("run")
    driver.show(1)
    driver.editor.undo()
    assert not driver.masks()[..., 1].any() and driver.masks()[..., 0].any()


@pytest.mark.slow
def test_the_curve_follows_the_segments(driver: CineDriver) -> None:
    study = driver.open()
    driver.click("allPhases")
    driver.click("curve")
    (chart,) = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    assert chart.GetNumberOfPlotSeriesNodes() == 3 and chart.GetXAxisTitle() == "time (ms)"
    (table,) = slicer.util.getNodesByClass("vtkMRMLTableNode")
    column = table.GetTable().GetColumnByName("LV cavity")
    before = [column.GetValue(n) for n in range(PHASES)]
    assert before.index(max(before)) == 0 and before.index(min(before)) == 2
    driver.edit(value=3)
    driver.rest(0.4)
    assert table.GetTable().GetColumnByName("LV cavity").GetValue(study.phase) != before[study.phase]
