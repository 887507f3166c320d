"""The panel, loaded from its .ui file and clicked, on real nodes; desktop and server are doubles."""

from __future__ import annotations

import threading

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from client_double import heart
from driver import Shown, dialogs

from PratoLabelLib.answers import TrainingState
from PratoLabelLib.segmentation import show_mask
from PratoLabelLib.styles import HINT_STYLE, WARNING_STYLE


def test_before_there_is_a_server_it_can_only_be_sought(shown: Shown) -> None:
    assert shown.enabled == {"test"}
    assert shown.status == "Connect to a PrATo Label server to begin."
    assert shown.ui.serverLabel.text == "Not connected."


def test_everything_that_can_be_touched_says_what_it_does(shown: Shown) -> None:
    import qt

    touched = (qt.QPushButton, qt.QLineEdit, qt.QComboBox, qt.QCheckBox, qt.QSpinBox, qt.QTreeWidget, qt.QTableWidget)
    widgets = {name: widget for name, widget in vars(shown.ui).items() if isinstance(widget, touched)}
    assert len(widgets) > 30
    assert [name for name, widget in widgets.items() if not widget.toolTip] == []


def test_the_tab_key_goes_through_the_panel_from_top_to_bottom(shown: Shown) -> None:
    shown.widget.parent.resize(440, 1400)
    shown.rest(0.05)
    import qt

    stops, widget = [], shown.ui.serverSection
    while widget is not shown.ui.serverSection or not stops:
        if widget.focusPolicy & qt.Qt.TabFocus and widget.objectName in vars(shown.ui) and widget.isVisible():
            stops.append(widget.mapTo(shown.widget.parent, qt.QPoint(0, 0)))
        widget = widget.nextInFocusChain()
        while not hasattr(widget, "name"):  # a part of a widget
            widget = widget.nextInFocusChain()
    rows = [stop.y() for stop in stops]
    assert len(rows) >= 30
    assert rows == sorted(rows)


def test_a_server_fills_the_panel(shown: Shown) -> None:
    shown.ui.tokenEdit.text = "secret"
    shown.click("test")
    assert shown.server.asked[0] == ("connect", "127.0.0.1:8000", "secret")  # the address that the empty field shows
    assert shown.enabled == {"test", "next", "refresh", "start"}
    assert shown.ui.serverLabel.text == "PrATo Label 0.1.0, round trip 3 ms\nModels: prato_unetr, prato_auto (needs no box)"
    assert [shown.ui.strategyBox.itemText(i) for i in range(shown.ui.strategyBox.count)] == ["first", "random"]
    assert shown.ui.studiesLabel.text == "1 of 2 labelled"
    assert shown.rows() == {"p1_ED": "Ada", "p1_ES": ""}
    assert "Open a study" in shown.status


def test_a_study_is_opened_from_the_list(shown: Shown) -> None:
    shown.click("test")
    shown.select(0)
    shown.click("open")
    assert shown.logic.open.study == "p1_ED"
    assert np.array_equal(shown.logic.open.mask().T, heart(5))  # with the label that it has
    assert shown.ui.studyTree.currentItem().text(0) == "p1_ED"
    assert shown.ui.studyTree.currentItem().font(0).bold()


def test_the_model_that_is_chosen_judges_what_comes_next(shown: Shown) -> None:
    shown.click("test")
    shown.choose("strategy", "random")
    shown.click("next")
    shown.choose("model", "prato_auto")
    shown.click("next")
    assert [asked for asked in shown.server.asked if asked[0] == "next"] == [
        ("next", "random", "prato_unetr"),
        ("next", "random", "prato_auto"),
    ]


def test_a_volume_of_the_scene_becomes_a_study(shown: Shown) -> None:
    shown.click("test")
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mine")
    slicer.util.updateVolumeFromArray(volume, np.zeros((5, 22, 24), np.int16))
    assert "send" not in shown.enabled
    shown.ui.volumeSelector.setCurrentNode(volume)
    shown.click("send")
    assert ("upload", "mine", b"\x1f\x8b") in shown.server.asked
    assert shown.logic.open.volume_node is volume
    assert "run" in shown.enabled


def test_segment_undo_redo_submit(shown: Shown) -> None:
    shown.opened()
    assert shown.enabled == {"test", "next", "refresh", "open", "place", "fit", "run", "edit", "submit", "start"}
    shown.ui.annotatorEdit.text = "Grace"
    shown.click("run")
    assert shown.inferences == [("infer", "prato_unetr", "p1_ES", {"prune": "default", "return_tokens": False})]
    assert shown.ui.resultLabel.text == "698 ms, proposed box, 25% of the tokens kept, 7.7 of 8.0 GFLOP, version a03b7f124ceb"
    assert not shown.ui.warningLabel.isVisible()
    assert {"undo"} == shown.enabled & {"undo", "redo"}
    shown.click("undo")
    assert not shown.logic.open.mask().any()
    assert {"redo"} == shown.enabled & {"undo", "redo"}
    shown.click("redo")
    assert shown.logic.open.mask().any()
    shown.click("submit")
    [sent] = [asked for asked in shown.server.asked if asked[0] == "submit"]
    assert (sent[2]["annotator"], sent[2]["base_version"]) == ("Grace", 0)
    assert shown.status == "The label of p1_ES is stored. Go on with the next study."
    assert shown.ui.submitLabel.text == "p1_ES: LV cavity 245 voxels."
    assert shown.ui.studiesLabel.text == "2 of 2 labelled"


