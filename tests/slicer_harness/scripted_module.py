"""Doubles of ``slicer.ScriptedLoadableModule``: the part of its classes that a module relies on."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any

import qt
import slicer


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__


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

    def setup(self) -> None: ...

    def resourcePath(self, name: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / name)


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
        node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Its self tests wait a moment with a message on the screen; here is no screen."""

    def delayDisplay(self, message: str, requestedDelay: float | None = None) -> None: ...
