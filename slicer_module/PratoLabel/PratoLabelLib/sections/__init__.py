"""The sections of the panel, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from PratoLabelLib.logic import PratoLabelLogic
    from PratoLabelLib.parameters import Parameters

#: Colours of the panel's messages: dark on light, so that they can be read in Slicer's light and dark style.
HINT_STYLE = "background: #e3edf7; color: #1f3a56; padding: 4px;"
ERROR_STYLE = "background: #f8d7da; color: #721c24; padding: 4px;"
WARNING_STYLE = "background: #fff3cd; color: #6b4e00; padding: 4px;"


class PanelServices(Protocol):
    """What the panel is to its sections.

    Attributes:
        ui: the widgets of PratoLabel.ui by name.
        parameters: what it is set to in this scene; None between two scenes, and while another module is in front.
    """

    ui: Any
    logic: PratoLabelLogic
    parameters: Parameters | None

    @property
    def is_waiting(self) -> bool:
        """Whether the user waits for the server (polls of a training do not count)."""

    def request(self, action: Callable[[], None]) -> None:
        """Run ``action``, which makes the logic send a request for the user."""

    def say(self, sentence: str, is_error: bool = False) -> None:
        """Show ``sentence`` at the top of the panel, until something else happens."""

    def refresh(self) -> None:
        """Let every section show what is known now."""


class Section:
    """A section: connects its widgets when it is made, and shows the present state of the logic whenever it is refreshed."""

    def __init__(self, panel: PanelServices) -> None:
        self._panel, self._ui, self._logic = panel, panel.ui, panel.logic

    @property
    def _parameters(self) -> Parameters:
        """What the panel is set to in this scene.

        Raises:
            RuntimeError: the panel is bound to no scene, as the module is not in front.
        """
        if self._panel.parameters is None:
            raise RuntimeError("The panel has no scene: open the module PrATo Label first.")
        return self._panel.parameters

    def refresh(self) -> None:
        """Enable what can be done now, and show what is known now."""
        raise NotImplementedError


def show_text(label: Any, text: str, style: str = "") -> None:
    """Show ``text`` in a QLabel, which is hidden where there is none."""
    label.text, label.styleSheet = text, style
    label.visible = bool(text)
