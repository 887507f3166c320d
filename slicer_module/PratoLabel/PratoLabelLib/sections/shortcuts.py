"""The keys for what a labeller does with every study; there while the module is in front, and not longer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
import slicer.util

if TYPE_CHECKING:
    from PratoLabelLib.panel import Panel


class Shortcuts:
    """Each presses the button that it stands for, if that can be pressed. No letter of the Segment Editor or the slice views is taken."""

    def __init__(self, panel: Panel) -> None:
        ui = panel.ui
        self._actions = {
            "D": lambda: _press(ui.placeButton),
            "S": lambda: _press(ui.runButton),
            "N": lambda: _press(ui.nextButton),
            "Ctrl+Return": lambda: _press(ui.submitNextButton),
            "H": panel.correct.toggle_segments,
        }
        self._panel = panel
        self.installed: list[Any] = []

    def install(self) -> None:
        """Let the keys work in Slicer's main window, or in the panel's own where there is none."""
        self.remove()
        window = _main_window() or self._panel.ui.statusLabel.window()
        for key, action in self._actions.items():
            shortcut = qt.QShortcut(qt.QKeySequence(key), window)
            shortcut.connect("activated()", action)
            self.installed.append(shortcut)

    def remove(self) -> None:
        """The keys are Slicer's again."""
        for shortcut in self.installed:
            shortcut.enabled = False
            shortcut.setParent(None)
            shortcut.deleteLater()
        self.installed = []


def _main_window() -> Any:
    try:
        return slicer.util.mainWindow()
    except RuntimeError:
        return None


def _press(button: Any) -> None:
    if button.enabled:
        button.click()
