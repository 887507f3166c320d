"""The panel, loaded from its .ui file and clicked, on real nodes; desktop and server are fakes."""

from __future__ import annotations

import threading

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.sections import HINT_STYLE, WARNING_STYLE
from PratoLabelLib.server.responses import TrainingState
from tests.slicer_module.fake_client import heart
from tests.slicer_module.panel_driver import FakeServerDriver, dialogs


@pytest.mark.slow
def test_without_a_server_nothing_but_connecting_is_possible(driver: FakeServerDriver) -> None:
    assert driver.enabled == {"test"}
    assert driver.status == "Connect to a PrATo Label server to begin."
    assert driver.ui.serverLabel.text == "Not connected."


def test_everything_that_can_be_touched_says_what_it_does(driver: FakeServerDriver) -> None:
    import qt

    touched = (qt.QPushButton, qt.QLineEdit, qt.QComboBox, qt.QCheckBox, qt.QSpinBox, qt.QTreeWidget, qt.QTableWidget)
    widgets = {name: widget for name, widget in vars(driver.ui).items() if isinstance(widget, touched)}
    assert len(widgets) > 30
    assert [name for name, widget in widgets.items() if not widget.toolTip] == []


def test_the_tab_key_goes_through_the_panel_from_top_to_bottom(driver: FakeServerDriver) -> None:
    driver.ui.advancedSection.collapsed = False
    driver.widget.parent.resize(440, 1400)
    driver.rest(0.05)
    import qt

    stops, widget = [], driver.ui.serverSection
    while widget is not driver.ui.serverSection or not stops:
        if widget.focusPolicy & qt.Qt.TabFocus and widget.objectName in vars(driver.ui) and widget.isVisible():
            stops.append(widget.mapTo(driver.widget.parent, qt.QPoint(0, 0)))
        widget = widget.nextInFocusChain()
        while not hasattr(widget, "name"):  # a part of a widget
            widget = widget.nextInFocusChain()
    rows = [stop.y() for stop in stops]
    assert len(rows) >= 30
    assert rows == sorted(rows)


def test_a_server_fills_the_panel(driver: FakeServerDriver) -> None:
    driver.ui.tokenEdit.text = "secret"
    driver.click("test")
    assert driver.server.requests[0] == ("connect", "127.0.0.1:8000", "secret")  # the address that the empty field shows
    assert driver.enabled == {"test", "next", "refresh", "start"}
    assert driver.ui.serverLabel.text == "PrATo Label 0.1.0, round trip 3 ms\nModels: prato_unetr, prato_auto (needs no box)"
    assert [driver.ui.strategyBox.itemText(i) for i in range(driver.ui.strategyBox.count)] == ["first", "random"]
    assert driver.ui.studiesLabel.text == "1 of 2 labelled"
    assert driver.rows() == {"p1_ED": "Ada", "p1_ES": ""}
    assert "Open a study" in driver.status


def test_a_study_is_opened_from_the_list(driver: FakeServerDriver) -> None:
    driver.click("test")
    driver.select(0)
    driver.click("open")
    assert driver.logic.current_study.study == "p1_ED"
    assert np.array_equal(driver.logic.current_study.mask().T, heart(5))  # with the label that it has
    assert driver.ui.studyTree.currentItem().text(0) == "p1_ED"
    assert driver.ui.studyTree.currentItem().font(0).bold()


@pytest.mark.slow
def test_the_chosen_model_scores_the_next_study(driver: FakeServerDriver) -> None:
    driver.click("test")
    driver.choose("strategy", "random")
    driver.click("next")
    driver.choose("model", "prato_auto")
    driver.click("next")
    assert [request for request in driver.server.requests if request[0] == "next"] == [
        ("next", "random", "prato_unetr"),
        ("next", "random", "prato_auto"),
    ]


