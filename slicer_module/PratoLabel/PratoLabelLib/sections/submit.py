"""Section 6: submitting the label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
import slicer.util

from PratoLabelLib.sections import WARNING_STYLE, Section, show_text

if TYPE_CHECKING:
    from PratoLabelLib.panel import Panel

ANNOTATOR_SETTING = "PratoLabel/annotator"


class SubmitSection(Section):
    """Who labelled, and what the server stored."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self._ui.annotatorEdit.text = slicer.util.settingsValue(ANNOTATOR_SETTING, "")
        self._ui.annotatorEdit.connect("editingFinished()", self._save_annotator)
        self._ui.submitButton.connect("clicked()", self._on_submit)
        self._logic.submitted.connect(self._on_submitted)
        self._logic.study_opened.connect(lambda volume: show_text(self._ui.submitLabel, ""))

    def refresh(self) -> None:
        """Enable the button where a study is open."""
        self._ui.submitButton.enabled = self._logic.info is not None and self._logic.current_study is not None

    def _save_annotator(self) -> None:
        qt.QSettings().setValue(ANNOTATOR_SETTING, self._ui.annotatorEdit.text.strip())

    def _on_submit(self) -> None:
        self._save_annotator()
        self._panel.request(lambda: self._logic.submit(self._ui.annotatorEdit.text.strip()))

    def _on_submitted(self, reply: dict[str, Any]) -> None:
        text = f"{reply['image']}: {', '.join(f'{name} {count}' for name, count in reply['voxels'].items())} voxels."
        conflict = reply.get("conflict")
        if conflict:
            show_text(self._ui.submitLabel, f"{text} {conflict['message']}", WARNING_STYLE)
        else:
            show_text(self._ui.submitLabel, text)
