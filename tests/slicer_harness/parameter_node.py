"""A double of ``slicer.parameterNodeWrapper``: typed fields kept in a real vtkMRMLScriptedModuleNode, bound to widgets.

Strict where the real one would bite: a QComboBox cannot be bound to a plain ``str``, nor a QSpinBox to a plain ``int`` (the real one
replaces the range of its .ui file), and a widget must be of the very class, not of a subclass.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any

import qt
import slicer
import vtk


@dataclass(frozen=True)
class WithinRange:
    minimum: float
    maximum: float


_FROM_TEXT = {str: str, int: int, float: float, bool: lambda text: text == "True"}


class _Field:
    def __init__(self, name: str, annotation: Any, owner: type) -> None:
        self.name = name
        self.type, self.range = typing.get_args(annotation) if hasattr(annotation, "__metadata__") else (annotation, None)
        self.is_node = issubclass(self.type, slicer.vtkMRMLNode)
        if not self.is_node and self.type not in _FROM_TEXT:
            raise TypeError(f"{owner.__name__}.{name}: the double keeps str, int, float, bool and nodes, not {self.type}")
        self.default = getattr(owner, name, None if self.is_node else self.type())

    def __get__(self, wrapper: Any, owner: type) -> Any:
        node = wrapper.parameterNode
        return node.GetNodeReference(self.name) if self.is_node else _FROM_TEXT[self.type](node.GetParameter(self.name))

    def __set__(self, wrapper: Any, value: Any) -> None:
        if not isinstance(value, (self.type, type(None)) if self.is_node else self.type):
            raise TypeError(f"{self.name} must be {self.type.__name__}, not {value!r}")
        if self.range and not self.range.minimum <= value <= self.range.maximum:
            raise ValueError(f"{self.name} must be within {self.range}, not {value}")
        if self.is_node:
            wrapper.parameterNode.SetNodeReferenceID(self.name, value.GetID() if value else None)
        else:
            wrapper.parameterNode.SetParameter(self.name, str(value))


class _Binding:
    """One field and one widget, each following the other until :meth:`release`."""

    def __init__(self, wrapper: Any, field: _Field, widget: Any) -> None:
        self.wrapper, self.field, self.widget = wrapper, field, widget
        if type(widget) is slicer.qMRMLNodeComboBox and field.is_node:
            widget.nodeTypes = [field.type.__name__]
            self.read, self.write, self.changed = widget.currentNode, widget.setCurrentNode, widget.currentNodeChanged
        elif (type(widget), field.type) == (qt.QCheckBox, bool):
            self.read, self.write, self.changed = widget.isChecked, widget.setChecked, widget.stateChanged
        elif (type(widget), field.type) == (qt.QSpinBox, int) and field.range:
            widget.setRange(field.range.minimum, field.range.maximum)
            self.read, self.write, self.changed = lambda: widget.value, widget.setValue, widget.valueChanged
        else:
            raise RuntimeError(f"{field.name}: no {type(widget).__name__} can be bound to {field.type.__name__} as it is annotated")
        self.show()
        self.changed.connect(self.keep)
        self.tag = wrapper.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self.show())

    def keep(self, *_: Any) -> None:
        self.field.__set__(self.wrapper, self.read())

    def show(self) -> None:
        if self.read() != self.field.__get__(self.wrapper, object):
            self.write(self.field.__get__(self.wrapper, object))

    def release(self) -> None:
        self.changed.disconnect(self.keep)
        self.wrapper.parameterNode.RemoveObserver(self.tag)


def parameterNodeWrapper(cls: type) -> type:
    """Class decorator: the annotated fields become properties that a parameter node keeps."""
    fields = {name: _Field(name, kind, cls) for name, kind in typing.get_type_hints(cls, include_extras=True).items()}

    def __init__(self: Any, node: Any) -> None:
        self.parameterNode, self._bound = node, {}
        for field in fields.values():
            if not field.is_node and field.name not in node.GetParameterNames():
                field.__set__(self, field.default)

    def connectGui(self: Any, ui: Any) -> int:
        tag = len(self._bound)
        named = {w.property("SlicerParameterName"): w for w in vars(ui).values() if w.property("SlicerParameterName")}
        self._bound[tag] = [_Binding(self, fields[name], widget) for name, widget in named.items()]
        return tag

    def disconnectGui(self: Any, tag: int) -> None:
        for binding in self._bound.pop(tag):
            binding.release()

    for name, member in {**fields, "__init__": __init__, "connectGui": connectGui, "disconnectGui": disconnectGui}.items():
        setattr(cls, name, member)
    return cls