@pytest.mark.slow
def test_a_volume_of_the_scene_becomes_a_study(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    # in testing mode Slicer's own returns False, whatever its docstring says
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **options: True)
    driver.click("test")
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mine")
    slicer.util.updateVolumeFromArray(volume, np.zeros((5, 22, 24), np.int16))
    assert "send" not in driver.enabled
    driver.ui.volumeSelector.setCurrentNode(volume)
    driver.click("send")
    assert ("upload", "mine", b"\x1f\x8b") in driver.server.requests
    assert driver.logic.current_study.volume_node is volume
    assert "run" in driver.enabled


@pytest.mark.slow
def test_an_image_of_a_sequence_stays_as_it_was_sent(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **options: True)
    driver.click("test")
    images, browser = (slicer.mrmlScene.AddNewNodeByClass(f"vtkMRMLSequence{kind}Node", "cine") for kind in ("", "Browser"))
    for n in range(3):  # as Slicer loads a cine from DICOM
        image = slicer.vtkMRMLScalarVolumeNode()
        slicer.util.updateVolumeFromArray(image, np.full((5, 22, 24), n, np.int16))
        image.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.diag([-2.0, -2.0, 8.0, 1.0])))
        images.SetDataNodeAtValue(image, str(n))
    browser.AddSynchronizedSequenceNode(images)
    browser.SetSelectedItemNumber(1)
    shown = browser.GetProxyNode(images)
    driver.ui.volumeSelector.setCurrentNode(shown)
    driver.click("send")
    study = driver.logic.current_study
    browser.SetSelectedItemNumber(2)
    assert np.unique(slicer.util.arrayFromVolume(study.volume_node)) == [1]
    driver.click("run")
    assert study.mask().any() and study.segmentation_node.GetScene() is not None
    driver.select(0)
    driver.click("open")
    assert shown.GetScene() is not None  # it is the labeller's own


@pytest.mark.slow
def test_segment_undo_redo_submit(driver: FakeServerDriver) -> None:
    driver.open_study()
    everything = {"test", "next", "refresh", "open", "skip", "reject", "place", "fit", "run", "submit", "submitNext", "start"}
    assert driver.enabled == everything
    driver.ui.annotatorEdit.text = "Grace"
    driver.click("run")
    assert driver.inferences == [("infer", "prato_unetr", "p1_ES", {"prune": "default", "return_tokens": False})]
    assert driver.ui.resultLabel.text == "0.7 s, proposed box"
    assert driver.ui.detailLabel.text == "25% of the tokens kept, 7.7 of 8.0 GFLOP, version a03b7f124ceb"
    assert not driver.ui.warningLabel.isVisible()
    predicted = driver.logic.current_study.mask()
    assert predicted.any()
    driver.editor.undo()  # the Segment Editor's own
    assert not driver.logic.current_study.mask().any()
    driver.editor.redo()
    assert np.array_equal(driver.logic.current_study.mask(), predicted)
    driver.click("submit")
    [sent] = [request for request in driver.server.requests if request[0] == "submit"]
    assert (sent[2]["annotator"], sent[2]["base_version"]) == ("Grace", 0)
    assert driver.status == "The label of p1_ES is stored. Go on with the next study."
    assert driver.ui.submitLabel.text == "p1_ES: LV cavity 245 voxels."
    assert driver.ui.studiesLabel.text == "2 of 2 labelled"


@pytest.mark.slow
def test_a_conflict_is_shown_in_the_status_and_beside_the_button(driver: FakeServerDriver, caplog: pytest.LogCaptureFixture) -> None:
    driver.click("test")
    driver.select(0)
    driver.click("open")
    driver.server.conflict = {"message": "This label replaces version 4 by Bob, and was not made from it.", "versions": []}
    driver.click("submit")
    assert [request[2]["base_version"] for request in driver.server.requests if request[0] == "submit"] == [3]
    assert driver.ui.submitLabel.text == f"p1_ED: LV cavity 245 voxels. {driver.server.conflict['message']}"
    assert driver.status == f"The label of p1_ED is stored. {driver.server.conflict['message']}"
    assert driver.ui.statusLabel.styleSheet == driver.ui.submitLabel.styleSheet == WARNING_STYLE
    driver.server.conflict = None
    driver.click("submit")  # the labeller has seen it: from here on, the work is based on the label that was just stored
    assert [request[2]["base_version"] for request in driver.server.requests if request[0] == "submit"] == [3, 4]
    assert driver.status == "The label of p1_ED is stored. Go on with the next study."
    assert (driver.ui.statusLabel.styleSheet, driver.ui.submitLabel.styleSheet) == (HINT_STYLE, "")
    assert dialogs(caplog) == []


