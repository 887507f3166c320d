"""The panel clicked through the whole loop against the real server, with a picture of every step.

``PRATO_LABEL_PICTURE=out/acdc`` clicks through it with the shipped models on copies of the first studies of that folder, and a picture
becomes docs/images/slicer_panel.png.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from driver import Driver
from hearts import blank_model, heart
from live import APP, LiveServer, copy_app, oblique, start_server, tiny_locator, tiny_model, write_study
from logic_loop import judge

from prato.data.nifti import write_volume
from PratoLabelLib.geometry import ijk_box_to_roi
from PratoLabelLib.report import patient_of
from PratoLabelLib.segmentation import show_mask
from PratoLabelLib.styles import ERROR_STYLE
from tests.slicer_harness.core import new_scene

ROOT = Path(__file__).resolve().parents[2]
FOR_THE_DOCS = os.environ.get("PRATO_LABEL_PICTURE", "")
PICTURE = ROOT / "docs" / "images" / "slicer_panel.png"
PATIENCE_S = 1500 if FOR_THE_DOCS else 400


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Studies of three patients, the first of them labelled."""
    folder = tmp_path_factory.mktemp("panel")
    app, studies = copy_app(folder / "app"), folder / "studies"
    if FOR_THE_DOCS:
        shutil.copytree(APP / "model", app / "model")
        (studies / "labels" / "final").mkdir(parents=True)
        for n, path in enumerate(sorted((ROOT / FOR_THE_DOCS).glob("*.nii.gz"))[:6]):
            shutil.copy(path, studies)
            if n % 2 == 0 and n < 4:  # one phase each of two patients
                shutil.copy(path.parent / "labels" / "final" / path.name, studies / "labels" / "final")
    else:
        (app / "model").mkdir()
        blank_model(app / "model" / "prato_unetr.safetensors")
        tiny_model(app / "model" / "prato_swin_unetr.safetensors", "swin_unetr")
        tiny_locator(app / "model" / "prato_locator.safetensors")
        (studies / "labels" / "final").mkdir(parents=True)
        for n, name in enumerate(("a_ED", "a_ES", "b_ED", "c_ED")):
            write_study(studies / f"{name}.nii.gz", seed=n)
        write_volume(studies / "labels" / "final" / "a_ED.nii.gz", heart(), oblique((4.0, 4.0, 9.0)))
    with start_server(app, studies, folder / "server.log") as running:
        yield running


@pytest.fixture
def clicked(server: LiveServer, tmp_path: Path) -> Iterator[Driver]:
    new_scene()
    panel = Driver(tmp_path)
    panel.patience = PATIENCE_S
    panel.ui.addressEdit.text = server.url
    yield panel
    panel.widget.cleanup()


def test_the_loop_is_clicked_through(clicked: Driver, server: LiveServer) -> None:
    clicked.picture("before")
    clicked.click("test", lambda: clicked.logic.studies)
    assert clicked.ui.serverLabel.text.startswith("PrATo Label")
    clicked.picture("connected")
    clicked.choose("strategy", "first")
    clicked.click("next", lambda: clicked.logic.open)
    assert clicked.ui.studyTree.currentItem().text(0) == clicked.logic.open.study
    segment(clicked)
    submit(clicked, server)
    connect_again(clicked)
    label_a_second_patient(clicked)
    version = train(clicked)
    clicked.choose("model", "prato_unetr")
    clicked.choose("strategy", "entropy")
    before = clicked.logic.open.study
    clicked.click("next", lambda: clicked.logic.open and clicked.logic.open.study != before)
    assert judge(server) == version
    clicked.click("run", lambda: clicked.logic.open.reply and clicked.logic.open.reply["model"] == "prato_unetr")
    assert clicked.logic.open.reply["model_version"] == version
    assert version in clicked.ui.resultLabel.text


def segment(clicked: Driver) -> None:
    """In the proposed box, then in one that was drawn; undone and brought back."""
    ui, opened = clicked.ui, clicked.logic.open
    clicked.choose("model", "prato_swin_unetr")
    clicked.choose("prune", "50")
    clicked.click("fit", lambda: opened.reply)
    assert opened.reply["box_source"] == "proposed"
    roi = clicked.panel.parameters.roi
    assert roi is not None
    clicked.picture("proposed")
    size = opened.volume_node.GetImageData().GetDimensions()
    box = tuple(opened.reply["box"]) if FOR_THE_DOCS else (8, 32, 6, 30, 1, size[2])
    ijk_box_to_roi(box, opened.volume_node, roi)
    ui.tokensCheckBox.checked = True
    clicked.click("run", lambda: opened.reply["box_source"] == "roi")
    assert opened.reply["box"] == list(box)
    assert "your box" in ui.resultLabel.text
    first = opened.mask()
    clicked.picture("segmented")
    clicked.click("undo", lambda: ui.redoButton.enabled)
    clicked.click("redo", lambda: not ui.redoButton.enabled)
    assert np.array_equal(opened.mask(), first)


