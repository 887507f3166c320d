"""The panel stays as narrow as it is, whatever it has to show: Slicer makes room for it beside the views."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")
from PySide6.QtWidgets import QLabel, QWidget


def test_a_long_name_of_a_study_does_not_widen_the_panel(driver: Any) -> None:
    driver.server.names = ["heart_" + "sax_bSSFP_breathhold_" * 6 + "ED"]
    driver.click("test")
    driver.ui.annotatorEdit.text = "Ada"
    root = driver.widget._root
    width = QWidget.minimumSizeHint(root).width()
    driver.select(0)
    driver.click("open")
    driver.click("fit")
    driver.click("submit")
    driver.rest(0.4)
    assert QWidget.minimumSizeHint(root).width() == width
    labels = [label for label in root.findChildren(QLabel) if QLabel.wordWrap(label) and QLabel.text(label)]
    assert labels
    assert all(QWidget.sizePolicy(label).hasHeightForWidth() for label in labels), "a text of several lines would be cut off"