def test_a_conflict_is_said_where_it_is_seen(shown: Shown, caplog: pytest.LogCaptureFixture) -> None:
    shown.click("test")
    shown.select(0)
    shown.click("open")
    shown.server.conflict = {"message": "This label replaces version 4 by Bob, and was not made from it.", "versions": []}
    shown.click("submit")
    assert [asked[2]["base_version"] for asked in shown.server.asked if asked[0] == "submit"] == [3]
    assert shown.ui.submitLabel.text == f"p1_ED: LV cavity 245 voxels. {shown.server.conflict['message']}"
    assert shown.status == f"The label of p1_ED is stored. {shown.server.conflict['message']}"
    assert shown.ui.statusLabel.styleSheet == shown.ui.submitLabel.styleSheet == WARNING_STYLE
    shown.server.conflict = None
    shown.click("submit")  # the labeller has seen it: from here on, the work is based on the label that was just stored
    assert [asked[2]["base_version"] for asked in shown.server.asked if asked[0] == "submit"] == [3, 4]
    assert shown.status == "The label of p1_ED is stored. Go on with the next study."
    assert (shown.ui.statusLabel.styleSheet, shown.ui.submitLabel.styleSheet) == (HINT_STYLE, "")
    assert dialogs(caplog) == []


def test_the_expected_cost_follows_box_and_pruning(shown: Shown) -> None:
    shown.opened()
    assert shown.ui.costLabel.text == "≈ 10.0 GFLOP, 50 ms"  # all five slices
    shown.roi()
    assert shown.ui.costLabel.text == "≈ 6.0 GFLOP, 30 ms"  # 20 mm: slices 1 to 3
    shown.choose("prune", "off")
    assert shown.ui.costLabel.text == "≈ 12.0 GFLOP, 90 ms"
    shown.choose("prune", "50")
    assert not shown.ui.costLabel.isVisible()  # the server has not measured it


def test_warnings_of_the_box_are_shown(shown: Shown) -> None:
    shown.opened()
    shown.server.warnings = ["box_cut_by_target", "box_of_the_future"]
    shown.click("run")
    assert shown.ui.warningLabel.text == "The heart reaches out of the box: draw it larger.\nbox_of_the_future"
    assert shown.ui.warningLabel.isVisible()


def test_cancel_gives_up_the_request_and_changes_nothing(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    shown.opened()
    release = threading.Event()
    infer = shown.server.infer
    monkeypatch.setattr(shown.server, "infer", lambda *asked: release.wait(200) and infer(*asked))
    shown.ui.fitButton.click()
    shown.wait(lambda: "cancel" in shown.enabled)
    assert shown.status == "Waiting for the server…"
    shown.ui.cancelButton.click()
    assert ("cancel",) in shown.server.asked
    release.set()
    shown.settle()
    assert "cancel" not in shown.enabled
    assert not shown.logic.open.mask().any()
    assert shown.panel.parameters.roi is None


def test_the_table_follows_the_segments(shown: Shown) -> None:
    shown.opened()
    shown.click("run")
    table = shown.ui.cardiacTable
    shown.wait(lambda: table.item(1, 5).text())
    first = table.item(1, 0).text()
    assert float(first) == pytest.approx((shown.logic.open.mask() == 3).sum() * 0.032, abs=0.06)  # voxels of 2 x 2 x 8 mm
    assert float(table.item(1, 5).text()) < 100  # the ejection fraction: the other phase has a label
    assert shown.ui.phaseLabel.text == "p1: end diastole is p1_ED, end systole p1_ES."
    edited = shown.logic.open.mask()
    edited[2] = 0
    show_mask(shown.logic.open.segmentation_node, shown.logic.open.volume_node, shown.logic.labels, edited)
    shown.wait(lambda: float(table.item(1, 0).text()) < float(first))
    assert shown.ui.flagsLabel.isVisible()  # a slice is empty between filled ones


def test_a_locked_structure_is_left_alone(shown: Shown) -> None:
    shown.opened()
    shown.ui.lockLvCheckBox.checked = True
    shown.click("run")
    mask = shown.logic.open.mask()
    assert (mask == 2).any()
    assert not (mask == 3).any()


def test_the_segment_editor_that_cannot_be_opened_says_so(shown: Shown, caplog: pytest.LogCaptureFixture) -> None:
    shown.opened()
    shown.click("edit")
    assert dialogs(caplog) == ["The Segment Editor cannot be opened from here: choose it in the list of modules."]


def test_a_training_is_followed(shown: Shown) -> None:
    shown.click("test")
    shown.server.state = TrainingState(True, 3, 8, 120, 320, 0.812, "Step 120 of 320.", {})
    shown.ui.epochsBox.value = 8
    shown.click("start")
    assert ("train", "prato_unetr", {"max_epochs": 8}) in shown.server.asked
    assert (shown.ui.trainProgress.value, shown.ui.trainProgress.maximum) == (120, 320)
    assert shown.ui.trainProgress.format == "epoch 3 of 8, Dice 0.812"
    assert {"stop"} == shown.enabled & {"start", "stop"}
    result = {"published": True, "dice_before": 0.8121, "dice_after": 0.8467, "model_version_before": "a03b", "model_version_after": "5bd1"}
    shown.server.state = TrainingState(False, 8, 8, 320, 320, 0.8467, "The training has ended.", result)
    shown.wait(lambda: "start" in shown.enabled)
    assert shown.ui.diceLabel.text == "0.812 → 0.847"
    assert shown.ui.versionLabel.text == "a03b → 5bd1"
    assert shown.ui.trainLabel.text == "The training has ended."
    shown.server.state = TrainingState(False, 8, 8, 320, 320, 0.8, "The training has ended.", {**result, "published": False})
    shown.click("start")
    assert shown.ui.versionLabel.text == "a03b stays: the new one was not as good"
