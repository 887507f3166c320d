"""A double of ``slicer.parameterNodeWrapper``: typed fields kept in a real vtkMRMLScriptedModuleNode, bound to widgets.

As strict as the strictest of the real ones (3D Slicer 5.6): ``connectGui`` returns no tag, ``disconnectGui`` leaves its observer on the
node, and a value is read once and then at every ModifiedEvent of the node alone. A QComboBox cannot be bound to a plain ``str``, nor a
QSpinBox to a plain ``int`` (the real one replaces the range of its .ui file); a widget must be of the very class, not of a subclass.
"""

from __future__ import annotations

import typing
import weakref
from collections.abc import Callable, Mapping
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
    """The descriptor of one annotated field; an instance's values are in its ``_cached``."""

    def __init__(self, name: str, annotation: Any, owner: type) -> None:
        self.name = name
        self.type, self.range = typing.get_args(annotation) if hasattr(annotation, "__metadata__") else (annotation, None)
        self.is_node = issubclass(self.type, slicer.vtkMRMLNode)
        if not self.is_node and self.type not in _FROM_TEXT:
            raise TypeError(f"{owner.__name__}.{name}: the double keeps str, int, float, bool and nodes, not {self.type}")
        self.default = getattr(owner, name, None if self.is_node else self.type())

    def __get__(self, wrapper: Any, owner: type) -> Any:
        return wrapper._cached[self.name]

    def __set__(self, wrapper: Any, value: Any) -> None:
        if not isinstance(value, (self.type, type(None)) if self.is_node else self.type):
            raise TypeError(f"{self.name} must be {self.type.__name__}, not {value!r}")
        if self.range and not self.range.minimum <= value <= self.range.maximum:
            raise ValueError(f"{self.name} must be within {self.range}, not {value}")
        node = wrapper.parameterNode
        with slicer.util.NodeModify(node):
            node.SetParameter(self.name, "" if self.is_node else str(value))
            if self.is_node:
                node.SetNodeReferenceID(self.name, value.GetID() if value else None)
            wrapper._cached[self.name] = self.read(node)

    def read(self, node: Any) -> Any:
        if self.name not in node.GetParameterNames():  # a closed scene resets its singletons
            node.SetParameter(self.name, "" if self.is_node else str(self.default))
        return node.GetNodeReference(self.name) if self.is_node else _FROM_TEXT[self.type](node.GetParameter(self.name))


class _Binding:
    """One field's widget: ``connect`` makes the field follow it."""

    def __init__(self, field: _Field, widget: Any) -> None:
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
        self._keep: Callable[..., None] | None = None

    def connect(self, keep: Callable[[Any], None]) -> None:
        self._keep = lambda *_: keep(self.read())
        self.changed.connect(self._keep)

    def release(self) -> None:
        self.changed.disconnect(self._keep)


class _Wrapper:
    """What the decorator adds to a class besides its fields."""

    _fields: Mapping[str, _Field]

    def __init__(self, node: Any) -> None:
        self.parameterNode = node
        self._cached: dict[str, Any] = {}
        self._bound: dict[int, dict[str, _Binding]] = {}
        self._is_showing = False
        self._read()
        this = weakref.ref(self)
        tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: this() and this()._read())  # type: ignore[union-attr]
        weakref.finalize(self, node.RemoveObserver, tag)

    def AddObserver(self, event: Any, callback: Callable[..., None], priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def connectGui(self, ui: Any) -> None:
        self.connectParametersToGui({w.property("SlicerParameterName"): w for w in vars(ui).values() if w.property("SlicerParameterName")})

    def connectParametersToGui(self, mapping: Mapping[str, Any]) -> int:
        tag = len(self._bound)
        self._bound[tag] = {name: _Binding(self._fields[name], widget) for name, widget in mapping.items()}
        self._show()
        for name, binding in self._bound[tag].items():
            binding.connect(lambda value, name=name: None if self._is_showing else setattr(self, name, value))
        self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._show())
        return tag

    def disconnectGui(self, tag: int) -> None:
        for binding in self._bound.pop(tag, {}).values():
            binding.release()

    def _read(self) -> None:
        self._cached = {name: field.read(self.parameterNode) for name, field in self._fields.items()}

    def _show(self) -> None:
        if self._is_showing:
            return
        self._is_showing = True
        try:
            for bindings in self._bound.values():
                for name, binding in bindings.items():
                    binding.write(self._cached[name])
        finally:
            self._is_showing = False


def parameterNodeWrapper(cls: type) -> type:
    """Class decorator: the annotated fields become properties that a parameter node keeps."""
    fields = {name: _Field(name, kind, cls) for name, kind in typing.get_type_hints(cls, include_extras=True).items()}
    taken = [name for name in vars(_Wrapper) if not name.startswith("__") and name in vars(cls)]
    if taken:
        raise ValueError(f"Cannot use reserved name '{taken[0]}' in a parameterNodeWrapper")
    for name, member in {**vars(_Wrapper), **fields, "_fields": fields}.items():
        if name == "__init__" or not name.startswith("__"):
            setattr(cls, name, member)
    return cls
