"""What was painted is certain, and stays: when the phase changes, when a study is opened again, and when edits are recovered."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.scene.drawing import Drawing
from PratoLabelLib.scene.segmentation import import_mask
from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.click_tool import click_on, mask_of, paint, points, press, segmented, sent, start
from tests.slicer_module.panel_driver import FakeServerDriver

pytestmark = pytest.mark.slow


def test_paint_stays_certain_when_the_phase_changes(cine_driver: CineDriver) -> None:
    driver = cine_driver
    driver.open()
    driver.click("allPhases")
    driver.show(1)
    start(driver, 1)
    click_on(driver, (5, 4, 2))
    paint(driver, (5, 4, 2), 2)  # over the clicked voxel
    driver.show(2)
    driver.show(1)
    assert points() == 1 and driver.logic.can_undo_click
    press(driver, "3")
    click_on(driver, (6, 4, 2))
    assert driver.masks()[5, 4, 2, 1] == 2 and "certain" in sent(driver)[-1]


def test_opening_the_study_that_is_open_changes_nothing(driver: FakeServerDriver) -> None:
    segmented(driver)
    start(driver, 1)
    click_on(driver, (3, 3, 0))
    press(driver, "Esc")
    paint(driver, (5, 4, 2), 2)
    study = driver.logic.current_study
    driver.click("open")
    assert driver.logic.current_study is study and len(driver.logic.clicks_sent()) == 1 and points() == 1 and study.provenance
    start(driver, 3)
    click_on(driver, (6, 4, 2))
    assert study.mask()[2, 4, 5] == 2 and "certain" in sent(driver)[-1]


def test_a_study_that_is_opened_again_has_its_clicks_and_its_paint(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", lambda *_: True)
    segmented(driver)
    start(driver, 1)
    click_on(driver, (3, 3, 0))
    press(driver, "Esc")
    paint(driver, (5, 4, 2), 2)
    left = mask_of(driver)
    driver.select(0)
    driver.click("open")
    assert points() == 0 and driver.logic.clicks_sent() == []
    driver.select(1)
    driver.click("open")
    assert points() == 1 and len(driver.logic.clicks_sent()) == 1 and np.array_equal(mask_of(driver), left)
    start(driver, 3)
    click_on(driver, (6, 4, 2))
    assert mask_of(driver)[5, 4, 2] == 2 and "certain" in sent(driver)[-1]
    slicer.mrmlScene.Clear(0)
    driver.open_study()
    assert points() == 0 and driver.logic.clicks_sent() == []


def test_what_is_recovered_is_certain(driver: FakeServerDriver) -> None:
    driver.open_study()
    study, before = driver.logic.current_study, mask_of(driver)
    drawn = driver.edit(2)
    import_mask(study.segmentation_node, study.volume_node, study.labels, before.T)
    study.recover({0: Drawing(drawn)})
    painted = mask_of(driver)
    start(driver, 3)
    click_on(driver, (6, 3, 1))
    assert (painted == 2).any() and (mask_of(driver)[painted == 2] == 2).all() and "certain" in sent(driver)[-1]


def test_what_is_recovered_in_a_phase_that_is_not_shown_is_certain(cine_driver: CineDriver) -> None:
    driver = cine_driver
    study = driver.open()
    driver.click("allPhases")
    drawn = study.mask_of(2)
    drawn[1, 2:5, 2:5] = 2
    study.recover({2: Drawing(drawn)})
    start(driver, 3)
    click_on(driver, (6, 3, 1))
    assert study.phase == 2 and (driver.masks()[2:5, 2:5, 1, 2] == 2).all() and "certain" in sent(driver)[-1]
