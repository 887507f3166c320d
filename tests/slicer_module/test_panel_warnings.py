"""What is said of a mask goes with that mask: where a labeller has changed it, the panel measures it anew instead."""

from __future__ import annotations

from pathlib import Path

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.scene.study_record import without_mask_warnings
from tests.slicer_module.cine_driver import run_cine_panel
from tests.slicer_module.cines import PHASES
from tests.slicer_module.panel_driver import FakeServerDriver

OPEN = "The myocardium does not enclose the LV cavity: check the mask, starting at the base."


def test_what_is_said_of_the_masks_of_some_phases_is_dropped() -> None:
    about = {"lv_cavity_is_open": [0, 2], "mask_is_empty": [2], "unit_ignored": [0, 1, 2], "Phase 2: swapped.": [2]}
    reply = {"phases": [0, 1, 2], "warnings": [*about, "structure_is_missing"], "warned_phases": about}
    left = without_mask_warnings(reply, [2])
    assert left["warnings"] == ["lv_cavity_is_open", "unit_ignored", "structure_is_missing"]
    assert left["warned_phases"] == {**about, "lv_cavity_is_open": [0], "mask_is_empty": [], "Phase 2: swapped.": []} | {
        "structure_is_missing": [0, 1]
    }
    of_one = {"warnings": ["mask_is_empty", "box_misses_target", "parameter_ignored: tau"]}
    assert without_mask_warnings(of_one, [0])["warnings"] == of_one["warnings"][1:]


@pytest.mark.slow
def test_warnings_of_a_mask_leave_once_it_is_edited(driver: FakeServerDriver) -> None:
    driver.open_study()
    driver.server.warnings = ["box_cut_by_target", "lv_cavity_is_open", "structure_is_missing"]
    driver.click("run")
    cut, lv, _ = driver.ui.warningLabel.text.splitlines()
    assert lv == OPEN
    driver.logic.current_study.segmentation_node.SetName("heart of mine")
    driver.rest(0.4)
    assert OPEN in driver.ui.warningLabel.text
    driver.edit()
    driver.wait(lambda: driver.ui.warningLabel.text == cut)
    driver.click("submit")
    assert driver.ui.warningLabel.text == cut
    driver.click("run")
    assert OPEN in driver.ui.warningLabel.text


@pytest.mark.slow
def test_warnings_of_a_cine_leave_phase_by_phase(tmp_path: Path) -> None:
    with run_cine_panel(tmp_path) as driver:
        study = driver.open()
        driver.server.warned = {"lv_cavity_is_open": [*range(PHASES)]}
        driver.server.warnings = [*driver.server.warned]
        driver.click("allPhases")
        for phase in (*range(PHASES), 1):  # looking changes nothing
            driver.show(phase)
        driver.rest(0.4)
        assert driver.ui.warningLabel.text == OPEN
        driver.edit()
        driver.wait(lambda: driver.ui.warningLabel.text == f"Phases 0, 2, 3: {OPEN}")
        was = study.mask_of(2)
        study.edit_phase(2, was * (was != 1), was)  # as a click whose reply comes after another phase was shown
        driver.wait(lambda: driver.ui.warningLabel.text == f"Phases 0, 3: {OPEN}")
