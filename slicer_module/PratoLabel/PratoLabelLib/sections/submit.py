"""Submitting the label, and going on with the next study."""

from __future__ import annotations

from typing import Any

import slicer.util

from PratoLabelLib.scene.phase_edits import name_phases
from PratoLabelLib.sections import WARNING_STYLE, PanelServices, Section, show_text
from PratoLabelLib.sections.server import ServerSection
from PratoLabelLib.sections.study import StudySection
from PratoLabelLib.studies.cine_study import CineStudy
from PratoLabelLib.translation import translator

_ = translator(__file__)


class SubmitSection(Section):
    """Sends the label; what would be sent otherwise than the labeller may think is said first."""

    def __init__(self, panel: PanelServices, server: ServerSection, study: StudySection) -> None:
        super().__init__(panel)
        self._server, self._study = server, study
        self._wants_next = False
        self._ui.submitButton.connect("clicked()", lambda: self.submit(then_next=False))
        self._ui.submitNextButton.connect("clicked()", lambda: self.submit(then_next=True))
        self._logic.submitted.connect(self._on_submitted)
        study.chosen.connect(self.stay)  # of what was asked for, the last counts
        self._logic.failed.connect(lambda sentence: self.stay())
        self._logic.study_opened.connect(lambda volume: self._on_opened())

    def refresh(self) -> None:
        """Enable the buttons where a study is open."""
        is_open = self._logic.info is not None and self._logic.current_study is not None
        self._ui.submitButton.enabled = self._ui.submitNextButton.enabled = is_open

    def submit(self, then_next: bool) -> None:
        """Send the segments as the study's final label; ``then_next``: open the next study once they are stored."""
        study = self._logic.current_study
        if study is None:
            return
        problems = self._logic.find_problems()
        if problems and not slicer.util.confirmOkCancelDisplay("\n".join([*problems, "", _("Submit anyway?")]), "PrATo Label"):
            return
        if self._logic.current_study is not study:  # another one was opened behind the question
            return
        self._wants_next = then_next
        self._panel.request(lambda: self._logic.submit(self._server.annotator, problems))

    def stay(self) -> None:
        """Open no other study once a label that is on its way is stored."""
        self._wants_next = False

    def _on_opened(self) -> None:
        self.stay()  # a reply about the study before must not take the labeller out of this one
        show_text(self._ui.submitLabel, "")

    def _on_submitted(self, reply: dict[str, Any]) -> None:
        wants_next, self._wants_next = self._wants_next, False
        counts, warnings = ", ".join(f"{name} {count}" for name, count in reply["voxels"].items()), reply.get("warnings", [])
        text = " ".join([_("{study}: {counts} voxels.").format(study=reply["image"], counts=counts), *warnings])
        conflict, study = reply.get("conflict"), self._logic.current_study
        study = study if study is not None and study.study == reply["image"] else None
        stale = study.stale if isinstance(study, CineStudy) else []
        if conflict:
            show_text(self._ui.submitLabel, f"{text} {conflict['message']}", WARNING_STYLE)
        elif study is not None and (study.has_unsent_edits or self._logic.clicks_waiting):
            show_text(self._ui.submitLabel, " ".join([text, _("Your edits since then are not sent yet: submit again.")]), WARNING_STYLE)
        elif stale:
            newer = _("{phases} of the label came from somebody else meanwhile: show version {version} to see that.")
            newer = newer.format(phases=name_phases(stale), version=reply["version"])
            show_text(self._ui.submitLabel, f"{text} {newer}", WARNING_STYLE)
        else:
            show_text(self._ui.submitLabel, text, WARNING_STYLE if warnings else "")
            if wants_next and not warnings:  # the labeller is to see them with the study
                self._study.open_next()
