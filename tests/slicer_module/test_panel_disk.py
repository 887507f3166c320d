"""What the panel does where the computer's disk is not as it was left."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")


def test_temporary_files_that_the_system_has_tidied_away_are_no_hindrance(driver: Any) -> None:
    driver.open_study()
    driver.ui.annotatorEdit.text = "Ada"
    folder: Path = driver.logic._folder
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
