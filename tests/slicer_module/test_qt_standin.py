"""The stand-in for PythonQt shows Qt's properties as attributes, and never stands between Qt and itself."""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType
from typing import Any

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
QtWidgets = pytest.importorskip("PySide6.QtWidgets", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from tests.slicer_harness.qt_standin import foreign_attributes, python_qt

CLASSES = [
    "QVBoxLayout",
    "QHBoxLayout",
    "QGridLayout",
    "QFormLayout",
    "QWidget",
    "QLabel",
    "QPushButton",
    "QComboBox",
    "QSpinBox",
    "QTreeWidget",
]


def count_reads(widget: Any, name: str) -> Counter[str]:
    """How often the stand-in asks Qt, by property, while Qt reads one called ``name``."""
    reads = Counter[str]()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.endswith("qt_standin.py"):
            reads[frame.f_locals.get("name", "")] += 1

    sys.setprofile(note)
    try:
        widget.property(name)
    finally:
        sys.setprofile(None)
    return reads


@pytest.mark.parametrize("name", CLASSES)
def test_qt_reads_its_properties_without_the_stand_in(name: str) -> None:
    app = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["slicer", "-platform", "offscreen"])
    cls = getattr(QtWidgets, name)
    widget, meta = python_qt(cls)(), cls.staticMetaObject
    properties = [
        each for i in range(meta.propertyCount()) if not (each := meta.property(i)).isEnumType()
    ]  # PySide may lack an enum's converter
    assert {each.name(): dict(reads) for each in properties if (reads := count_reads(widget, each.name()))} == {}
    assert app is not None


def test_a_property_with_a_slip_in_its_name_is_found() -> None:
    app = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["slicer", "-platform", "offscreen"])
    label = python_qt(QtWidgets.QLabel)()
    label.text, label.tooltip = "as Qt spells it", "not as Qt spells it"
    assert foreign_attributes([label]) == ["QLabel.tooltip"]
    assert app is not None
