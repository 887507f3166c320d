"""The labelling loop on one study after the other: predict, correct, submit, review. No Qt in here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from PratoLabelLib.clicks.click_logic import ClickLogic
from PratoLabelLib.errors import UserError
from PratoLabelLib.reports.cardiac_report import CardiacReport, PhaseVolumes, patient_of
from PratoLabelLib.reports.cine_report import report_cine
from PratoLabelLib.scene.segmentation import MaskError
from PratoLabelLib.server.client import Client
from PratoLabelLib.server.responses import ServerInfo
from PratoLabelLib.server.worker import Signal
from PratoLabelLib.studies.cine_study import CineStudy
from PratoLabelLib.studies.open_study import OpenStudy
from PratoLabelLib.studies.study_files import RequestFolder, Submission, send_label
from PratoLabelLib.translation import translator

_ = translator(__file__)

LABEL_FILE = "label.nii.gz"


class PratoLabelLogic(ClickLogic):
    """What the labeller does with the open study: predict, correct, submit; and what a second person decides.

    Attributes:
        submitted, decided: signals; the comment tells what their listeners get.
    """

    def __init__(self, make_client: Callable[[str, str], Client] = Client) -> None:
        ClickLogic.__init__(self, make_client)
        self.submitted = Signal()  # the reply
        self.decided = Signal()  # phases, whether they were approved, and what speaks against them
        self._phases = self._open_phases = PhaseVolumes()
        self._phases_address = ""  # of the server whose studies they are
        self._on_their_way: dict[RequestFolder, tuple[OpenStudy, str, str, Submission]] = {}  # of what, where to and by whom
        self.connected.connect(self._on_connected)
        self.study_opened.connect(lambda volume: self._measure_other_phases())

    # Correct

    def cardiac_report(self) -> CardiacReport | None:
        """The cardiac table for the segments as they are; None while no study is open."""
        study = self.current_study
        if isinstance(study, CineStudy):
            return report_cine(study)
        return self._open_phases.report(study) if study else None

    def choose_phases(self, ed: str, es: str, annotator: str) -> None:
        """Let the studies ``ed`` and ``es`` be end diastole and end systole of the open study's patient ("": the volumes tell).

        Of a cine they are the numbers of its phases, which the server is told by ``annotator``.
        """
        study = self.current_study
        if isinstance(study, CineStudy):
            self.mark_phases(int(ed) if ed else None, int(es) if es else None, annotator)
        elif study is not None:
            if ed and ed == es:
                self.failed.emit(_("{ed} cannot be both end-diastole and end-systole: choose another one.").format(ed=ed))
            else:
                self._open_phases.chosen[patient_of(study.study)] = (ed, es)
            self.segmentation_changed.emit()

    @property
    def chosen_phases(self) -> tuple[str, str]:
        """What was chosen for the open study, as :meth:`choose_phases` takes it."""
        study = self.current_study
        if isinstance(study, CineStudy):
            ed, es = ("" if phase is None else str(phase) for phase in study.chosen)
            return ed, es
        return self._open_phases.chosen.get(patient_of(study.study), ("", "")) if study is not None else ("", "")

    def mark_phases(self, ed: int | None, es: int | None, annotator: str) -> None:
        """Let these phases of the open cine be end-diastole and end-systole, here and on the server (None: as they are found).

        The server hears of it as soon as both are known.
        """
        study = self.current_study
        if not isinstance(study, CineStudy):
            return
        try:
            if ed is not None and ed == es:
                raise UserError(_("Phase {ed} cannot be both end-diastole and end-systole: choose another one.").format(ed=ed))
            study.require_server(self.address)
        except UserError as error:
            self.failed.emit(str(error))
            self.segmentation_changed.emit()  # what was chosen before is shown again
            return
        before, study.chosen = study.chosen, (ed, es)

        def take_back() -> None:
            study.chosen = before
            self.segmentation_changed.emit()

        now = study.ed_es() if ed is not None or es is not None else (None, None)
        if (now[0] is None) == (now[1] is None) and self.address == study.server:
            self._dispatcher.dispatch(
                lambda client: client.mark_phases(study.study, *now, annotator), lambda _: self.refresh_studies(), "mark", take_back
            )
        self.segmentation_changed.emit()

    def _on_connected(self, _: ServerInfo) -> None:
        """Forget the volumes of another server's studies, as the same names mean other studies here. An open study keeps its own table."""
        client = self._dispatcher.client
        if client is not None and client.address != self._phases_address:
            self._phases, self._phases_address = PhaseVolumes(), client.address

    def _measure_other_phases(self) -> None:
        phases, labels, folder = self._phases, self.labels, self._temporary.new()
        self._open_phases = phases
        study = self.current_study
        missing = [] if study is None or isinstance(study, CineStudy) else phases.missing(study.study, self.studies)

        def on_labels(paths: dict[str, Path]) -> None:
            phases.add_labels(paths, labels)
            self.segmentation_changed.emit()

        if missing:
            self._dispatcher.dispatch(
                lambda client: {name: client.download_label(name, folder.path) for name in missing}, on_labels, "phases"
            )

    # Submit

    def find_problems(self) -> list[str]:
        """What would be sent otherwise, or elsewhere, than the labeller may think, a sentence each."""
        study = self.current_study
        if study is None:
            return []
        elsewhere = [
            _("{study} was opened from {server}, and would be sent to {address}.").format(
                study=study.study, server=study.server, address=self.address
            )
        ]
        waiting = [_("Clicks are still waiting for the server: their changes would not be sent.")]
        problems = (elsewhere if self.address not in ("", study.server) else []) + study.find_problems()
        return problems + (waiting if self.clicks_waiting else [])

    def submit(self, annotator: str, accepted: Collection[str] = ()) -> None:
        """Store the segments as the study's final label, with their provenance.

        Args:
            accepted: what of :meth:`find_problems` the labeller knows and wants; anything else is told, and nothing is sent.
        """
        study, autosave = self.current_study, self.autosave
        if study is None:
            self.failed.emit(_("No study is open: there is nothing to submit."))
            return
        problems = [problem for problem in self.find_problems() if problem not in accepted]
        if problems:
            self.failed.emit(" ".join([*problems, _("Nothing was sent.")]))
            return
        continued: frozenset[Path] = frozenset()
        if autosave is not None:
            autosave.save()  # so that what is sent is in a draft of its own until it is known to be stored
            continued = frozenset(autosave.continued)
        written = self._write_submission(study, annotator)
        if written is None:
            return
        folder, submission = written

        def note_arrival() -> None:
            del self._on_their_way[folder]

        info, base, clicks = {"annotator": annotator, **study.provenance, **submission.info}, study.base, self.clicks_sent()
        info |= {"clicks": clicks} if clicks else {}
        checksum = study.image_checksum if study.server == self.address else None

        def send(client: Client) -> dict[str, Any]:
            submission.finish_file()
            reply, study.base = send_label(
                client, study.study, folder.path / LABEL_FILE, info, study.base, checksum
            )  # an earlier one may have been sent by now
            return reply

        def on_submitted(reply: dict[str, Any]) -> None:
            note_arrival()
            shown, keeper = self._find_shown(study, autosave)
            shown.base = study.base
            shown.store_base()
            shown.mark_sent(submission, reply, base)
            if keeper is not None:
                keeper.note_sent(submission.drawings, continued)
            self.submitted.emit(reply)
            self.refresh_studies()
            self.versions.load(study)

        # in no lane: nothing replaces or cancels a submission
        self._dispatcher.dispatch(send, on_submitted, "", note_arrival)

    def _write_submission(self, study: OpenStudy, annotator: str) -> tuple[RequestFolder, Submission] | None:
        """The folder with the file of what is about to be sent, and what it is; None where nothing is to be sent."""
        folder = self._temporary.new()  # an earlier one may still be queued
        try:
            submission = study.prepare_submission(folder.path / LABEL_FILE)
        except MaskError as error:
            self.failed.emit(str(error))
            return None
        about = study, self.address, annotator
        before = next((sent for sent in reversed(self._on_their_way.values()) if sent[:3] == about), None)
        if before is not None and before[3].is_like(submission):
            return None  # the button was pressed twice: it is being sent
        self._on_their_way[folder] = (*about, submission)
        return folder, submission

    # Review

    def review_open_study(self, state: str, reason: str, annotator: str) -> None:
        """As :meth:`review_study`, of the open study.

        Raises:
            UserError: it is another server's.
        """
        study = self.current_study
        if study is not None:
            study.require_server(self.address)
            self.review_study(study.study, state, reason, annotator)

    def decide(self, phases: Sequence[int], reason: str | None, annotator: str) -> None:
        """Approve phases of the open study's label, or send them back to their labellers for a ``reason``.

        ``decided`` follows, if the study is still open then.
        """
        study = self.current_study
        if study is None:
            self.failed.emit(_("No study is open: open the one that you want to review."))
            return
        try:
            self.versions.decide(study, phases, reason, annotator, lambda warnings: self.decided.emit([*phases], reason is None, warnings))
        except UserError as error:
            self.failed.emit(str(error))
