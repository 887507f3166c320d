"""The panel's box: placed, fitted, moved; and what a failure on the way shows."""

from __future__ import annotations

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from driver import Shown, dialogs, let_go

from PratoLabelLib.errors import ServerError
from PratoLabelLib.geometry import roi_to_ijk_box
from PratoLabelLib.styles import ERROR_STYLE, HINT_STYLE


def test_the_proposal_becomes_the_box(shown: Shown) -> None:
    shown.opened()
    shown.click("fit")
    roi = shown.panel.parameters.roi
    assert roi_to_ijk_box(roi, shown.logic.open.volume_node) == (1, 23, 2, 20, 0, 5)
    assert shown.ui.roiSelector.currentNode() is roi
    shown.click("run")
    assert shown.inferences[-1][3]["roi"] == [[1, 23, 2, 20, 0, 5]]
    roi.SetSize(30, 30, 20)
    shown.click("run")
    assert roi.GetSize() == (30, 30, 20)  # only the button moves the box


def test_placing_a_box_lets_the_views_draw_it(shown: Shown) -> None:
    shown.opened()
    shown.click("place")
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    selection = slicer.app.applicationLogic().GetSelectionNode()
    assert selection.GetActivePlaceNodeID() == shown.panel.parameters.roi.GetID()
    assert selection.GetActivePlaceNodeClassName() == "vtkMRMLMarkupsROINode"


def test_all_visible_boxes_can_be_used(shown: Shown) -> None:
    shown.opened()
    first, second, hidden = shown.roi("one"), shown.roi("two"), shown.roi("hidden")
    second.SetCenter(-20, -22, 16)
    hidden.SetDisplayVisibility(False)
    shown.ui.roiSelector.setCurrentNode(first)
    shown.ui.allBoxesCheckBox.checked = True
    shown.click("run")
    assert len(shown.inferences[-1][3]["roi"]) == 2


def test_a_box_outside_the_image_is_refused_in_a_dialog(shown: Shown, caplog: pytest.LogCaptureFixture) -> None:
    shown.opened()
    roi = shown.roi("far away")
    roi.SetCenter(900, 0, 0)
    shown.click("run")
    assert "far away" in shown.status
    assert dialogs(caplog) == [shown.status]
    assert shown.inferences == []


def test_a_live_update_waits_until_the_box_rests(shown: Shown) -> None:
    shown.opened()
    roi, rest = shown.roi(), shown.panel.box._rest
    let_go(roi)
    assert not rest.isActive()  # not asked for
    shown.ui.liveCheckBox.checked = True
    while_it_rests = rest.interval
    rest.setInterval(10**6)  # as if no time passed
    for _ in range(3):
        let_go(roi)
        shown.rest(0.05)
    assert rest.isActive()
    assert shown.inferences == []  # still moving
    rest.setInterval(while_it_rests)
    let_go(roi)
    shown.wait(lambda: len(shown.inferences) == 1)
    shown.settle()
    other = shown.roi("other", select=False)
    let_go(other)  # not the box that is selected
    assert not rest.isActive()
    shown.ui.roiSelector.setCurrentNode(other)
    let_go(roi)
    assert not rest.isActive()
    let_go(other)
    shown.wait(lambda: len(shown.inferences) == 2)
    shown.settle()
    assert len(shown.inferences) == 2


def test_a_live_update_that_fails_opens_no_dialog(shown: Shown, caplog: pytest.LogCaptureFixture) -> None:
    shown.opened()
    roi = shown.roi()
    shown.ui.liveCheckBox.checked = True
    shown.server.failure = ServerError("The server is gone.")
    let_go(roi)
    shown.wait(lambda: shown.status == "The server is gone.")
    shown.settle()
    assert dialogs(caplog) == []
    shown.click("run")
    assert dialogs(caplog) == ["The server is gone."]
    assert shown.ui.statusLabel.styleSheet == ERROR_STYLE
    shown.server.failure = None
    shown.click("run")
    assert "Correct the result" in shown.status
    assert shown.ui.statusLabel.styleSheet == HINT_STYLE
