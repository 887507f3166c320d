"""A second person's decision about a label: the state of each phase, and phases approved, or sent back for a reason."""

from __future__ import annotations

from collections import Counter

import qt

from PratoLabelLib.scene.phase_edits import name_phases
from PratoLabelLib.sections import WARNING_STYLE, PanelServices, Section, show_text
from PratoLabelLib.sections.server import ServerSection
from PratoLabelLib.translation import translator

_ = translator(__file__)

#: The contract's states of a phase, for the labeller, those first that most people have looked at.
STATES = {"final": _("final"), "corrected": _("corrected"), "proposed": _("proposed")}


class ApproveSection(Section):
    """There while the open study has a label. A click on a phase shows it; those that are ticked are decided about."""

    def __init__(self, panel: PanelServices, server: ServerSection) -> None:
        super().__init__(panel)
        self._server = server
        tree = self._ui.statesTree
        tree.header().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        tree.itemSelectionChanged.connect(self._on_select)
        self._ui.approveButton.connect("clicked()", lambda: self._decide(None))
        self._ui.sendBackButton.connect("clicked()", self._on_send_back)
        self._ui.approveSection.collapsed = True
        self._logic.versions_changed.connect(self._fill)
        self._logic.decided.connect(self._on_decided)
        self._logic.study_opened.connect(lambda volume: show_text(self._ui.decisionLabel, ""))

    def refresh(self) -> None:
        """Show the section where there is a label to look at."""
        states = self._logic.versions.states if self._logic.current_study is not None else {}
        self._ui.approveSection.visible = bool(states)
        counts = Counter(known.state for known in states.values())
        told = ", ".join(f"{counts[state]} {text}" for state, text in STATES.items() if counts[state])
        self._ui.approveSection.text = _("Review: {states}").format(states=told) if told else _("Review")
        is_reviewable = any(known.state != "proposed" for known in states.values())
        for widget in (self._ui.approveButton, self._ui.sendBackButton, self._ui.sendBackEdit):
            widget.enabled = is_reviewable

    def _fill(self) -> None:
        tree, states = self._ui.statesTree, self._logic.versions.states
        trusted = [phase for phase, known in states.items() if known.state != "proposed"]
        blocked = tree.blockSignals(True)
        tree.clear()
        for phase, known in sorted(states.items()):
            item = qt.QTreeWidgetItem(tree)
            more = ""
            if known.approved_by:
                more = _("approved by {name}").format(name=known.approved_by)
            elif known.reason:
                more = _("sent back: {reason}").format(reason=known.reason)
            for column, text in enumerate((str(phase), STATES.get(known.state, known.state), known.editor, more)):
                item.setText(column, text)
            item.setToolTip(3, more)  # which is cut off where it is long
            if phase in trusted:
                is_next = known.state == "corrected" or len(trusted) == 1
                item.setCheckState(0, qt.Qt.Checked if is_next else qt.Qt.Unchecked)
        tree.blockSignals(blocked)
        self.refresh()

    def _on_select(self) -> None:
        study, item = self._logic.current_cine, self._ui.statesTree.currentItem()
        if study is not None and item is not None and item.isSelected():
            study.cine.play(False)
            study.cine.show(int(item.text(0)))

    def _on_send_back(self) -> None:
        reason = self._ui.sendBackEdit.text.strip()
        if reason:
            self._decide(reason)
        else:
            self._panel.say(_("Why is it sent back? Write the reason: its labeller reads it."), is_error=True)
            self._ui.sendBackEdit.setFocus()

    def _decide(self, reason: str | None) -> None:
        tree, annotator = self._ui.statesTree, self._server.annotator
        items = [tree.topLevelItem(number) for number in range(tree.topLevelItemCount)]
        phases = [int(item.text(0)) for item in items if item.checkState(0) == qt.Qt.Checked]
        if not phases:
            self._panel.say(_("No phase is ticked: tick those that you have reviewed."), is_error=True)
        elif not annotator:
            self._panel.say(_("Who reviews this label? Enter your name under Server."), is_error=True)
        else:
            self._panel.request(lambda: self._logic.decide(phases, reason, annotator))

    def _on_decided(self, phases: list[int], is_approved: bool, warnings: list[str]) -> None:
        if is_approved:
            sentence = _("{phases} are approved.") if len(phases) > 1 else _("{phases} is approved.")
        else:
            sentence = _("{phases} are sent back.") if len(phases) > 1 else _("{phases} is sent back.")
        decided = sentence.format(phases=name_phases(phases))
        told = warnings if is_approved else []
        show_text(self._ui.decisionLabel, " ".join([decided, *told]), WARNING_STYLE if told else "")
        if not is_approved:
            self._ui.sendBackEdit.text = ""
