"""The panel clicked through the whole loop against the real server, with a picture of every step."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from prato.data.nifti import write_volume
from PratoLabelLib.reports.cardiac_report import patient_of
from PratoLabelLib.scene.geometry import ijk_box_to_roi
from PratoLabelLib.scene.segmentation import import_mask
from PratoLabelLib.sections import ERROR_STYLE
from tests.app.hearts import app_that_learns, heart
from tests.app.live import LiveServer, oblique, start_server, write_study
from tests.slicer_harness.core import new_scene
from tests.slicer_module.live_logic import scoring_model_version
from tests.slicer_module.panel_driver import PanelDriver


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Studies of three patients, the first of them labelled."""
    folder = tmp_path_factory.mktemp("panel")
    app, studies = app_that_learns(folder / "app"), folder / "studies"
    (studies / "labels" / "final").mkdir(parents=True)
    for n, name in enumerate(("a_ED", "a_ES", "b_ED", "c_ED")):
        write_study(studies / f"{name}.nii.gz", seed=n)
    write_volume(studies / "labels" / "final" / "a_ED.nii.gz", heart(), oblique((4.0, 4.0, 9.0)))
    with start_server(app, studies, folder / "server.log") as running:
        yield running


@pytest.fixture
def driver(server: LiveServer, tmp_path: Path) -> Iterator[PanelDriver]:
    new_scene()
    panel = PanelDriver(tmp_path)
    panel.ui.addressEdit.text = server.url
    yield panel
    panel.widget.cleanup()


def test_the_loop_is_clicked_through(driver: PanelDriver, server: LiveServer) -> None:
    driver.picture("before")
    driver.click("test", lambda: driver.logic.studies)
    assert driver.ui.serverLabel.text.startswith("PrATo Label")
    driver.picture("connected")
    driver.choose("strategy", "first")
    driver.click("next", lambda: driver.logic.current_study and driver.logic.current_study.reply)  # opened and segmented
    assert driver.ui.studyTree.currentItem().text(0) == driver.logic.current_study.study
    segment(driver)
    submit(driver, server)
    connect_again(driver)
    label_a_second_patient(driver)
    version = train(driver)
    driver.choose("model", "prato_unetr")
    driver.choose("strategy", "entropy")
    before = driver.logic.current_study.study
    driver.click("next", lambda: driver.logic.current_study and driver.logic.current_study.study != before)
    assert scoring_model_version(server) == version
    driver.click("run", lambda: driver.logic.current_study.reply and driver.logic.current_study.reply["model"] == "prato_unetr")
    assert driver.logic.current_study.reply["model_version"] == version
    assert version in driver.ui.detailLabel.text


def segment(driver: PanelDriver) -> None:
    """In the proposed box, then in one that was drawn; undone and brought back."""
    ui, study = driver.ui, driver.logic.current_study
    driver.choose("model", "prato_swin_unetr")
    driver.choose("prune", "50")
    driver.click("fit", lambda: study.reply)
    assert study.reply["box_source"] == "proposed"
    roi = driver.panel.parameters.roi
    assert roi is not None
    driver.picture("proposed")
    size = study.volume_node.GetImageData().GetDimensions()
    box = (8, 32, 6, 30, 1, size[2])
    ijk_box_to_roi(box, study.volume_node, roi)
    ui.tokensCheckBox.checked = True
    driver.click("run", lambda: study.reply["box_source"] == "roi")
    assert study.reply["box"] == list(box)
    assert "your box" in ui.resultLabel.text
    first = study.mask()
    driver.picture("segmented")
    driver.editor.undo()
    assert not np.array_equal(study.mask(), first)
    driver.editor.redo()
    assert np.array_equal(study.mask(), first)


def correct(driver: PanelDriver) -> None:
    """Tiny models know nothing: the labeller does."""
    study = driver.logic.current_study
    import_mask(study.segmentation_node, study.volume_node, study.labels, heart().T)


