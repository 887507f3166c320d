"""A labeller's day: how many clicks a study takes, the list, skipping and rejecting, keys, and the server that is remembered."""

from __future__ import annotations

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.scene.geometry import roi_to_ijk_box
from PratoLabelLib.server.connection import ServerError
from tests.slicer_harness.qt_standin import foreign_attributes
from tests.slicer_module.clicks import click_voxels
from tests.slicer_module.panel_driver import FakeServerDriver, dialogs
from tests.slicer_module.unsent import slow


class Mouse:
    """Counts every click of a labeller, in the panel and in the views."""

    def __init__(self, driver: FakeServerDriver) -> None:
        self.driver, self.clicks = driver, 0

    def press(self, name: str) -> None:
        self.clicks += 1
        self.driver.click(name)

    def click_in_view(self, voxel: tuple[int, int, int]) -> None:
        self.clicks += 1
        click_voxels(self.driver.panel.parameters.roi, self.driver.logic.current_study.volume_node, voxel)


def submitted(driver: FakeServerDriver) -> list[str]:
    return [request[1] for request in driver.server.requests if request[0] == "submit"]


def a_day(driver: FakeServerDriver, count: int) -> None:
    """A folder of studies without labels, handed out one after the other."""
    names = [f"q{n}_ED" for n in range(count)]
    driver.server.names, driver.server.labelled, driver.server.latest = names, {}, {}


@pytest.mark.slow
def test_a_study_takes_four_clicks_with_a_box_and_one_without(driver: FakeServerDriver) -> None:
    a_day(driver, 6)
    driver.click("test")  # only ever the first time
    mouse = Mouse(driver)
    mouse.press("next")
    assert mouse.clicks == 1
    for n in range(3):  # with a box of the labeller's own
        before = mouse.clicks
        mouse.press("place")
        mouse.click_in_view((18, 4, 2))
        mouse.click_in_view((5, 15, 2))
        driver.wait(lambda: driver.inferences[-1][3].get("roi") == [[5, 19, 4, 16, 0, 5]])
        driver.settle()
        assert driver.logic.current_study.mask().any()
        mouse.press("submitNext")
        assert mouse.clicks - before == 4
        assert submitted(driver) == [f"q{m}_ED" for m in range(n + 1)]
        assert driver.logic.current_study.study == f"q{n + 1}_ED"
        assert driver.logic.current_study.mask().any()  # segmented already, in the proposed box
    for n in range(3, 5):  # in the proposed one
        before = mouse.clicks
        mouse.press("submitNext")
        assert mouse.clicks - before == 1
        assert submitted(driver)[-1] == f"q{n}_ED"


def test_next_opens_segments_and_draws_the_proposed_box(driver: FakeServerDriver) -> None:
    driver.click("test")
    driver.click("next")
    assert driver.inferences[-1][3] == {"prune": "default", "return_tokens": False}
    assert driver.ui.resultLabel.text == "0.7 s, proposed box"
    box = roi_to_ijk_box(driver.panel.parameters.roi, driver.logic.current_study.volume_node)
    assert box == (1, 23, 2, 20, 0, 5)
    driver.rest(0.6)
    assert len(driver.inferences) == 1  # the box that was drawn is no prompt of the labeller's


def test_no_box_is_drawn_where_no_heart_was_found(driver: FakeServerDriver) -> None:
    driver.click("test")
    driver.server.box_source = "whole_image"
    driver.click("next")
    assert driver.panel.parameters.roi is None
    assert driver.ui.warningLabel.text == "No heart was found: place a box around both ventricles."


def test_a_conflict_is_read_before_the_next_study_comes(driver: FakeServerDriver) -> None:
    driver.click("test")
    driver.click("next")
    driver.server.conflict = {"message": "This label replaces version 4 by Bob, and was not made from it.", "versions": []}
    driver.click("submitNext")
    assert driver.logic.current_study.study == "p1_ES"
    assert "by Bob" in driver.status


def test_the_server_is_remembered_and_connected_to_by_itself(driver: FakeServerDriver, caplog: pytest.LogCaptureFixture) -> None:
    assert driver.server.requests == []  # nobody has connected yet
    with slow(driver, "info", "test"):
        driver.ui.addressEdit.text = "another:8000"  # which nobody has connected to
    assert driver.ui.serverSection.collapsed
    import qt

    qt.QSettings().sync()
    again = FakeServerDriver(driver.folder)
    again.settle()
    assert again.logic.info is not None
    assert again.server.requests[0] == ("connect", "127.0.0.1:8000", "")
    again.widget.exit()
    again.widget.enter()
    again.settle()
    assert sum(request[0] == "connect" for request in again.server.requests) == 1
    again.widget.cleanup()
    assert dialogs(caplog) == []


def test_a_server_that_has_moved_is_said_without_a_dialog(driver: FakeServerDriver, caplog: pytest.LogCaptureFixture) -> None:
    driver.click("test")
    import qt

    qt.QSettings().sync()
    driver.widget.cleanup()
    gone = ServerError("No server runs at http://127.0.0.1:8000: start it there, or correct the address.")
    again = FakeServerDriver(driver.folder, gone)
    again.settle()
    assert again.status.startswith("No server runs")
    assert not again.ui.serverSection.collapsed
    again.widget.cleanup()
    assert dialogs(caplog) == []


