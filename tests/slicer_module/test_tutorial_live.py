"""docs/tutorial.md, clicked through with the shipped models: the sample heart of the extension, then a whole heartbeat.

``PRATO_LABEL_TUTORIAL=1`` (``make tutorial``) writes the pictures of the page, one of which is the panel's on other pages.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

import vtk
from matplotlib.figure import Figure
from scipy.ndimage import distance_transform_edt

from prato.data.cine import write_cine
from prato.data.nifti import read_volume
from prato.data.structures import STRUCTURES
from prato.phantom.beat import make_beat
from prato.phantom.frames import make_phantom
from PratoLabelLib.sample_data import PHASES, RESOURCES
from PratoLabelLib.scene.segments import COLOURS
from tests.app.live import APP, LiveServer, copy_app, start_server
from tests.slicer_harness.core import new_scene
from tests.slicer_module.click_tool import click_on, start
from tests.slicer_module.panel_driver import PanelDriver

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "images" / "tutorial"
FOR_THE_DOCS = bool(os.environ.get("PRATO_LABEL_TUTORIAL"))
#: Of the heartbeat: the page shows as many as a scanner takes, and each takes as long as all else that is clicked.
BEAT = 20 if FOR_THE_DOCS else 8


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """With the shipped models and no study."""
    app = copy_app(tmp_path / "app")
    shutil.copytree(APP / "model", app / "model", dirs_exist_ok=True)
    (tmp_path / "studies").mkdir()
    with start_server(app, tmp_path / "studies", tmp_path / "server.log") as running:
        yield running


def keep(picture: Path, name: str) -> None:
    if FOR_THE_DOCS:
        PICTURES.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, PICTURES / f"{name}.png")


def draw(study: Any, path: Path) -> None:
    """Three slices of the open study with the outlines of its segments."""
    image, mask = slicer.util.arrayFromVolume(study.volume_node), study.mask()
    figure = Figure(figsize=(7.2, 2.6), dpi=100, facecolor="black")
    rows, columns = np.argwhere(mask.any(axis=0)).mean(axis=0).astype(int)
    low, high = np.percentile(image, (1, 99.5))
    filled = np.flatnonzero(mask.any(axis=(1, 2)))
    for axis, k in zip(figure.subplots(1, 3), np.quantile(filled, (0.2, 0.5, 0.8)).astype(int)):
        axis.imshow(image[k], cmap="gray", vmin=low, vmax=high)
        for structure, value in STRUCTURES.items():
            if (mask[k] == value).any():
                axis.contour(mask[k] == value, levels=[0.5], colors=[COLOURS[structure]], linewidths=1.4)
        axis.set(xlim=(columns - 55, columns + 55), ylim=(rows + 55, rows - 55))
        axis.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1, wspace=0.02)
    figure.savefig(path, facecolor="black")


def most_wrong(mask: np.ndarray, truth: np.ndarray) -> tuple[tuple[int, int, int], str]:
    """The voxel (i, j, k) that lies deepest in what is wrong, and the structure that it is of."""
    depths = (
        (distance_transform_edt((mask[k] != value) & (truth[k] == value)), k, name)
        for k in range(len(mask))
        for name, value in STRUCTURES.items()
    )
    depth, k, name = max(depths, key=lambda each: float(each[0].max()))
    j, i = np.unravel_index(int(depth.argmax()), depth.shape)
    return (int(i), int(j), k), name


def in_slicers_order(label: np.ndarray, affine: np.ndarray, volume: Any) -> np.ndarray:
    """A label (K, J, I) as that volume counts its slices, which of a left-handed image is the other way round."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    along = [matrix.GetElement(row, 2) for row in range(3)]
    return label if along @ affine[:3, 2] > 0 else label[::-1]


def test_the_tutorial_is_clicked_through(server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **options: True)
    new_scene()
    driver = PanelDriver(tmp_path)
    try:
        ui, phantom = driver.ui, make_phantom(seed=0, number=1)
        ui.addressEdit.text, ui.annotatorEdit.text = server.url, "Grace Hopper"
        driver.click("test", lambda: driver.logic.info is not None)
        keep(driver.picture("connected"), "1_connected")
        for name in PHASES:
            volume = slicer.util.loadVolume(str(RESOURCES / "SampleData" / f"{name}.nii.gz"), {"name": name})
            ui.volumeSelector.setCurrentNode(volume)
            driver.click("send", lambda name=name: driver.logic.current_study and driver.logic.current_study.study == name)
            study = driver.logic.current_study
            driver.click("run", lambda study=study: study.reply)
            if name == PHASES[0]:
                keep(driver.picture("segmented"), "2_segmented")
                draw(study, tmp_path / "slices.png")
                keep(tmp_path / "slices.png", "3_slices")
            driver.click("submit", lambda: "is stored" in driver.status)
            stored = read_volume(server.studies / "labels" / "final" / f"{name}.nii.gz")
            label, truth = stored.array, phantom.labels[name[-2:]]
            assert label.shape == truth.shape
            if stored.affine[:3, 2] @ phantom.affine[:3, 2] < 0:  # Slicer counts the slices of a left-handed image the other way round
                truth = truth[:, :, ::-1]
            for value in STRUCTURES.values():
                assert 2 * ((label == value) & (truth == value)).sum() / ((label == value).sum() + (truth == value).sum()) > 0.7
        driver.wait(lambda: ui.cardiacTable.item(1, 5).text())  # the ejection fraction of the LV
        assert 15 < float(ui.cardiacTable.item(1, 5).text()) < 90
        keep(driver.picture("measured"), "4_measured")
    finally:
        driver.widget.cleanup()


def test_a_heartbeat_is_clicked_through(server: LiveServer, tmp_path: Path) -> None:
    """Segmented in all phases, and clicked on where it is most wrong."""
    beat = make_beat(seed=0, number=1, phases=BEAT)
    write_cine(server.studies / "phantom001_4d.nii.gz", beat.images, beat.affine, float(beat.times_ms[1]))
    new_scene()
    driver = PanelDriver(tmp_path)
    try:
        ui, logic = driver.ui, driver.logic
        ui.addressEdit.text, ui.annotatorEdit.text = server.url, "Grace Hopper"
        driver.click("test", lambda: logic.studies)
        driver.select(0)
        driver.click("open", lambda: logic.current_study)
        study = logic.current_study
        driver.click("allPhases", lambda: study.reply)
        ed, es = study.reply["ed"], study.reply["es"]
        assert study.reply["phases"] == list(range(BEAT)) and min(ed, BEAT - ed) <= 1 and abs(es - beat.es) <= 1
        driver.click("goEs", lambda: study.phase == es)
        before = study.mask()
        truth = in_slicers_order(beat.labels[..., es].T, beat.affine, study.volume_node)
        (i, j, k), structure = most_wrong(before, truth)
        start(driver, STRUCTURES[structure])
        click_on(driver, (i, j, k))
        after = study.mask()
        keep(driver.picture("clicked"), "../slicer_panel")
        assert (after != truth).sum() < (before != truth).sum() and after[k, j, i] == STRUCTURES[structure]
        assert np.array_equal(np.delete(after, k, 0), np.delete(before, k, 0))
    finally:
        driver.widget.cleanup()
