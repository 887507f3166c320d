"""What the panel is set to, kept in the scene's parameter node: a saved scene reopens as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import qt
from slicer import vtkMRMLMarkupsROINode, vtkMRMLScriptedModuleNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


@parameterNodeWrapper
class Parameters:
    """The fields that a widget of PratoLabel.ui is bound to by name, and those of a :class:`ParameterComboBox`.

    Address and annotator belong to the user, not to a scene: they are settings. The token is stored nowhere.
    """

    strategy: str
    roi: vtkMRMLMarkupsROINode
    all_boxes: bool
    live_update: bool
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

        def connectGui(self, ui: Any) -> Any: ...

        def disconnectGui(self, tag: Any) -> None: ...


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