@pytest.mark.slow
def test_the_expected_cost_follows_box_and_pruning(driver: FakeServerDriver) -> None:
    driver.open_study()
    assert driver.ui.costLabel.text == "≈ 10.0 GFLOP, 50 ms"  # all five slices
    driver.roi()
    assert driver.ui.costLabel.text == "≈ 6.0 GFLOP, 30 ms"  # 20 mm: slices 1 to 3
    driver.choose("prune", "off")
    assert driver.ui.costLabel.text == "≈ 12.0 GFLOP, 90 ms"
    driver.choose("prune", "50")
    assert not driver.ui.costLabel.isVisible()  # the server has not measured it


@pytest.mark.slow
def test_warnings_of_the_box_are_shown(driver: FakeServerDriver) -> None:
    driver.open_study()
    driver.server.warnings = ["box_cut_by_target", "box_of_the_future"]
    driver.click("run")
    assert driver.ui.warningLabel.text == "The heart extends beyond the box: draw it larger.\nbox_of_the_future"
    assert driver.ui.warningLabel.isVisible()


@pytest.mark.slow
def test_cancel_drops_the_request_and_changes_nothing(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.open_study()
    release = threading.Event()
    infer = driver.server.infer
    monkeypatch.setattr(driver.server, "infer", lambda *arguments: release.wait(200) and infer(*arguments))
    driver.ui.fitButton.click()
    driver.wait(lambda: "cancel" in driver.enabled)
    assert driver.status == "Waiting for the server…"
    driver.ui.cancelButton.click()
    assert ("cancel",) in driver.server.requests
    release.set()
    driver.settle()
    assert "cancel" not in driver.enabled
    assert not driver.logic.current_study.mask().any()
    assert driver.panel.parameters.roi is None


@pytest.mark.slow
def test_a_locked_structure_is_left_alone(driver: FakeServerDriver) -> None:
    driver.open_study()
    driver.ui.lockLvCheckBox.checked = True
    driver.click("run")
    mask = driver.logic.current_study.mask()
    assert (mask == 2).any()
    assert not (mask == 3).any()


@pytest.mark.slow
def test_a_training_is_followed(driver: FakeServerDriver) -> None:
    driver.click("test")
    driver.server.state = TrainingState(True, 3, 8, 120, 320, 0.812, "Step 120 of 320.", {})
    driver.ui.epochsBox.value = 8
    driver.click("start")
    assert ("train", "prato_unetr", {"max_epochs": 8}) in driver.server.requests
    assert (driver.ui.trainProgress.value, driver.ui.trainProgress.maximum) == (120, 320)
    assert driver.ui.trainProgress.format == "epoch 3 of 8, Dice 0.812"
    assert {"stop"} == driver.enabled & {"start", "stop"}
    result = {"published": True, "dice_before": 0.8121, "dice_after": 0.8467, "model_version_before": "a03b", "model_version_after": "5bd1"}
    driver.server.state = TrainingState(False, 8, 8, 320, 320, 0.8467, "The training has ended.", result)
    driver.wait(lambda: "start" in driver.enabled)
    assert driver.ui.diceLabel.text == "0.812 → 0.847"
    assert driver.ui.versionLabel.text == "a03b → 5bd1"
    assert driver.ui.trainLabel.text == "The training has ended."
    driver.server.state = TrainingState(False, 8, 8, 320, 320, 0.8, "The training has ended.", {**result, "published": False})
    driver.click("start")
    assert driver.ui.versionLabel.text == "a03b stays: the new one was not as good"
