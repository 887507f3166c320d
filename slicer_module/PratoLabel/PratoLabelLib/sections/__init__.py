"""The sections of the panel, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PratoLabelLib.panel import Panel
    from PratoLabelLib.parameters import Parameters

#: Colours of the panel's messages: dark on light, so that they can be read in Slicer's light and dark style.
HINT_STYLE = "background: #e3edf7; color: #1f3a56; padding: 4px;"
ERROR_STYLE = "background: #f8d7da; color: #721c24; padding: 4px;"
WARNING_STYLE = "background: #fff3cd; color: #6b4e00; padding: 4px;"


class Section:
    """A section: connects its widgets when it is made, and shows the present state of the logic whenever it is refreshed."""

    def __init__(self, panel: Panel) -> None:
        self._panel, self._ui, self._logic = panel, panel.ui, panel.logic

    @property
    def _parameters(self) -> Parameters:
        """What the panel is set to in this scene.

        Raises:
            RuntimeError: the panel is bound to no scene, as the module is not in front.
        """
        if self._panel.parameters is None:
            raise RuntimeError("The panel is bound to no scene: open the module PrATo Label first.")
        return self._panel.parameters

    def refresh(self) -> None:
        """Enable what can be done now, and show what is known now."""
        raise NotImplementedError


def show_text(label: Any, text: str, style: str = "") -> None:
    """Show ``text`` in a QLabel, which is hidden where there is none."""
    label.text, label.styleSheet = text, style
    label.visible = bool(text)
