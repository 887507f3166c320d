"""What outlives a panel, a scene and a session of Slicer, and what does not."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.scene.volumes import show_token_map
from tests.slicer_module import fake_client
from tests.slicer_module.click_tool import click_on, markers, segmented, start
from tests.slicer_module.panel_driver import FakeServerDriver, dialogs, end_interaction
from tests.slicer_module.unsent import drafts


def load(bundle: str, folder: Path) -> None:
    """Load a scene in place of the present one; the desktop unpacks it in a cache folder, which is not here."""
    zipfile.ZipFile(bundle).extractall(folder / "unpacked")
    [unpacked] = (folder / "unpacked").rglob("*.mrml")
    slicer.mrmlScene.SetURL(str(unpacked))
    assert slicer.mrmlScene.Connect()


@pytest.mark.slow
def test_settings_survive_a_restart_and_the_token_does_not(driver: FakeServerDriver, tmp_path: Path) -> None:
    driver.ui.addressEdit.text, driver.ui.tokenEdit.text, driver.ui.annotatorEdit.text = "heart.example:8000", "s3cret", "Grace"
    driver.open_study()
    driver.click("run")
    driver.click("submit")
    import qt

    qt.QSettings().sync()
    slicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    assert slicer.mrmlScene.Commit()
    again = FakeServerDriver(tmp_path)
    assert (again.ui.addressEdit.text, again.ui.tokenEdit.text, again.ui.annotatorEdit.text) == ("heart.example:8000", "", "Grace")
    again.widget.cleanup()
    written = [path for path in tmp_path.rglob("*") if path.suffix in (".mrml", ".ini")]
    assert len(written) == 2
    assert not any("s3cret" in path.read_text() for path in written)


@pytest.mark.slow
def test_a_saved_scene_reopens_as_it_was(driver: FakeServerDriver, tmp_path: Path) -> None:
    driver.open_study()
    driver.roi("drawn")
    driver.choose("strategy", "random")
    driver.choose("model", "prato_auto")
    driver.ui.epochsBox.value = 44
    driver.click("run")
    mask = driver.logic.current_study.mask()
    driver.ui.liveCheckBox.checked = False
    for box in (driver.ui.tokensCheckBox, driver.ui.lockMyocardiumCheckBox):
        box.checked = True
    scene, bundle = slicer.mrmlScene, str(tmp_path / "scene.mrb")
    assert scene.WriteToMRB(bundle)
    scene.Clear(0)
    assert driver.logic.current_study is None
    assert driver.panel.parameters.max_epochs == 10
    assert (driver.ui.epochsBox.value, driver.ui.liveCheckBox.checked) == (10, True)
    assert "Open a study" in driver.status
    load(bundle, tmp_path)
    driver.rest(0.1)
    roi = driver.ui.roiSelector.currentNode()
    assert (roi.GetName(), roi.GetSize(), driver.ui.epochsBox.value) == ("drawn", (30, 30, 20), 44)
    assert (driver.ui.strategyBox.currentText, driver.ui.modelBox.currentText) == ("random", "prato_auto")
    boxes = (driver.ui.liveCheckBox, driver.ui.tokensCheckBox, driver.ui.lockMyocardiumCheckBox, driver.ui.lockLvCheckBox)
    assert [box.checked for box in boxes] == [False, True, True, False]
    driver.select(1)
    driver.click("open")
    assert np.array_equal(driver.logic.current_study.mask(), mask)  # as it was left, edits and all
    assert driver.logic.current_study.base == ("http://fake", 0)


@pytest.mark.slow
def test_a_scene_whose_image_is_not_found_has_its_segments(driver: FakeServerDriver, tmp_path: Path) -> None:
    driver.open_study()
    edited = driver.edit()
    scene, bundle = slicer.mrmlScene, tmp_path / "scene.mrb"
    assert scene.WriteToMRB(str(bundle))
    scene.Clear(0)
    zipfile.ZipFile(bundle).extractall(tmp_path / "unpacked")
    [image] = (tmp_path / "unpacked").rglob("p1_ES.nrrd")
    image.rename(tmp_path / "moved.nrrd")
    [unpacked] = (tmp_path / "unpacked").rglob("*.mrml")
    scene.SetURL(str(unpacked))
    assert not scene.Connect()  # and yet it has the nodes, that of the image without an image
    driver.select(1)
    driver.click("open")
    study = driver.logic.current_study
    assert study.volume_node.GetImageData() is not None and study.has_unsent_edits
    assert np.array_equal(study.mask(), edited)
    driver.click("submit")
    driver.select(0)
    driver.click("open")
    assert [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode")] == ["p1_ED"]


@pytest.mark.slow
def test_closing_the_scene_leaves_a_panel_that_works(driver: FakeServerDriver, caplog: pytest.LogCaptureFixture) -> None:
    driver.open_study()
    roi = driver.roi()
    driver.ui.liveCheckBox.checked = True
    end_interaction(roi)
    slicer.mrmlScene.Clear(0)
    driver.rest(0.7)
    assert driver.inferences == []
    assert driver.enabled == {"test", "next", "refresh", "start", "open"}
    assert driver.ui.cardiacTable.item(1, 0).text() == ""
    driver.click("next")
    driver.click("run")
    assert driver.logic.current_study.mask().any()
    assert dialogs(caplog) == []


@pytest.mark.slow
def test_a_scene_view_of_before_the_module_was_opened_leaves_a_panel_that_works(driver: FakeServerDriver) -> None:
    """Slicer removes what a scene view does not have; what the panel was set to would be in no scene, and the box in none of its fields."""
    driver.frame.exit()
    for kind in ("vtkMRMLScriptedModuleNode", "vtkMRMLSegmentEditorNode"):
        for node in slicer.util.getNodesByClass(kind):
            slicer.mrmlScene.RemoveNode(node)
    view = slicer.vtkMRMLSceneViewNode()
    slicer.mrmlScene.AddNode(view)
    view.StoreScene()
    driver.frame.enter()
    driver.open_study()
    assert view.RestoreScene(True)
    driver.rest(0.2)
    driver.roi()
    driver.click("run")
    assert "roi" in driver.inferences[-1][3]
    assert slicer.mrmlScene.GetSingletonNode("PratoLabelSegmentEditor", "vtkMRMLSegmentEditorNode") is not None


@pytest.mark.slow
def test_another_module_in_front_is_left_alone(driver: FakeServerDriver) -> None:
    driver.open_study()
    roi = driver.roi()
    driver.ui.liveCheckBox.checked = True
    driver.widget.exit()
    end_interaction(roi)
    slicer.mrmlScene.Modified()
    driver.rest(0.6)
    assert driver.inferences == []
    driver.widget.enter()
    assert driver.ui.liveCheckBox.checked
    end_interaction(roi)
    driver.wait(lambda: len(driver.inferences) == 1)


@pytest.mark.slow
def test_nothing_runs_after_the_end(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.open_study()
    roi = driver.roi()
    driver.ui.liveCheckBox.checked = True
    driver.click("run")
    end_interaction(roi)
    worker = driver.logic._worker._thread
    assert worker.is_alive()
    driver.widget.cleanup()
    requests = len(driver.server.requests)
    ticks: list[None] = []
    monkeypatch.setattr(driver.logic, "tick", lambda: ticks.append(None))
    end_interaction(roi)
    slicer.mrmlScene.Clear(0)
    driver.rest(0.7)
    assert ticks == []
    assert len(driver.server.requests) == requests
    assert not worker.is_alive()


@pytest.mark.slow
def test_volumes_of_another_servers_studies_are_forgotten(driver: FakeServerDriver) -> None:
    driver.open_study()
    driver.click("run")
    driver.wait(lambda: driver.ui.cardiacTable.item(1, 5).text())  # the ejection fraction: the other phase was measured too
    driver.click("test")
    assert set(driver.logic._phases.by_study) == {"p1_ED", "p1_ES"}, "the same server as before"
    driver.server.address = "http://other"
    driver.click("test")
    driver.logic.cardiac_report()  # of the study that is still open, from the first server
    assert not driver.logic._phases.by_study


@pytest.mark.slow
def test_the_same_name_on_another_server_is_another_study(driver: FakeServerDriver) -> None:
    driver.open_study()
    driver.click("fit")
    first, box = driver.logic.current_study, driver.panel.parameters.roi
    driver.server.address = "http://other"
    driver.click("test")
    driver.click("run")
    assert driver.status == "p1_ES is a study of http://fake: connect to that server, or open one of this server's."
    driver.logic.submit("Ada")
    assert driver.status.startswith("p1_ES was opened from http://fake, and would be sent to http://other.")
    driver.select(1)
    driver.click("open")
    study = driver.logic.current_study
    assert (study.study, study.server) == ("p1_ES", "http://other")
    assert study.volume_node is not first.volume_node
    assert study.segmentation_node is not first.segmentation_node
    assert not study.mask().any()
    assert driver.panel.parameters.roi is None
    driver.server.address = "http://fake"
    driver.click("test")
    driver.select(1)
    driver.click("open")
    assert driver.logic.current_study.volume_node is first.volume_node
    assert driver.panel.parameters.roi is box


@pytest.mark.slow
def test_the_scene_does_not_fill_with_studies_and_token_maps(driver: FakeServerDriver) -> None:
    driver.open_study()
    driver.ui.tokensCheckBox.checked = True
    own = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "own")
    slicer.util.updateVolumeFromArray(own, np.zeros((5, 22, 24), np.int16))
    own.CreateDefaultDisplayNodes()
    counts = []
    for n in (0, 1, 0, 1, 0, 1):
        driver.select(n)
        driver.click("open")
        driver.roi(f"box {n}")
        driver.click("run")
        driver.click("submit")
        counts.append((slicer.mrmlScene.GetNumberOfNodes(), len(list(driver.logic._temporary.path.iterdir()))))
    assert len(set(counts)) == 1, counts
    assert counts[0][1] == 0, "files that nobody needs are still there"
    assert {node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")} == {"own", "p1_ES"}
    driver.click("run")  # which was not submitted
    kept = driver.logic.current_study
    driver.select(0)
    driver.click("open")
    assert kept.is_in_scene
    folder = driver.logic._temporary.path
    assert folder.parent == Path(slicer.app.temporaryPath)
    driver.widget.cleanup()
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize("deleted", [("volume",), ("segmentation",), ("volume", "segmentation")])
def test_a_study_whose_nodes_were_deleted_opens_again(driver: FakeServerDriver, deleted: tuple[str, ...]) -> None:
    driver.open_study()
    name, first = driver.logic.current_study.study, driver.logic.current_study
    for kind in deleted:
        slicer.mrmlScene.RemoveNode(getattr(first, f"{kind}_node"))
    assert driver.logic.current_study is None
    driver.click("open")
    study = driver.logic.current_study
    assert study is not None
    assert study is not first
    assert study.study == name
    driver.click("run")
    assert study.mask().any()


@pytest.mark.slow
def test_a_study_whose_image_was_replaced_on_the_server_opens_anew(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.open_study()
    monkeypatch.setattr(fake_client, "SHAPE", (26, 22, 5))
    driver.click("run")
    told = "The mask has 26x22x5 voxels and p1_ES has 24x22x5: delete its image in the module Data, and open the study again."
    assert driver.status == told
    slicer.mrmlScene.RemoveNode(driver.logic.current_study.volume_node)
    driver.click("open")
    driver.click("run")
    assert np.array_equal(driver.logic.current_study.mask().T[1:23, 2:20], fake_client.heart()[1:23, 2:20])


@pytest.mark.slow
@pytest.mark.parametrize("deleted", ["volume_node", "segmentation_node"])
def test_the_panel_says_at_once_that_the_study_is_gone(driver: FakeServerDriver, deleted: str) -> None:
    driver.open_study()
    assert {"run", "submit", "place"} <= driver.enabled
    slicer.mrmlScene.RemoveNode(getattr(driver.logic.current_study, deleted))
    driver.rest(0.1)
    assert "Open a study" in driver.status and driver.editor.segmentationNode() is None
    assert not {"run", "submit", "place"} & driver.enabled


@pytest.mark.slow
def test_nothing_of_clicks_and_token_maps_is_saved_with_the_scene(driver: FakeServerDriver, tmp_path: Path) -> None:
    segmented(driver)
    volume = driver.logic.current_study.volume_node
    show_token_map(np.zeros(slicer.util.arrayFromVolume(volume).shape, np.float32), volume, None)
    start(driver, 1)
    click_on(driver, (5, 4, 2))
    assert markers() and len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeDisplayNode")) == 2
    slicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    assert slicer.mrmlScene.Commit()
    saved = (tmp_path / "scene.mrml").read_text()
    assert "<VolumeDisplay\n" in saved and saved.count("<VolumeDisplay\n") == 1 and "<MarkupsFiducialDisplay\n" not in saved


@pytest.mark.slow
def test_a_scene_that_is_saved_right_after_a_stroke_knows_of_it(driver: FakeServerDriver, tmp_path: Path) -> None:
    driver.open_study()
    edited, bundle = driver.edit(), str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(bundle)
    slicer.mrmlScene.Clear(0)
    load(bundle, tmp_path)
    driver.rest(0.1)
    driver.select(1)
    driver.click("open")
    study = driver.logic.current_study
    assert np.array_equal(study.mask(), edited) and study.has_unsent_edits and drafts(driver)
