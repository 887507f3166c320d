"""The labelling loop on one study after the other: predict, correct, submit. No Qt in here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import slicer

from PratoLabelLib.cardiac_report import CardiacReport, PhaseVolumes, patient_of
from PratoLabelLib.cine_report import report_cine
from PratoLabelLib.cine_study import CineStudy
from PratoLabelLib.client import Client
from PratoLabelLib.geometry import Box, GeometryError, ijk_box_to_roi, roi_to_ijk_box
from PratoLabelLib.nifti_frames import Frames, split_frames
from PratoLabelLib.open_study import OpenStudy
from PratoLabelLib.progress import Progress
from PratoLabelLib.responses import Cost, Prediction, ServerInfo
from PratoLabelLib.segmentation import MaskError
from PratoLabelLib.study_logic import StudyLogic
from PratoLabelLib.volumes import to_file_order
from PratoLabelLib.worker import Signal


class PratoLabelLogic(StudyLogic):
    """What the labeller does with the open study: predict, correct, submit.

    Attributes:
        predicted, submitted: signals; the comment tells what their listeners get.
        locked_structures: structures that predictions leave as they are.
        progress: of a prediction of all phases; None while there is none.
    """

    def __init__(self, make_client: Callable[[str, str], Client] = Client) -> None:
        StudyLogic.__init__(self, make_client)
        self.predicted = Signal()  # the reply's JSON part
        self.submitted = Signal()  # the reply
        self.progressed = Signal()
        self.phases_kept = Signal()  # the phases of a cine that a prediction left as they were
        self.progress: Progress | None = None
        self._told_progress: tuple[int, int] | None = None
        self.locked_structures: set[str] = set()
        self._phases = self._open_phases = PhaseVolumes()
        self._phases_address = ""  # of the server whose studies they are
        self._submissions = 0
        self.connected.connect(self._on_connected)
        self.study_opened.connect(lambda volume: self._measure_other_phases())

    def tick(self, share: float = 0.0) -> None:
        """As for the study's part, and tell how far a prediction of all phases is."""
        StudyLogic.tick(self, share)
        now = None if self.progress is None else (self.progress.done, self.progress.phases)
        if now != self._told_progress:
            self._told_progress = now
            self.progressed.emit()

    # Predict

    def predict(self, model: str, prune: str, rois: Sequence[slicer.vtkMRMLMarkupsROINode], show_tokens: bool = False) -> None:
        """Segment the open study, prompted by ``rois`` (none: the server proposes a box); a pending prediction is cancelled."""
        prompted = self._prompt(rois)
        if prompted is None:
            return
        study, boxes, roi = prompted
        one_phase = {"phases": study.phase} if isinstance(study, CineStudy) else {"return_tokens": show_tokens}
        params: dict[str, Any] = {"prune": prune, **one_phase, **roi}

        def on_prediction(prediction: Prediction) -> None:
            study.apply(prediction, self._folder / "answer.nrrd", boxes, model, self.locked_structures)
            self.predicted.emit(study.reply)

        self._dispatcher.dispatch(lambda client: client.infer(model, study.study, params), on_prediction, "predict")

    def predict_all_phases(self, model: str, prune: str, rois: Sequence[slicer.vtkMRMLMarkupsROINode]) -> None:
        """As :meth:`predict`, of all phases of the open cine, with ``rois`` for each. What somebody has corrected stays as it is."""
        cine, prompted = self.current_study, self._prompt(rois)
        if prompted is None or not isinstance(cine, CineStudy):
            return
        study: CineStudy = cine
        _, boxes, roi = prompted
        params = {"prune": prune, "phases": "all", **roi}
        progress, path = Progress(), self._folder / "answer.nii.gz"

        def infer(client: Client) -> tuple[dict[str, Any], Frames]:
            prediction = client.infer_phases(model, study.study, params, progress)
            path.write_bytes(prediction.mask)
            frames = split_frames(path)
            if frames is None:
                raise MaskError(f"The server has segmented one phase of {study.study} alone: open the study again.")
            return prediction.reply, frames

        def on_prediction(result: tuple[dict[str, Any], Frames]) -> None:
            reply, frames = result
            try:
                left = study.apply_all(reply, frames, boxes, model, self.locked_structures, self.versions.drawn_phases())
            finally:
                path.unlink(missing_ok=True)
                frames.first.unlink(missing_ok=True)
            self.progress = None
            self.predicted.emit(study.reply)
            self.phases_kept.emit(left)

        self.progress = progress
        self._dispatcher.dispatch(infer, on_prediction, "predict", self._forget_progress)

    def _forget_progress(self) -> None:
        self.progress = None

    def _prompt(self, rois: Sequence[slicer.vtkMRMLMarkupsROINode]) -> tuple[OpenStudy, list[Box], dict[str, Any]] | None:
        """The open study, ``rois`` in it, and what of them is sent; None, and ``failed`` says why, where it cannot be segmented."""
        study = self.current_study
        if study is None:
            self.failed.emit("No study is open: open one, or send the volume that is open.")
            return None
        if self.address not in ("", study.server):
            self.failed.emit(f"{study.study} is a study of {study.server}: connect to that server, or open one of this server's.")
            return None
        try:
            boxes = [roi_to_ijk_box(roi, study.volume_node) for roi in rois]
        except GeometryError as error:
            self.failed.emit(str(error))
            return None
        return study, boxes, {"roi": [to_file_order(box, study.volume_node) for box in boxes]} if boxes else {}

    def fit_roi_to_reply(self, roi_node: slicer.vtkMRMLMarkupsROINode) -> None:
        """Make the ROI the box that the server used."""
        study = self.current_study
        if study is None or study.reply is None:
            self.failed.emit("There is no box to draw yet: run a prediction first.")
            return
        ijk_box_to_roi(to_file_order(study.reply["box"], study.volume_node), study.volume_node, roi_node)

    def expected_cost(self, model: str, prune: str, rois: Sequence[slicer.vtkMRMLMarkupsROINode]) -> Cost | None:
        """The server's cost of a slice times the slices inside ``rois`` (none: of the volume); None where it is not known."""
        info, study = self.find_model(model), self.current_study
        if info is None or study is None or prune not in info.cost:
            return None
        try:
            boxes = [roi_to_ijk_box(roi, study.volume_node) for roi in rois]
        except GeometryError:
            return None
        slices = len({k for box in boxes for k in range(box[4], box[5])}) or study.volume_node.GetImageData().GetDimensions()[2]
        return Cost(info.cost[prune].gflops * slices, info.cost[prune].ms * slices)

    # Correct

    def cardiac_report(self) -> CardiacReport | None:
        """The cardiac table for the segments as they are; None while no study is open."""
        study = self.current_study
        if isinstance(study, CineStudy):
            return report_cine(study)
        return self._open_phases.report(study) if study else None

    def choose_phases(self, ed: str, es: str, annotator: str = "") -> None:
        """Let the studies ``ed`` and ``es`` be end diastole and end systole of the open study's patient ("": the volumes tell).

        Of a cine they are the numbers of its phases, which the server is told by ``annotator``.
        """
        if isinstance(self.current_study, CineStudy):
            self.mark_phases(int(ed) if ed else None, int(es) if es else None, annotator)
        elif self.current_study is not None:
            self._open_phases.chosen[patient_of(self.current_study.study)] = (ed, es)
            self.segmentation_changed.emit()

    def mark_phases(self, ed: int | None, es: int | None, annotator: str = "") -> None:
        """Let these phases of the open cine be end-diastole and end-systole, here and on the server (None: as they are found).

        The server hears of it as soon as both are known.
        """
        study = self.current_study
        if not isinstance(study, CineStudy):
            return
        if ed is not None and ed == es:
            self.failed.emit(f"Phase {ed} cannot be both end-diastole and end-systole: choose another one.")
            return
        study.chosen = ed, es
        now = study.ed_es() if ed is not None or es is not None else (None, None)
        if (now[0] is None) == (now[1] is None) and self.address == study.server:
            self._dispatcher.dispatch(
                lambda client: client.mark_phases(study.study, *now, annotator), lambda _: self.refresh_studies(), "mark"
            )
        self.segmentation_changed.emit()

    def _on_connected(self, _: ServerInfo) -> None:
        """Forget the volumes of another server's studies, as the same names mean other studies here. An open study keeps its own table."""
        client = self._dispatcher.client
        if client is not None and client.address != self._phases_address:
            self._phases, self._phases_address = PhaseVolumes(), client.address

    def _measure_other_phases(self) -> None:
        phases, labels, folder = self._phases, self.labels, self._folder
        self._open_phases = phases
        study = self.current_study
        missing = [] if study is None or isinstance(study, CineStudy) else phases.missing(study.study, self.studies)

        def on_labels(paths: dict[str, Path]) -> None:
            try:
                phases.add_labels(paths, labels)
            finally:
                for path in paths.values():
                    path.unlink(missing_ok=True)
            self.segmentation_changed.emit()

        if missing:
            self._dispatcher.dispatch(lambda client: {name: client.download_label(name, folder) for name in missing}, on_labels, "phases")

    # Submit

    def find_problems(self) -> list[str]:
        """What would be sent otherwise, or elsewhere, than the labeller may think, a sentence each."""
        study = self.current_study
        if study is None:
            return []
        elsewhere = [f"{study.study} was opened from {study.server}, and would be sent to {self.address}."]
        return (elsewhere if self.address not in ("", study.server) else []) + study.find_problems()

    def submit(self, annotator: str, accepted: Collection[str] = ()) -> None:
        """Store the segments as the study's final label, with their provenance.

        Args:
            accepted: what of :meth:`find_problems` the labeller knows and wants; anything else is told, and nothing is sent.
        """
        study, autosave = self.current_study, self.autosave
        if study is None:
            self.failed.emit("No study is open: there is nothing to submit.")
            return
        problems = [problem for problem in self.find_problems() if problem not in accepted]
        if problems:
            self.failed.emit(" ".join([*problems, "Nothing was sent."]))
            return
        self._submissions += 1  # each has a file of its own: an earlier one may still be queued
        path = self._folder / f"label{self._submissions}.nii.gz"
        try:
            submission = study.prepare_submission(path)
        except MaskError as error:
            self.failed.emit(str(error))
            return
        info = {"annotator": annotator, **study.provenance, **submission.info}

        def send(client: Client) -> dict[str, Any]:
            submission.finish_file()
            return study.submit_label(client, path, info)

        def on_submitted(reply: dict[str, Any]) -> None:
            path.unlink()
            study.store_base()
            study.mark_sent(submission)
            if autosave is not None:
                autosave.discard()
                autosave.note_change()  # what was edited since it was sent
            self.submitted.emit(reply)
            self.refresh_studies()
            self.versions.load(study.study)

        # in no lane: nothing replaces or cancels a submission
        self._dispatcher.dispatch(send, on_submitted, "")
