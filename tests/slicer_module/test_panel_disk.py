"""What the panel does where the computer's disk is not as it was left."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.scene import cine_files
from tests.slicer_module.unsent import slow


def test_temporary_files_that_the_system_has_tidied_away_are_no_hindrance(driver: Any) -> None:
    driver.open_study()
    driver.ui.annotatorEdit.text = "Ada"
    folder: Path = driver.logic._temporary.path
    for button, done in (("fit", "correct the result"), ("submit", "The label of p1_ES is stored"), ("next", "place a box")):
        shutil.rmtree(folder)
        driver.click(button)
        assert done in driver.status
        assert list(folder.iterdir()) == []
    shutil.rmtree(folder)
    driver.ui.versionTree.setCurrentItem(driver.ui.versionTree.topLevelItem(0))
    driver.click("showVersion")
    assert not driver.status.startswith("Something unexpected")


def test_what_nobody_has_foreseen_is_said_where_the_button_was_pressed(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.open_study()

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(driver.logic.current_study, "prepare_submission", fail)
    driver.click("submit")
    assert driver.status.startswith("Something unexpected happened (OSError: [Errno 28] No space left on device)")


@pytest.mark.slow
@pytest.mark.parametrize(("request_name", "button"), [("upload_image", "send"), ("current_version", "open")])
def test_what_is_cancelled_leaves_no_file_behind(driver: Any, questions: Any, request_name: str, button: str) -> None:
    driver.open_study()
    driver.ui.volumeSelector.setCurrentNode(driver.logic.current_study.volume_node)
    driver.select(0)
    with slow(driver, request_name, button):
        driver.ui.cancelButton.click()
        driver.rest(0.1)
    assert list(driver.logic._temporary.path.iterdir()) == []


@pytest.mark.slow
def test_propagate_that_is_pressed_twice_is_done(cine_driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = cine_driver
    driver.open()
    driver.edit()
    driver.rest(0.4)
    join = cine_files.join_frames

    def join_slowly(*arguments: Any) -> None:
        time.sleep(0.5)
        join(*arguments)

    monkeypatch.setattr(cine_files, "join_frames", join_slowly)
    driver.ui.propagateButton.click()
    driver.rest(0.1)
    driver.click("propagate")
    assert driver.ui.keptLabel.text.startswith("Phases 1 to 3 follow phase 0"), driver.status
    assert list(driver.logic._temporary.path.iterdir()) == []