def test_the_list_is_searched_and_sorted(driver: FakeServerDriver) -> None:
    driver.click("test")
    tree = driver.ui.studyTree
    assert list(driver.rows()) == ["p1_ED", "p1_ES"]
    driver.ui.studySearch.text = "ada"  # the annotator
    assert [tree.topLevelItem(n).isHidden() for n in range(2)] == [False, True]
    driver.ui.studySearch.text = "_es"
    assert [tree.topLevelItem(n).isHidden() for n in range(2)] == [True, False]
    driver.click("refresh")
    assert [tree.topLevelItem(n).isHidden() for n in range(2)] == [True, False]
    driver.ui.studySearch.text = ""
    import qt

    tree.sortByColumn(0, qt.Qt.DescendingOrder)
    assert list(driver.rows()) == ["p1_ES", "p1_ED"]
    driver.click("refresh")
    assert list(driver.rows()) == ["p1_ES", "p1_ED"]


@pytest.mark.parametrize(("button", "state"), [("skip", "skipped"), ("reject", "rejected")])
def test_a_study_is_skipped_or_rejected_for_a_reason(driver: FakeServerDriver, button: str, state: str) -> None:
    a_day(driver, 3)
    driver.ui.annotatorEdit.text = "Ada"
    driver.click("test")
    driver.click("next")
    driver.click(button)
    assert driver.status == f"Why is q0_ED {state}? Pick a reason, or write one."
    driver.ui.reasonBox.setEditText("only two slices")
    driver.click(button)
    assert ("review", "q0_ED", state, "only two slices", "Ada") in driver.server.requests
    assert driver.states()["q0_ED"] == state
    assert driver.logic.current_study.study == "q1_ED"
    assert driver.ui.reasonBox.currentText == ""


def test_nothing_is_set_on_a_widget_that_it_does_not_have(driver: FakeServerDriver) -> None:
    driver.open_study()
    for button in ("run", "click", "place", "submitNext"):
        driver.click(button)
    widgets = {*vars(driver.ui).values(), driver.editor, *driver.panel._shortcuts.installed} - {driver.widget._root}  # of PySide6's loader
    assert foreign_attributes(widgets) == []


def test_keys_are_there_while_the_module_is_in_front(driver: FakeServerDriver) -> None:
    driver.click("test")
    keys = {shortcut.key.toString(): shortcut for shortcut in driver.panel._shortcuts.installed}
    assert set(keys) == {"C", "D", "S", "N", "H", "Ctrl+Return"}
    keys["N"].activated.emit()
    driver.rest(0.1)
    driver.settle()
    assert driver.logic.current_study.study == "p1_ES"
    display = driver.logic.current_study.segmentation_node.GetDisplayNode()
    keys["H"].activated.emit()
    assert not display.GetVisibility()
    keys["H"].activated.emit()
    assert display.GetVisibility()
    keys["S"].activated.emit()
    driver.rest(0.1)
    driver.settle()
    assert len(driver.inferences) == 2
    keys["D"].activated.emit()
    assert driver.panel.box._placement is not None
    keys["Ctrl+Return"].activated.emit()
    driver.rest(0.1)
    driver.settle()
    assert submitted(driver) == ["p1_ES"]
    driver.widget.exit()
    assert driver.panel._shortcuts.installed == []
    assert driver.editor.calls[-2:] == ["remove keys", "leave views"]
    driver.widget.enter()
    assert len(driver.panel._shortcuts.installed) == len(keys)


def test_the_progress_bar_is_there_while_the_server_works(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.open_study()
    assert not driver.ui.waitProgress.isVisible()
    seen: list[bool] = []
    infer = driver.server.infer
    monkeypatch.setattr(driver.server, "infer", lambda *arguments: (driver.server.gate.wait(200), infer(*arguments))[1])
    driver.ui.runButton.click()
    driver.wait(driver.ui.waitProgress.isVisible)
    seen.append(driver.ui.waitProgress.maximum == 0)  # busy: nobody knows for how long
    driver.server.gate.set()
    driver.settle()
    assert seen == [True]
    assert not driver.ui.waitProgress.isVisible()


def test_versions_of_the_label_are_listed_shown_and_restored(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", lambda *arguments, **options: True)
    driver.click("test")
    driver.select(0)
    driver.click("open")
    tree = driver.ui.versionTree
    assert [tree.topLevelItem(n).text(0) for n in range(tree.topLevelItemCount)] == ["3", "2", "1"]
    assert tree.topLevelItem(0).font(0).bold() and not tree.topLevelItem(1).font(0).bold()
    before = driver.logic.current_study.mask()
    tree.setCurrentItem(tree.topLevelItem(1))
    driver.click("showVersion")
    assert ("version", "p1_ED", 2) in driver.server.requests
    assert (driver.logic.current_study.mask() == 3).sum() < (before == 3).sum()
    assert not driver.logic.current_study.has_unsent_edits
    driver.editor.undo()
    assert (driver.logic.current_study.mask() == before).all()
    tree.setCurrentItem(tree.topLevelItem(1))
    driver.click("restoreVersion")
    assert [request[:3] for request in driver.server.requests if request[0] == "restore"] == [("restore", "p1_ED", 2)]
    assert driver.logic.current_study.base == ("http://fake", 4)
    assert [tree.topLevelItem(n).text(0) for n in range(tree.topLevelItemCount)] == ["4", "3", "2", "1"]


@pytest.mark.slow
def test_a_server_without_versions_and_reviews_is_no_hindrance(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver.server, "versions", lambda study: [])

    def refuse(*arguments: object) -> None:
        raise ServerError("http://fake refused the request (404 Not Found): check that a PrATo Label server runs there.", 404)

    monkeypatch.setattr(driver.server, "review", refuse)
    driver.open_study()
    driver.ui.reasonBox.setEditText("poor")
    driver.click("skip")
    assert "404" in driver.status
    assert driver.logic.current_study.study == "p1_ES"