def submit(driver: PanelDriver, server: LiveServer) -> None:
    ui, study = driver.ui, driver.logic.current_study.study
    correct(driver)
    ui.annotatorEdit.text = "Grace Hopper"
    driver.click("submit", lambda: ui.submitLabel.text)
    assert "is stored" in driver.status
    assert (server.studies / "labels" / "final" / f"{study}.nii.gz").is_file()
    assert driver.rows()[study] == "Grace Hopper"
    driver.picture("submitted")


def connect_again(driver: PanelDriver) -> None:
    """The study stays open; and sooner or later the server has measured what a slice costs."""
    study = driver.logic.current_study
    driver.click("test", lambda: driver.logic.studies)
    while not driver.ui.costLabel.text:
        driver.rest(0.5)
        driver.click("test", lambda: driver.logic.studies)
    assert driver.logic.current_study is study
    assert driver.ui.modelBox.currentText == "prato_swin_unetr"
    assert "GFLOP" in driver.ui.costLabel.text


def label_a_second_patient(driver: PanelDriver) -> None:
    """A training needs two."""
    logic = driver.logic
    while len({patient_of(study.id) for study in logic.studies if study.labelled}) < 2:
        before = logic.current_study.study
        driver.click("next", lambda before=before: logic.current_study and logic.current_study.study != before)
        driver.click("fit", lambda: logic.current_study.reply)
        correct(driver)
        labelled = sum(study.labelled for study in logic.studies)
        driver.click("submit", lambda labelled=labelled: sum(study.labelled for study in logic.studies) > labelled)


def train(driver: PanelDriver) -> str:
    """Train to the end; returns the version of the model that answers from then on."""
    ui = driver.ui
    driver.choose("trainModel", "prato_unetr")
    ui.epochsBox.value = 20
    ui.startButton.click()
    # how far it is may never be seen: a training as small as this is over within two questions, or even before the first
    driver.wait(lambda: ui.stopButton.enabled or (driver.logic.training_state and driver.logic.training_state.result))
    assert ui.startButton.enabled != ui.stopButton.enabled
    driver.picture("training")
    driver.wait(lambda: ui.startButton.enabled)
    result = driver.logic.training_state.result
    assert "→" in ui.diceLabel.text
    driver.picture("trained")
    assert result["published"]
    assert result["model_version_after"] != result["model_version_before"]
    assert ui.versionLabel.text == f"{result['model_version_before']} → {result['model_version_after']}"
    return str(result["model_version_after"])


def test_the_panel_stays_alive_while_the_server_computes(driver: PanelDriver) -> None:
    driver.click("test", lambda: driver.logic.studies)
    driver.select(0)
    driver.click("open", lambda: driver.logic.current_study)
    waited: list[bool] = []
    tick = driver.logic.tick
    driver.logic.tick = lambda share: (waited.append(driver.logic.current_study.reply is None), tick(share))
    driver.click("run", lambda: driver.logic.current_study.reply)
    assert any(waited)  # Qt went on handling events between the request and its reply, however fast that was
    driver.picture("opened_again")


def test_a_wrong_address_is_said_where_it_is_seen(driver: PanelDriver) -> None:
    driver.ui.addressEdit.text = "127.0.0.1:9"
    driver.click("test", lambda: "No server runs" in driver.status)
    assert driver.ui.serverLabel.text == "Not connected."
    driver.picture("wrong_address")


def test_a_server_that_dies_takes_nothing_along(server: LiveServer, driver: PanelDriver) -> None:
    driver.click("test", lambda: driver.logic.studies)
    driver.select(0)
    driver.click("open", lambda: driver.logic.current_study)
    before = driver.logic.current_study.mask()
    driver.ui.addressEdit.text = server.url
    _kill(server)
    driver.click("run", lambda: driver.ui.statusLabel.styleSheet == ERROR_STYLE)
    assert "server" in driver.status
    assert np.array_equal(driver.logic.current_study.mask(), before)
    driver.picture("server_gone")


def _kill(server: LiveServer) -> None:
    """End the server's process group, as a crash would."""
    os.killpg(os.getpgid(server.process.pid), signal.SIGKILL)
