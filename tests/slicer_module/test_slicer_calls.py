"""What the module calls of 3D Slicer's C++ is there, in the version whose whole source tree ``SLICER_SOURCE`` names.

slicer-core refuses what one version lacks; another version may lack something else, and the stand-ins of Qt's widgets are Python.
"""

from __future__ import annotations

import ast
import os
import re
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest

vtk = pytest.importorskip("vtk", reason="slicer-core is not installed: pip install -r tests/requirements.txt")

ROOT = Path(__file__).resolve().parents[2] / "slicer_module" / "PratoLabel"
TREE = Path(os.environ.get("SLICER_SOURCE", ""))
HAS_TREE = "SLICER_SOURCE" in os.environ and (TREE / "Modules" / "Loadable").is_dir()
pytestmark = pytest.mark.skipif(not HAS_TREE, reason="SLICER_SOURCE names no whole source tree of 3D Slicer")
EDITOR = "qMRMLSegmentEditorWidget"
#: Set by name.
_SELECTORS = {"segmentationNodeSelectorVisible", "sourceVolumeNodeSelectorVisible", "switchToSegmentationsButtonVisible"}
_METHOD = re.compile(r"(Get|Set|Add|Remove|Is|Create|Switch|Jump|Show|\w+Event$)")
#: Called only where it is there.
_OPTIONAL = {"SetForceRightHandedIJKCoordinateSystem"}


@cache
def header(name: str) -> str:
    """The declarations in the header ``name`` (without .h), without comments; of all headers of Slicer if it is "*"."""
    folders = [TREE / folder for folder in ("Libs", "Modules", "Base")]
    texts = [path.read_text(encoding="utf-8", errors="replace") for folder in folders for path in sorted(folder.rglob(f"{name}.h"))]
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", "\n".join(texts), flags=re.DOTALL)


def calls() -> dict[str, set[str]]:
    """Attributes that the module uses, by the expression that they are of."""
    found: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = {alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                owner = ast.unparse(node.value)
                if owner.split(".")[0] not in modules - {"slicer"} and not owner.startswith(("requests", "qt.")):
                    found.setdefault(owner, set()).add(node.attr)
    return found


def test_every_method_of_a_node_or_logic_is_declared() -> None:
    declared = set(re.findall(r"\w+", header("*")))
    for name in re.findall(r"vtk(?:Get|Set|Boolean)\w*Macro\w*\s*\(\s*(\w+)", header("*")):
        declared |= {f"Get{name}", f"Set{name}", f"{name}On", f"{name}Off"}
    for name in ("Object", "ImageData", "Matrix4x4", "Transform", "PointData", "StringArray", "Collection", "WeakReference"):
        declared |= {*dir(getattr(vtk, f"vtk{name}"))}
    used = {name for names in calls().values() for name in names if _METHOD.match(name)}
    assert len(used) > 100 and used - declared - _OPTIONAL == set()


def test_every_method_of_the_segment_editor_can_be_called_from_python() -> None:
    text = header(EDITOR)
    public_slots = re.findall(r"public slots:(.*?)(?:signals:|protected|private)", text, re.DOTALL)
    callable_here = set(re.findall(r"Q_INVOKABLE[^;{]*?\b(\w+)\s*\(", text)) | set(re.findall(r"\b(\w+)\s*\(", "".join(public_slots)))
    properties = set(re.findall(r"Q_PROPERTY\(\s*[\w:]+\s+(\w+)", text))
    inherited = {"setMRMLScene"}
    used = calls()["self._editor"] | _SELECTORS
    assert len(used) > 10 and used - callable_here - properties - inherited == set()


def test_every_property_in_the_ui_file_is_one_of_its_widget() -> None:
    for widget in ElementTree.parse(ROOT / "Resources" / "UI" / "PratoLabel.ui").iter("widget"):
        if widget.get("class") == "qMRMLNodeComboBox":
            names = {each.get("name") for each in widget.findall("property") if each.get("stdset") != "0"}
            own = set(re.findall(r"Q_PROPERTY\(\s*[\w:]+\s+(\w+)", header("qMRMLNodeComboBox")))
            assert names - own - {"sizePolicy", "toolTip", "enabled", "visible"} == set()
