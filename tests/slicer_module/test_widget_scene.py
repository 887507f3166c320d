"""What outlives a panel, a scene and a session of Slicer, and what does not."""

from __future__ import annotations

import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from driver import Shown, dialogs, let_go


def test_settings_survive_a_restart_and_the_token_does_not(shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown.ui.addressEdit.text, shown.ui.tokenEdit.text, shown.ui.annotatorEdit.text = "heart.example:8000", "s3cret", "Grace"
    shown.opened()
    shown.click("run")
    shown.click("submit")
    import qt

    qt.QSettings().sync()
    slicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    assert slicer.mrmlScene.Commit()
    again = Shown(tmp_path)
    assert (again.ui.addressEdit.text, again.ui.tokenEdit.text, again.ui.annotatorEdit.text) == ("heart.example:8000", "", "Grace")
    again.widget.cleanup()
    written = [path for path in tmp_path.rglob("*") if path.suffix in (".mrml", ".ini")]
    assert len(written) == 2
    assert not any("s3cret" in path.read_text() for path in written)


def test_a_saved_scene_reopens_as_it_was(shown: Shown, tmp_path: Path) -> None:
    shown.opened()
    shown.roi("drawn")
    shown.choose("strategy", "random")
    shown.choose("model", "prato_auto")
    shown.ui.epochsBox.value = 44
    shown.click("run")
    mask = shown.logic.open.mask()
    for box in (shown.ui.liveCheckBox, shown.ui.tokensCheckBox, shown.ui.lockMyocardiumCheckBox):
        box.checked = True
    scene, bundle = slicer.mrmlScene, str(tmp_path / "scene.mrb")
    assert scene.WriteToMRB(bundle)
    scene.Clear(0)
    assert shown.logic.open is None
    assert shown.panel.parameters.max_epochs == 10
    assert (shown.ui.epochsBox.value, shown.ui.liveCheckBox.checked) == (10, False)
    assert "Open a study" in shown.status
    zipfile.ZipFile(bundle).extractall(tmp_path / "unpacked")  # the desktop does this in a cache folder that is not here
    [unpacked] = (tmp_path / "unpacked").rglob("*.mrml")
    scene.SetURL(str(unpacked))
    assert scene.Connect()
    shown.rest(0.1)
    roi = shown.ui.roiSelector.currentNode()
    assert (roi.GetName(), roi.GetSize(), shown.ui.epochsBox.value) == ("drawn", (30, 30, 20), 44)
    assert (shown.ui.strategyBox.currentText, shown.ui.modelBox.currentText) == ("random", "prato_auto")
    boxes = (shown.ui.liveCheckBox, shown.ui.tokensCheckBox, shown.ui.lockMyocardiumCheckBox, shown.ui.lockLvCheckBox)
    assert [box.checked for box in boxes] == [True, True, True, False]
    shown.select(1)
    shown.click("open")
    assert np.array_equal(shown.logic.open.mask(), mask)  # as it was left, edits and all
    assert shown.logic.open.base == ("http://double", 0)


def test_closing_the_scene_leaves_a_panel_that_works(shown: Shown, caplog: pytest.LogCaptureFixture) -> None:
    shown.opened()
    roi = shown.roi()
    shown.ui.liveCheckBox.checked = True
    let_go(roi)
    slicer.mrmlScene.Clear(0)
    shown.rest(0.7)
    assert shown.inferences == []
    assert shown.enabled == {"test", "next", "refresh", "start", "open"}
    assert shown.ui.cardiacTable.item(1, 0).text() == ""
    shown.click("next")
    shown.click("run")
    assert shown.logic.open.mask().any()
    assert dialogs(caplog) == []


def test_another_module_in_front_is_left_alone(shown: Shown) -> None:
    shown.opened()
    roi = shown.roi()
    shown.ui.liveCheckBox.checked = True
    shown.widget.exit()
    let_go(roi)
    slicer.mrmlScene.Modified()
    shown.rest(0.6)
    assert shown.inferences == []
    shown.widget.enter()
    assert shown.ui.liveCheckBox.checked
    let_go(roi)
    shown.wait(lambda: len(shown.inferences) == 1)


def test_nothing_runs_after_the_end(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    shown.opened()
    roi = shown.roi()
    shown.ui.liveCheckBox.checked = True
    shown.click("run")
    let_go(roi)
    threads = {thread.name for thread in threading.enumerate()}
    assert "PratoLabel worker" in threads
    shown.widget.cleanup()
    asked = len(shown.server.asked)
    ticks: list[None] = []
    monkeypatch.setattr(shown.logic, "tick", lambda: ticks.append(None))
    let_go(roi)
    slicer.mrmlScene.Clear(0)
    shown.rest(0.7)
    assert ticks == []
    assert len(shown.server.asked) == asked
    assert "PratoLabel worker" not in {thread.name for thread in threading.enumerate()}


def test_volumes_of_another_servers_studies_are_forgotten(shown: Shown) -> None:
    shown.opened()
    shown.click("run")
    shown.wait(lambda: shown.ui.cardiacTable.item(1, 5).text())  # the ejection fraction: the other phase was measured too
    shown.click("test")
    assert set(shown.logic._phases.volumes) == {"p1_ED", "p1_ES"}, "the same server as before"
    shown.server.address = "http://other"
    shown.click("test")
    shown.logic.cardiac()  # of the study that is still open, from the first server
    assert not shown.logic._phases.volumes
