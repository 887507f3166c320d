"""Section 6: handing the label in."""

from __future__ import annotations

from typing import Any

import qt
import slicer.util

from PratoLabelLib.styles import WARNING_STYLE

ANNOTATOR_SETTING = "PratoLabel/annotator"


class SubmitSection:
    """Who labelled, and what the server stored."""

    def __init__(self, panel: Any) -> None:
        self._panel, self._ui, self._logic = panel, panel.ui, panel.logic
        self._ui.annotatorEdit.text = slicer.util.settingsValue(ANNOTATOR_SETTING, "")
        self._ui.annotatorEdit.connect("editingFinished()", self._keep_name)
        self._ui.submitButton.connect("clicked()", self._on_submit)
        self._logic.submitted.connect(self._on_submitted)
        self._logic.study_opened.connect(lambda volume: self._say(""))

    def refresh(self) -> None:
        """A study must be open."""
        self._ui.submitButton.enabled = self._logic.info is not None and self._logic.open is not None

    def _keep_name(self) -> None:
        qt.QSettings().setValue(ANNOTATOR_SETTING, self._ui.annotatorEdit.text.strip())

    def _on_submit(self) -> None:
        self._keep_name()
        self._panel.ask(lambda: self._logic.submit(self._ui.annotatorEdit.text.strip()))

    def _on_submitted(self, reply: dict[str, Any]) -> None:
        counts = ", ".join(f"{name} {count}" for name, count in reply["voxels"].items())
        conflict = reply.get("conflict")
        self._say(
            f"{reply['image']}: {counts} voxels." + (f" {conflict['message']}" if conflict else ""), WARNING_STYLE if conflict else ""
        )

    def _say(self, text: str, style: str = "") -> None:
        self._ui.submitLabel.text, self._ui.submitLabel.styleSheet = text, style
        self._ui.submitLabel.visible = bool(text)
