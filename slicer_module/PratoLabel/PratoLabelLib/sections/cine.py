"""The phases of a cine: shown one by one or played, marked as end-diastole and end-systole, and segmented all at once."""

from __future__ import annotations

import slicer

from PratoLabelLib.reports.cine_report import show_curve, update_curve
from PratoLabelLib.scene.phase_edits import mark_ed_es, name_phases
from PratoLabelLib.sections import PanelServices, Section, show_text
from PratoLabelLib.sections.box import BoxSection
from PratoLabelLib.sections.segment import SegmentSection
from PratoLabelLib.sections.server import ServerSection
from PratoLabelLib.translation import translator

_ = translator(__file__)


class CineSection(Section):
    """There while a cine is open, and not with a study of one phase."""

    def __init__(self, panel: PanelServices, server: ServerSection, box: BoxSection, segment: SegmentSection) -> None:
        super().__init__(panel)
        self._server, self._box, self._segment = server, box, segment
        self._shows_ed_next = False  # once all phases are segmented
        self._ui.playButton.connect("toggled(bool)", self._on_play)
        self._ui.phaseSlider.connect("valueChanged(int)", self._on_slide)
        for button, which in ((self._ui.goEdButton, 0), (self._ui.goEsButton, 1)):
            button.connect("clicked()", lambda which=which: self._go(which))
        for button, which in ((self._ui.markEdButton, 0), (self._ui.markEsButton, 1)):
            button.connect("clicked()", lambda which=which: self._mark(which))
        self._ui.allPhasesButton.connect("clicked()", self.segment_all)
        self._ui.propagateButton.connect("clicked()", self._on_propagate)
        self._ui.curveButton.connect("clicked()", self._on_curve)
        self._logic.phase_shown.connect(self._show_phase)
        self._logic.phases_kept.connect(self._on_kept)
        self._logic.phases_followed.connect(self._on_followed)
        self._logic.study_opened.connect(lambda volume: self._on_opened())
        self._logic.progressed.connect(self._show_progress)

    def refresh(self) -> None:
        """Show the controls of a cine where one is open."""
        study = self._logic.current_cine
        self._ui.cineFrame.visible = self._ui.curveButton.visible = study is not None
        self._ui.runButton.text = _("Segment") if study is None else _("Segment this phase")
        self._show_progress()
        self._show_phase()
        self._show_submission()
        if study is not None:
            self._ui.allPhasesButton.enabled = self._segment.is_ready
            has_keys = bool(study.drawn or study.edited)
            self._ui.propagateButton.enabled = self._segment.is_ready and has_keys

    def segment_all(self, then_show_ed: bool = False) -> None:
        """Segment all phases in the box that is drawn, or else in the one that the server proposes."""
        self._shows_ed_next = then_show_ed
        self._ui.cineProgress.format = _("%v of %m phases")
        self._box.discard_proposal()
        self._segment.run_all_phases(self._box.selected_rois())

    def update_curve(self) -> None:
        """The volumes were measured."""
        study = self._logic.current_cine
        if study is not None:
            update_curve(study)

    def _on_opened(self) -> None:
        show_text(self._ui.keptLabel, "")
        study = self._logic.current_cine
        if study is not None:
            slicer.modules.sequences.showSequenceBrowser(study.cine.browser)  # Slicer's toolbar would keep the cine before

    def _show_phase(self) -> None:
        study, slider, play = self._logic.current_cine, self._ui.phaseSlider, self._ui.playButton
        if study is None:
            return
        blocked = slider.blockSignals(True), play.blockSignals(True)
        slider.maximum, slider.value, play.checked = study.cine.count - 1, study.phase, study.cine.is_playing
        slider.blockSignals(blocked[0])
        play.blockSignals(blocked[1])
        self._ui.phaseNowLabel.text = _("{phase} ({count} phases)").format(phase=study.cine.describe(study.phase), count=study.cine.count)

    def _show_submission(self) -> None:
        study = self._logic.current_cine
        if study is None or study.cine.is_playing:
            show_text(self._ui.phasesLabel, "")
            return
        ed, es = study.ed_es()
        for button, phase in ((self._ui.goEdButton, ed), (self._ui.goEsButton, es)):
            button.enabled = phase is not None
        phases = study.phases_to_submit()
        names = mark_ed_es(phases, (ed, es))
        corrected = _("To be sent as corrected: phases {phases}.") if len(names) > 1 else _("To be sent as corrected: phase {phases}.")
        told = [corrected.format(phases=", ".join(names)) if names else _("No phase is corrected.")]
        there = {*phases, *study.unchanged_phases()}
        missing = [name for name, phase in (("ED", ed), ("ES", es)) if phase not in there]
        if len(missing) > 1:
            told.append(_("View ED and ES to send them as corrected, too."))
        elif missing:
            told.append(_("View {phase} to send it as corrected, too.").format(phase=missing[0]))
        show_text(self._ui.phasesLabel, " ".join(told))

    def _show_progress(self) -> None:
        progress, bar = self._logic.progress, self._ui.cineProgress
        bar.visible = progress is not None
        if progress is not None:
            bar.maximum, bar.value = progress.phases, progress.done

    def _on_play(self, is_on: bool) -> None:
        if self._logic.current_cine is not None:
            self._logic.current_cine.cine.play(is_on)

    def _on_slide(self, phase: int) -> None:
        if self._logic.current_cine is not None:
            self._logic.current_cine.cine.show(phase)

    def _go(self, which: int) -> None:
        study = self._logic.current_cine
        phase = study.ed_es()[which] if study is not None else None
        if study is not None and phase is not None:
            study.cine.play(False)
            study.cine.show(phase)

    def _mark(self, which: int) -> None:
        study = self._logic.current_cine
        if study is None:
            return
        chosen = [*study.chosen]
        chosen[which] = study.phase
        self._logic.mark_phases(chosen[0], chosen[1], self._server.annotator)
        self._panel.refresh()
        if study.chosen != tuple(chosen):  # refused, which was said
            return
        names, known = ("ED", "ES"), study.ed_es()
        if known[1 - which] is None:  # nothing is segmented that would tell
            sentence = _("{this} is phase {phase}. Mark {other}, too: the server keeps both or neither.")
            self._panel.say(sentence.format(this=names[which], phase=known[which], other=names[1 - which]))
        else:
            self._panel.say(_("ED is phase {ed}, and ES is phase {es}.").format(ed=known[0], es=known[1]))

    def _on_kept(self, phases: list[int]) -> None:
        kept = _("{phases} stay as corrected.") if len(phases) > 1 else _("{phases} stays as corrected.")
        show_text(self._ui.keptLabel, kept.format(phases=name_phases(phases)) if phases else "")
        if self._shows_ed_next:
            self._shows_ed_next = False
            self._go(0)

    def _on_propagate(self) -> None:
        self._ui.cineProgress.format = _("%v of %m steps")
        self._box.discard_proposal()
        self._segment.propagate(self._box.selected_rois())

    def _on_followed(self, phases: list[int], keys: list[int]) -> None:
        what = _("No phase follows {keys}: all others are drawn.")
        if len(phases) > 1:
            what = _("{phases} follow {keys}: check the cine, then submit.")
        elif phases:
            what = _("{phases} follows {keys}: check the cine, then submit.")
        named = name_phases(phases) if phases else ""
        show_text(self._ui.keptLabel, what.format(phases=named, keys=name_phases(keys, begins=False)))

    def _on_curve(self) -> None:
        study = self._logic.current_cine
        if study is None:
            return
        chart, layout = show_curve(study), slicer.app.layoutManager()
        if layout is not None:  # there is none without a main window
            slicer.modules.plots.logic().ShowChartInLayout(chart)
        self._panel.say(_("The volumes of {study} are plotted in {chart}.").format(study=study.study, chart=chart.GetName()))
