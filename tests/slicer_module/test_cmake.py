"""What stands in CMakeLists.txt is what 3D Slicer installs: a file that is not listed is missing on the user's machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "slicer_module" / "PratoLabel"


def listed(variable: str) -> list[str]:
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    return re.search(rf"set\({variable}\s+(.*?)\s*\)", text, re.DOTALL)[1].split()


def existing(*patterns: str) -> list[str]:
    found = [path for pattern in patterns for path in MODULE.rglob(pattern) if "__pycache__" not in path.parts]
    return sorted(str(path.relative_to(MODULE)) for path in found)


@pytest.mark.parametrize(
    ("variable", "patterns"),
    [("MODULE_PYTHON_SCRIPTS", ("*.py",)), ("MODULE_PYTHON_RESOURCES", ("*.ui", "*.png", "*.svg", "*.json", "*.nii.gz"))],
)
def test_every_file_is_listed_and_every_listed_file_is_there(variable: str, patterns: tuple[str, ...]) -> None:
    assert sorted(listed(variable)) == existing(*patterns)


def test_the_extension_holds_the_module_and_the_module_is_tested() -> None:
    assert "add_subdirectory(slicer_module/PratoLabel)" in (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    module = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    assert "WITH_GENERIC_TESTS" in module
    assert "slicer_add_python_unittest(SCRIPT ${MODULE_NAME}.py)" in module
    assert "add_subdirectory(Testing/Python)" in module


@pytest.mark.slow
def test_every_test_case_is_registered() -> None:
    text = (MODULE / "Testing" / "Python" / "CMakeLists.txt").read_text(encoding="utf-8")
    assert sorted(re.findall(r"SCRIPT (\S+?\.py)", text)) == sorted(path.name for path in (MODULE / "Testing" / "Python").glob("*.py"))
