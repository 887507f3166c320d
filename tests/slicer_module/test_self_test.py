"""The test cases that run inside desktop Slicer run here as well, by the module's own test."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from tests.slicer_harness import qt_standin
from tests.slicer_harness.core import new_scene

MODULE = Path(__file__).resolve().parents[2] / "slicer_module" / "PratoLabel" / "PratoLabel.py"


@pytest.fixture(autouse=True)
def shell(tmp_path: Path) -> None:
    new_scene()
    qt_standin.install(MODULE, tmp_path)


def test_the_module_tests_itself(capsys: pytest.CaptureFixture[str]) -> None:
    from PratoLabel import PratoLabelTest

    PratoLabelTest().runTest()
    output = capsys.readouterr().out
    assert "Ran 10 tests" in output
    for name in ("PratoLabelBoxTestCase", "PratoLabelPanelTestCase", "PratoLabelPlacementTestCase", "PratoLabelSegmentsTestCase"):
        assert name in output


@pytest.mark.slow
def test_the_module_introduces_itself() -> None:
    from PratoLabel import PratoLabel

    parent = SimpleNamespace(path=str(MODULE))
    PratoLabel(parent)
    assert parent.title == "PrATo Label"
    sources = "".join(path.read_text(encoding="utf-8") for path in MODULE.parent.glob("PratoLabelLib/**/*.py"))
    used = set(re.findall(r"slicer\.modules\.(\w+)", sources))  # which Slicer loads before, and keeps where they are depended on
    assert "markups" in used and used <= {name.lower() for name in parent.dependencies}
    assert "2506.16369" in parent.acknowledgementText