def correct(clicked: Driver) -> None:
    """Tiny models know nothing: the labeller does."""
    opened = clicked.logic.open
    if not FOR_THE_DOCS:
        show_mask(opened.segmentation_node, opened.volume_node, opened.labels, heart().T)


def submit(clicked: Driver, server: LiveServer) -> None:
    ui, study = clicked.ui, clicked.logic.open.study
    correct(clicked)
    ui.annotatorEdit.text = "Grace Hopper"
    clicked.click("submit", lambda: ui.submitLabel.text)
    assert "is stored" in clicked.status
    assert (server.studies / "labels" / "final" / f"{study}.nii.gz").is_file()
    assert clicked.rows()[study] == "Grace Hopper"
    clicked.picture("submitted")


def connect_again(clicked: Driver) -> None:
    """The study stays open; and sooner or later the server has measured what a slice costs."""
    opened, deadline = clicked.logic.open, time.monotonic() + PATIENCE_S
    while not clicked.ui.costLabel.text and time.monotonic() < deadline:
        clicked.click("test", lambda: clicked.logic.studies)
        clicked.rest(0.5)
    assert clicked.logic.open is opened
    assert clicked.ui.modelBox.currentText == "prato_swin_unetr"
    assert "GFLOP" in clicked.ui.costLabel.text


def label_a_second_patient(clicked: Driver) -> None:
    """A training needs two."""
    logic = clicked.logic
    while len({patient_of(study.id) for study in logic.studies if study.labelled}) < 2:
        before = logic.open.study
        clicked.click("next", lambda before=before: logic.open and logic.open.study != before)
        clicked.click("fit", lambda: logic.open.reply)
        correct(clicked)
        labelled = sum(study.labelled for study in logic.studies)
        clicked.click("submit", lambda labelled=labelled: sum(study.labelled for study in logic.studies) > labelled)


def train(clicked: Driver) -> str:
    """Train to the end; returns the version of the model that answers from then on."""
    ui = clicked.ui
    clicked.choose("trainModel", "prato_unetr")
    ui.epochsBox.value = 4 if FOR_THE_DOCS else 20
    ui.startButton.click()
    # how far it is may never be seen: a training as small as this is over within two questions, or even before the first
    clicked.wait(lambda: ui.stopButton.enabled or (clicked.logic.training and clicked.logic.training.result))
    assert ui.startButton.enabled != ui.stopButton.enabled
    clicked.picture("training")
    clicked.wait(lambda: ui.startButton.enabled)
    result = clicked.logic.training.result
    assert "→" in ui.diceLabel.text
    picture = clicked.picture("trained")
    if FOR_THE_DOCS:
        shutil.copy(picture, PICTURE)
    else:
        assert result["published"]
        assert result["model_version_after"] != result["model_version_before"]
        assert ui.versionLabel.text == f"{result['model_version_before']} → {result['model_version_after']}"
    return result["model_version_after" if result["published"] else "model_version_before"]


def test_the_panel_stays_alive_while_the_server_computes(clicked: Driver) -> None:
    clicked.click("test", lambda: clicked.logic.studies)
    clicked.select(0)
    clicked.click("open", lambda: clicked.logic.open)
    waited: list[bool] = []
    tick = clicked.logic.tick
    clicked.logic.tick = lambda: (waited.append(clicked.logic.open.reply is None), tick())
    clicked.click("run", lambda: clicked.logic.open.reply)
    assert any(waited)  # Qt went on handling events between the request and its reply, however fast that was
    clicked.picture("opened_again")


def test_a_wrong_address_is_said_where_it_is_seen(clicked: Driver) -> None:
    clicked.ui.addressEdit.text = "127.0.0.1:9"
    clicked.click("test", lambda: "No server runs" in clicked.status)
    assert clicked.ui.serverLabel.text == "Not connected."
    clicked.picture("wrong_address")


def test_a_server_that_dies_takes_nothing_along(server: LiveServer, clicked: Driver) -> None:
    clicked.click("test", lambda: clicked.logic.studies)
    clicked.select(0)
    clicked.click("open", lambda: clicked.logic.open)
    before = clicked.logic.open.mask()
    clicked.ui.addressEdit.text = server.url
    _kill(server)
    clicked.click("run", lambda: clicked.ui.statusLabel.styleSheet == ERROR_STYLE)
    assert "server" in clicked.status
    assert np.array_equal(clicked.logic.open.mask(), before)
    clicked.picture("server_gone")


def _kill(server: LiveServer) -> None:
    """End the server's process group, as a crash would."""
    os.killpg(os.getpgid(server.process.pid), signal.SIGKILL)
