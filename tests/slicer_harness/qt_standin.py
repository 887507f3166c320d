"""A stand-in for 3D Slicer's Qt shell, on PySide6: the modules ``qt`` and ``ctk``, and the application's part that a panel touches.

Real: Qt itself, the .ui loader, ``slicer.util``, and Slicer's own Python where there is a source tree (see slicer_source). Stand-in:
PythonQt's manner of speaking to Qt, without which the module's code would not run. What PythonQt would refuse (a signal or a property that
does not exist) is refused here too.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import slicer
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from . import slicer_source
from .event_loop import process_events

#: Properties whose getter of the same name is virtual in C++: Qt would call what stands in its place, which asks Qt again, without end.
_VIRTUAL = {"spacing"}
#: Read-only properties that are shown; many of the others are virtual.
_READ_ONLY = {"count", "topLevelItemCount", "active", "currentData", "remainingTime"}


@functools.cache
def python_qt(cls: type) -> type:
    """``cls`` as PythonQt shows it: properties are attributes, to read and to set; their setters (``setText``) stay."""
    meta = cls.staticMetaObject  # type: ignore[attr-defined]
    shown = [meta.property(i) for i in range(meta.propertyCount())]
    members: dict[str, Any] = {
        p.name(): _attribute(p.name()) for p in shown if p.name() in _READ_ONLY or (p.isWritable() and p.name() not in _VIRTUAL)
    }
    # PySide6 looks for a ``connect`` in an object's own class, and in no base
    members |= {"name": _attribute("objectName"), "connect": _connect}
    members["__init_subclass__"] = classmethod(lambda subclass: setattr(subclass, "connect", _connect))
    return type(cls.__name__, (cls,), members)


def _connect(self: Any, signature: str, slot: Callable[..., Any]) -> None:
    """Call ``slot`` with the arguments that ``signature`` names."""
    if self.metaObject().indexOfSignal(signature.replace("vtkMRMLNode*", "PyObject")) < 0:
        raise ValueError(f"{type(self).__name__} has no signal {signature}")
    name, arguments = signature.rstrip(")").split("(")
    n = len(arguments.split(",")) if arguments else 0
    getattr(self, name).connect(lambda *values: slot(*values[:n]))


def _attribute(name: str) -> property:
    def write(self: Any, value: Any) -> None:
        if not self.setProperty(name, value):
            raise ValueError(f"{type(self).__name__}.{name} cannot be {value!r}")

    return property(lambda self: self.property(name), write)


def foreign_attributes(objects: Iterable[QtCore.QObject]) -> list[str]:
    """What was set on ``objects`` that they do not have: a slip in a property's name, which PythonQt refuses."""
    pairs = [(type(each), name) for each in objects for name in getattr(each, "__dict__", ())]
    return sorted(f"{kind.__name__}.{name}" for kind, name in pairs if not (name.startswith("_") or hasattr(kind, name)))


class QUiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file with the stand-in's classes, and makes the connection that hands the MRML scene on."""

    def createWidget(self, name: str, parent: Any = None, object_name: str = "") -> Any:
        home = next(home for home in (slicer, sys.modules["ctk"], sys.modules["qt"]) if hasattr(home, name))
        widget = getattr(home, name)(parent)
        widget.setObjectName(object_name)
        return widget

    def load(self, file: QtCore.QFile) -> Any:
        rest, wanted = _split(bytes(file.readAll().data()))
        data = QtCore.QBuffer()
        data.setData(rest)
        data.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        root = super().load(data)
        for one in wanted:
            if (one["signal"], one["slot"]) != ("mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)"):
                raise NotImplementedError(f"the stand-in makes no connection {one['signal']} -> {one['slot']}")
            root.mrmlSceneChanged.connect(root.findChild(QtWidgets.QWidget, one["receiver"]).setMRMLScene)
        return root


@functools.cache
def _split(ui: bytes) -> tuple[bytes, list[dict[str, str | None]]]:
    """A .ui file without its connections, and these."""
    tree = ElementTree.fromstring(ui)
    connections = tree.find("connections")
    if connections is None:
        return ui, []
    tree.remove(connections)
    return ElementTree.tostring(tree), [{part.tag: part.text for part in one} for one in connections]


class _Qt(ModuleType):
    def __getattr__(self, name: str) -> Any:
        for home in (QtWidgets, QtGui, QtCore):
            if hasattr(home, name):
                found = getattr(home, name)
                return python_qt(found) if isinstance(found, type) and issubclass(found, QtCore.QObject) else found
        raise AttributeError(f"qt has no {name}")


def install(module_file: Path, settings_folder: Path) -> QtWidgets.QApplication:
    """Give ``slicer`` (see core.new_scene) its shell: a module at ``module_file``, settings kept in ``settings_folder``, no main window.

    Call it after every new scene.
    """
    app = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["slicer", "-platform", "offscreen"])
    app.setOrganizationName("PratoLabelTests")
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
    QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, QtCore.QSettings.Scope.UserScope, str(settings_folder))
    if "qt" not in sys.modules:
        sys.modules["qt"] = _Qt("qt")
        sys.modules["qt"].QUiLoader = QUiLoader  # type: ignore[attr-defined]
        sys.modules["ctk"] = ModuleType("ctk")
        from . import widgets

        sys.modules["ctk"].ctkCollapsibleButton = widgets.ctkCollapsibleButton  # type: ignore[attr-defined]
        for name in ("qMRMLWidget", "qMRMLNodeComboBox", "qMRMLSegmentEditorWidget", "qSlicerSegmentEditorEffectFactory"):
            setattr(slicer, name, getattr(widgets, name))
        if not slicer_source.load_scripted_modules():
            _install_doubles()
    from .desktop import ModuleManager

    manager = ModuleManager()
    slicer.app.moduleManager = lambda: manager
    slicer.app.userSettings = sys.modules["qt"].QSettings
    slicer.app.userSettings().setValue("Developer/SelfTestDisplayMessageDelay", 0)  # as the application sets it when it starts
    slicer.app.applicationName = "3D Slicer"
    slicer.app.testingEnabled = lambda: True  # slicer.util.errorDisplay then logs, and opens no dialog
    slicer.app.topLevelWidgets = lambda: []  # no main window: slicer.util.selectModule raises, as in a Slicer without one
    slicer.app.layoutManager = lambda: None
    slicer.app.processEvents = process_events
    slicer.app.clipboard = app.clipboard
    slicer.app.slicerUserSettingsFilePath = str(settings_folder / "Slicer.ini")
    setattr(slicer.modules, module_file.stem.lower(), SimpleNamespace(path=str(module_file)))
    return app


def _translate(context: str, text: str) -> str:
    return str(slicer.app.translate(context, text))


def _install_doubles() -> None:
    from . import parameter_node, scripted_module

    i18n = ModuleType("slicer.i18n")
    i18n.tr = lambda text: text  # type: ignore[attr-defined]
    i18n.translate = _translate  # type: ignore[attr-defined]
    i18n.getContext = lambda file: f"{Path(file).parent.name}.{Path(file).stem}"  # type: ignore[attr-defined]
    doubles = {"ScriptedLoadableModule": scripted_module, "parameterNodeWrapper": parameter_node, "i18n": i18n}
    for name, double in doubles.items():
        sys.modules[f"slicer.{name}"] = double
        setattr(slicer, name, double)
