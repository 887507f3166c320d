"""Buttons that are pressed twice, as by a double click: what is on its way is not sent again, and what was changed since is."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")


def submissions(driver: Any) -> list[Any]:
    """What was sent as a label."""
    driver.rest(0.1)
    driver.settle()
    return [request for request in driver.server.requests if request[0] == "submit"]


def test_a_label_that_is_being_sent_is_not_sent_again(driver: Any) -> None:
    driver.open_study()
    driver.edit()
    driver.ui.submitButton.click()
    driver.ui.submitNextButton.click()  # which asks for the next study as well
    assert len(submissions(driver)) == 1
    assert driver.server.latest["p1_ES"] == 1
    assert any(request[0] == "next" for request in driver.server.requests)
    assert list(driver.logic._temporary.path.iterdir()) == []


def test_what_was_drawn_while_it_is_being_sent_is_sent_as_well_and_so_is_what_was_there_before(driver: Any) -> None:
    driver.open_study()
    first = driver.edit()
    driver.ui.submitButton.click()
    driver.edit(2)
    driver.ui.submitButton.click()
    driver.edit(3)
    assert (driver.logic.current_study.mask() == first).all()
    driver.ui.submitButton.click()
    assert len(submissions(driver)) == 3


def test_somebody_else_may_send_it_too_and_it_may_be_sent_again_afterwards(driver: Any) -> None:
    driver.open_study()
    driver.edit()
    driver.ui.annotatorEdit.text = "Ada"
    driver.ui.submitButton.click()
    driver.ui.annotatorEdit.text = "Bob"
    driver.ui.submitButton.click()
    assert [request[2]["annotator"] for request in submissions(driver)] == ["Ada", "Bob"]
    driver.ui.submitButton.click()
    assert len(submissions(driver)) == 3


@pytest.mark.parametrize(
    ("button", "kind", "rounds"),
    [("approve", "approve", 2), ("restoreVersion", "restore", 2), ("skip", "review", 2), ("sendBack", "send back", 1)],
)
def test_what_changes_the_server_is_done_once(driver: Any, button: str, kind: str, rounds: int) -> None:
    driver.click("test")
    driver.ui.annotatorEdit.text = "Bob"
    driver.select(0)
    driver.click("open")
    for times in range(1, rounds + 1):  # it can be done again once the answer is there
        driver.ui.versionTree.setCurrentItem(driver.ui.versionTree.topLevelItem(1))
        driver.ui.sendBackEdit.text = "the apex"
        driver.ui.reasonBox.setEditText("not the heart")
        pressed = getattr(driver.ui, f"{button}Button")
        pressed.click()
        pressed.click()
        driver.rest(0.1)
        driver.settle()
        assert len([request for request in driver.server.requests if request[0] == kind]) == times


def test_a_key_that_is_held_is_pressed_once(driver: Any) -> None:
    """Ctrl+Return would submit the next study, which nobody has looked at, as soon as it is open and segmented."""
    driver.open_study()
    driver.ui.clickButton.click()
    keys = [*driver.panel._shortcuts.installed, *driver.panel.clicks.shortcuts.installed]
    assert "Ctrl+Return" in {key.key.toString() for key in keys}
    assert len(keys) > 10
    assert not any(key.autoRepeat for key in keys)
