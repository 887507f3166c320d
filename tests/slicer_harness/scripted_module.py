"""Doubles of ``slicer.ScriptedLoadableModule``: the part of its classes that a module relies on, as strict as the real ones."""

from __future__ import annotations

import importlib
import os
import unittest
from typing import Any

import qt
import slicer
import slicer.util


class ScriptedLoadableModule:
    """The parent is C++'s module, which knows its path."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__
        icon = os.path.join(os.path.dirname(parent.path), "Resources", "Icons", f"{self.moduleName}.png")
        if os.path.isfile(icon):
            parent.icon = qt.QIcon(icon)
        slicer.selfTests = {**getattr(slicer, "selfTests", {}), self.moduleName: self.runTest}

    def runTest(self, msec: int = 100, **kwargs: Any) -> None:
        getattr(importlib.import_module(self.__module__), f"{self.moduleName}Test")().runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """Without a parent, as the self tests make it: a window of its own, set up at once."""

    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__[: -len("Widget")]
        self.parent = parent or slicer.qMRMLWidget()
        if parent is None:
            self.parent.setLayout(qt.QVBoxLayout())
            self.parent.setMRMLScene(slicer.mrmlScene)
        self.layout = self.parent.layout()
        if parent is None:
            self.setup()
            self.parent.show()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def setup(self) -> None: ...

    def cleanup(self) -> None: ...

    def resourcePath(self, name: str) -> str:
        return os.path.join(os.path.dirname(slicer.util.modulePath(self.moduleName)), "Resources", name)

    def onReload(self) -> None:
        slicer.util.reloadScriptedModule(self.moduleName)

    def onReloadAndTest(self, **kwargs: Any) -> None:
        with slicer.util.tryWithErrorDisplay("Reload and Test failed."):
            self.onReload()
            slicer.selfTests[self.moduleName](**kwargs)

    def _onModuleAboutToBeUnloaded(self, name: str) -> None:
        if name == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__[: -len("Logic")]

    def getParameterNode(self) -> Any:
        """The module's one vtkMRMLScriptedModuleNode in the scene; made where there is none."""
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node.SetName(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        if node.GetAttribute("ModuleName") != self.moduleName:
            node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Its self tests wait a moment with a message on the screen; here is no screen."""

    def delayDisplay(self, message: str, requestedDelay: float | None = None) -> None: ...
