"""What the panel is set to, kept in the scene's parameter node: a saved scene reopens as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import qt
from slicer import vtkMRMLMarkupsROINode, vtkMRMLScriptedModuleNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


@parameterNodeWrapper
class _Fields:
    """The fields of :class:`Parameters`."""

    strategy: str
    roi: vtkMRMLMarkupsROINode
    all_boxes: bool
    live_update: bool = True
    model: str
    prune: str
    show_tokens: bool
    lock_rv: bool
    lock_myocardium: bool
    lock_lv: bool
    train_model: str
    max_epochs: Annotated[int, WithinRange(1, 1000)] = 10

    if TYPE_CHECKING:  # what the decorator adds
        parameterNode: vtkMRMLScriptedModuleNode

        def __init__(self, node: vtkMRMLScriptedModuleNode) -> None: ...

        def AddObserver(self, event: int, callback: Callable[..., None], priority: float = 0.0) -> int: ...

        def connectParametersToGui(self, mapping: Mapping[str, Any]) -> int: ...

        def disconnectGui(self, tag: int) -> None: ...


class Parameters(_Fields):
    """The fields that a widget of PratoLabel.ui is bound to by name, and those of a :class:`ParameterComboBox`.

    Address and annotator belong to the user, not to a scene: they are settings. The token is stored nowhere.
    """

    def __init__(self, node: vtkMRMLScriptedModuleNode) -> None:
        super().__init__(node)
        self._observers: list[int] = []
        self._tag: int | None = None

    def bind(self, ui: Any) -> None:
        """Let the fields and the widgets of ``ui`` that name one in their property SlicerParameterName follow each other."""
        named = {widget.property("SlicerParameterName"): widget for widget in vars(ui).values()}
        # 3D Slicer's own connectGui returns no tag before 5.10
        self._tag = self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def release(self) -> None:
        """End that, and leave nothing of it on the parameter node, which outlives the widgets."""
        if self._tag is not None:
            self.disconnectGui(self._tag)
        for tag in self._observers:
            self.parameterNode.RemoveObserver(tag)
        self._observers, self._tag = [], None

    def AddObserver(self, event: int, callback: Callable[..., None], priority: float = 0.0) -> int:
        """Called by the wrapper: its ``disconnectGui`` leaves this observer behind before 5.12."""
        tag = super().AddObserver(event, callback, priority)
        self._observers.append(tag)
        return tag


class ParameterComboBox:
    """A combo box whose entries come from the server, and whose value is a field of the parameter node.

    3D Slicer's own binding takes a combo box for fixed choices only. A value that the server does not offer stays in the parameter node
    until another one is picked; meanwhile the first entry counts.

    Args:
        combo_box: empty, as in the .ui file.
        get_parameters: returns the Parameters of the scene, or None between two scenes.
        field: name of their field.
    """

    def __init__(self, combo_box: qt.QComboBox, get_parameters: Callable[[], Parameters | None], field: str) -> None:
        self._combo_box, self._get_parameters, self._field = combo_box, get_parameters, field
        combo_box.connect("activated(int)", self._on_activated)

    @property
    def value(self) -> str:
        """The value that is chosen; "" where there is nothing to choose from."""
        return self._combo_box.itemData(self._combo_box.currentIndex) or ""

    def set_entries(self, entries: Sequence[tuple[str, str]]) -> None:
        """Offer ``entries``, pairs of a value and its text."""
        box = self._combo_box
        if [(box.itemData(i), box.itemText(i)) for i in range(box.count)] != list(entries):
            box.clear()
            for value, text in entries:
                box.addItem(text, value)
        parameters = self._get_parameters()
        index = box.findData(getattr(parameters, self._field)) if parameters is not None else -1
        box.setCurrentIndex(max(index, 0))
        box.enabled = bool(entries)

    def _on_activated(self, index: int) -> None:
        parameters = self._get_parameters()
        if parameters is not None:
            setattr(parameters, self._field, self._combo_box.itemData(index))
