"""A combo box whose entries come from the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class Choices:
    """Keeps what is chosen in a field of the parameter node.

    3D Slicer's own binding takes a combo box for fixed choices only. A value that the server does not offer stays in the parameter node
    until another one is picked; meanwhile the first entry counts.

    Args:
        box: QComboBox.
        parameters: gives the Parameters of the scene, or None between two scenes.
        field: name of their field.
    """

    def __init__(self, box: Any, parameters: Callable[[], Any], field: str) -> None:
        self._box, self._parameters, self._field = box, parameters, field
        box.connect("activated(int)", self._on_picked)

    @property
    def value(self) -> str:
        """What is chosen; "" where there is nothing to choose from."""
        return self._box.itemData(self._box.currentIndex) or ""

    def offer(self, entries: Sequence[tuple[str, str]]) -> None:
        """Offer ``entries``, pairs of a value and its text."""
        if [(self._box.itemData(i), self._box.itemText(i)) for i in range(self._box.count)] != list(entries):
            self._box.clear()
            for value, text in entries:
                self._box.addItem(text, value)
        parameters = self._parameters()
        wanted = self._box.findData(getattr(parameters, self._field)) if parameters is not None else -1
        self._box.setCurrentIndex(max(wanted, 0))
        self._box.enabled = bool(entries)

    def _on_picked(self, index: int) -> None:
        parameters = self._parameters()
        if parameters is not None:
            setattr(parameters, self._field, self._box.itemData(index))
