"""Stand-ins for what 3D Slicer's C++ does with a scripted module: makes its widget, tells it to enter and exit, reloads and unloads it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import slicer

from . import widgets


class ModuleManager:
    """``slicer.app.moduleManager()``: announces that a module is about to be unloaded, which is how Slicer ends its widget.

    Attributes:
        connections: the slots of the signal.
    """

    def __init__(self) -> None:
        self.connections: list[Callable[[str], None]] = []

    def connect(self, signature: str, slot: Callable[[str], None]) -> None:
        assert signature == "moduleAboutToBeUnloaded(QString)"
        self.connections.append(slot)

    def disconnect(self, signature: str, slot: Callable[[str], None]) -> None:
        self.connections = [other for other in self.connections if other != slot]

    def unload(self, name: str) -> None:
        """What happens when Slicer exits."""
        for slot in list(self.connections):
            slot(name)


class qSlicerScriptedLoadableModuleWidget(widgets.qMRMLWidget):
    """The frame of a module's widget; the class in Python is instantiated anew at each :meth:`reload`, and then set up, but not entered.

    Args:
        file: the module's file, named as the module.

    Attributes:
        module: the instance of the module's class.
        widget: the latest instance of its widget's class.
    """

    def __init__(self, file: Path) -> None:
        import qt

        super().__init__()
        qt.QVBoxLayout(self)
        self._name = file.stem
        module = SimpleNamespace(path=str(file), widgetRepresentation=lambda: self)
        setattr(slicer.modules, self._name.lower(), module)
        self.module = getattr(importlib.import_module(self._name), self._name)(module)
        self.reload()

    def reload(self) -> None:
        """Called by ``slicer.util.reloadScriptedModule`` once the file has been run again."""
        module = sys.modules.get(self._name) or importlib.import_module(self._name)
        self.widget = getattr(module, f"{self._name}Widget")(self)
        setattr(slicer.modules, f"{self._name}Widget", self.widget)
        self.widget.setup()

    def enter(self) -> None:
        """The module is chosen."""
        self.widget.enter()

    def exit(self) -> None:
        """Another module is chosen."""
        self.widget.exit()
