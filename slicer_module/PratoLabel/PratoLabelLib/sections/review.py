"""What is decided about the open study without labelling it: skipped, rejected; and edits of an earlier time, recovered or discarded."""

from __future__ import annotations

import time

from PratoLabelLib.sections import WARNING_STYLE, PanelServices, Section, show_text
from PratoLabelLib.sections.server import ServerSection
from PratoLabelLib.sections.study import StudySection
from PratoLabelLib.translation import translator

_ = translator(__file__)

REASONS = (_("not the heart"), _("poor image quality"), _("slices missing"), _("not sure: somebody else should"))


class ReviewSection(Section):
    """Skips and rejects the open study, with a reason, and goes on with the next one."""

    def __init__(self, panel: PanelServices, server: ServerSection, study: StudySection) -> None:
        super().__init__(panel)
        self._server, self._study = server, study
        for reason in REASONS:
            self._ui.reasonBox.addItem(reason)
        self._ui.reasonBox.setCurrentIndex(-1)
        self._ui.reasonBox.setEditText("")
        self._ui.reasonBox.lineEdit().setPlaceholderText(_("reason to skip or reject it"))
        self._ui.skipButton.connect("clicked()", lambda: self._on_review("skipped"))
        self._ui.rejectButton.connect("clicked()", lambda: self._on_review("rejected"))
        self._logic.reviewed.connect(self._on_reviewed)

    def refresh(self) -> None:
        """Enable the buttons where a study is open."""
        is_open = self._logic.info is not None and self._logic.current_study is not None
        for widget in (self._ui.reasonBox, self._ui.skipButton, self._ui.rejectButton):
            widget.enabled = is_open

    def _on_review(self, state: str) -> None:
        study, reason = self._logic.current_study, self._ui.reasonBox.currentText.strip()
        if study is None:
            return
        if not reason:
            asked = _("Why is {study} skipped? Pick a reason, or write one.")
            if state == "rejected":
                asked = _("Why is {study} rejected? Pick a reason, or write one.")
            self._panel.say(asked.format(study=study.study), is_error=True)
            self._ui.reasonBox.setFocus()
        elif self._study.may_leave():
            self._panel.request(lambda: self._logic.review_open_study(state, reason, self._server.annotator))

    def _on_reviewed(self, study: str, state: str) -> None:
        self._ui.reasonBox.setEditText("")
        if self._logic.is_open(study):
            self._study.open_next()


class DraftSection(Section):
    """Offers edits that were never sent, when their study is opened again; it opens no dialog."""

    def __init__(self, panel: PanelServices) -> None:
        super().__init__(panel)
        self._ui.recoverButton.connect("clicked()", self._on_recover)
        self._ui.discardButton.connect("clicked()", self._on_discard)

    def refresh(self) -> None:
        """Show the offer, if there is one."""
        autosave = self._logic.autosave if self._logic.current_study is not None else None
        offer = autosave.offer if autosave is not None else None
        self._ui.draftFrame.visible = offer is not None
        if offer is not None:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(offer.saved))
            sentence = _("{study} has edits of {time} that were never sent.")
            show_text(self._ui.draftLabel, sentence.format(study=offer.study, time=when), WARNING_STYLE)

    def _on_recover(self) -> None:
        if self._logic.autosave is not None:
            self._logic.autosave.recover()
        self._panel.refresh()

    def _on_discard(self) -> None:
        if self._logic.autosave is not None:
            self._logic.autosave.discard()
        self._panel.refresh()
