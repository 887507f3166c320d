"""A study that stays open while another server is connected, which may have another patient's under its name: that one is left alone."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.fake_client import FakeClient
from tests.slicer_module.panel_driver import FakeServerDriver
from tests.slicer_module.unsent import slow

pytestmark = pytest.mark.slow
REFUSED = "{} is a study of http://fake: connect to that server, or open one of this server's."


def connect_elsewhere(driver: Any) -> Any:
    """Connect to another server with studies of the same names; returns it."""
    other = type(driver.server)(driver.folder)
    other.address = "http://other"
    driver.logic._make_client = lambda address, token: other
    driver.click("test")
    other.requests.clear()
    return other


def open_labelled(driver: FakeServerDriver) -> FakeClient:
    """A study with versions is open, an older one is selected, and another server is connected, which is returned."""
    driver.click("test")
    driver.select(0)
    driver.click("open")
    tree = driver.ui.versionTree
    tree.setCurrentItem(tree.topLevelItem(1))
    driver.ui.reasonBox.setEditText("not the heart")
    driver.ui.annotatorEdit.text = "Bob"
    return connect_elsewhere(driver)


@pytest.mark.parametrize("button", ["showVersion", "restoreVersion", "skip", "reject", "approve", "run"])
def test_nothing_is_asked_of_it(driver: FakeServerDriver, button: str) -> None:
    other = open_labelled(driver)
    mask = driver.logic.current_study.mask()
    driver.click(button)
    assert driver.status == REFUSED.format("p1_ED") and other.requests == []
    assert (driver.logic.current_study.mask() == mask).all()


def test_no_phases_are_marked_there(cine_driver: CineDriver) -> None:
    driver = cine_driver
    study = driver.open()
    other = connect_elsewhere(driver)
    driver.click("markEd")
    assert driver.status == REFUSED.format(study.study) and other.requests == [] and study.chosen == (None, None)


def test_a_label_that_is_stored_while_another_connection_is_made_is_no_failure(driver: FakeServerDriver) -> None:
    driver.open_study()
    driver.edit()
    said: list[str] = []
    driver.logic.failed.connect(said.append)
    with slow(driver, "submit", "submit"):
        driver.ui.testButton.click()
        driver.rest(0.1)
    assert driver.server.latest["p1_ES"] == 1 and said == []
