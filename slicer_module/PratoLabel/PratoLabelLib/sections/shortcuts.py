"""Keys that are there for a while, and not longer; and those for what a labeller does with every study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt
import slicer.util


class Shortcuts:
    """Keys of Slicer's main window, or of the panel's own where there is none.

    Args:
        ui: the widgets of PratoLabel.ui by name.
        actions: what each key does.
    """

    def __init__(self, ui: Any, actions: Mapping[str, Callable[[], None]]) -> None:
        self._ui, self._actions = ui, dict(actions)
        self.installed: list[Any] = []

    def install(self) -> None:
        """Let the keys work."""
        self.remove()
        window = _main_window() or self._ui.statusLabel.window()
        for key, action in self._actions.items():
            shortcut = qt.QShortcut(qt.QKeySequence(key), window)
            shortcut.autoRepeat = False  # a key that is held would submit the next study as soon as it is open
            shortcut.connect("activated()", action)
            self.installed.append(shortcut)

    def remove(self) -> None:
        """The keys are Slicer's again."""
        for shortcut in self.installed:
            shortcut.enabled = False
            shortcut.deleteLater()  # by its parent's event loop: without a parent, PythonQt deletes it here, even where it is being pressed
        self.installed = []


def panel_keys(ui: Any, toggle_segments: Callable[[], None]) -> dict[str, Callable[[], None]]:
    """What is there while the module is in front.

    Each presses the button that it stands for, if that can be pressed. No letter of the Segment Editor or the slice views is taken.
    """
    return {
        "D": lambda: _press(ui.placeButton),
        "S": lambda: _press(ui.runButton),
        "N": lambda: _press(ui.nextButton),
        "Ctrl+Return": lambda: _press(ui.submitNextButton),
        "C": lambda: _press(ui.clickButton),
        "H": toggle_segments,
    }


def _main_window() -> Any:
    try:
        return slicer.util.mainWindow()
    except RuntimeError:
        return None


def _press(button: Any) -> None:
    if button.enabled:
        button.click()
