"""3D Slicer's own Python in place of the doubles: that of the source tree which the environment variable ``SLICER_SOURCE`` names.

A tree is a checkout of https://github.com/Slicer/Slicer, 5.6 or newer, of which ``Base/Python/slicer`` is read where it lies. Its ``util``
replaces that of slicer-core, and its ``ScriptedLoadableModule``, ``parameterNodeWrapper`` and ``i18n`` replace the doubles of this package.
Without the variable the doubles are used.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import slicer

#: Widgets that parameterNodeWrapper asks for by name; no panel of these tests has one.
_CTK = ("CheckBox", "CheckablePushButton", "SliderWidget", "DoubleSlider", "DoubleSpinBox", "ComboBox", "RangeWidget")
_CTK += ("DoubleRangeSlider", "PathLineEdit", "DirectoryButton", "ColorPickerButton")
_QMRML = ("SliderWidget", "SpinBox", "RangeWidget")


def find_source() -> Path | None:
    """The folder ``Base/Python/slicer`` of the source tree; None where the variable is not set.

    Raises:
        FileNotFoundError: it names no source tree of 3D Slicer.
    """
    tree = os.environ.get("SLICER_SOURCE")
    if not tree:
        return None
    folder = Path(tree).resolve() / "Base" / "Python" / "slicer"
    if not (folder / "parameterNodeWrapper" / "__init__.py").is_file():
        raise FileNotFoundError(f"SLICER_SOURCE={tree} is no source tree of 3D Slicer: {folder} is not there.")
    return folder


def load_util() -> None:
    """Make the tree's ``util`` the one that every module gets; to be called before a module of ours takes a class from it."""
    source = find_source()
    if source is not None and Path(slicer.util.__file__ or "") != source / "util.py":
        slicer.util = _load("slicer.util", source / "util.py")


def load_scripted_modules() -> bool:
    """Load what a scripted module imports from the tree, given a stand-in of Qt; False where there is no tree."""
    source = find_source()
    if source is None:
        return False
    for home, prefix, names in ((sys.modules["ctk"], "ctk", _CTK), (slicer, "qMRML", _QMRML)):
        for name in names:
            setattr(home, prefix + name, type(prefix + name, (), {}))
    for name in ("i18n", "ScriptedLoadableModule", "parameterNodeWrapper"):
        package = source / name / "__init__.py"
        setattr(slicer, name, _load(f"slicer.{name}", package if package.is_file() else source / f"{name}.py"))
    return True


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # nothing is left in that tree
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    return module
