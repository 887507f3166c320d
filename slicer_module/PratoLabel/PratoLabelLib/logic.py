"""The labelling loop on one study after the other: predict, correct, submit. No Qt in here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import slicer

from PratoLabelLib.cardiac_report import CardiacReport, PhaseVolumes, patient_of
from PratoLabelLib.client import Client
from PratoLabelLib.geometry import GeometryError, ijk_box_to_roi, roi_to_ijk_box
from PratoLabelLib.responses import Cost, Prediction, ServerInfo
from PratoLabelLib.segmentation import MaskError, write_mask
from PratoLabelLib.study_logic import StudyLogic
from PratoLabelLib.volumes import to_file_order
from PratoLabelLib.worker import Signal


class PratoLabelLogic(StudyLogic):
    """What the labeller does with the open study: predict, correct, submit.

    Attributes:
        predicted, submitted: signals; the comment tells what their listeners get.
        locked_structures: structures that predictions leave as they are.
    """

    def __init__(self, make_client: Callable[[str, str], Client] = Client) -> None:
        StudyLogic.__init__(self, make_client)
        self.predicted = Signal()  # the reply's JSON part
        self.submitted = Signal()  # the reply
        self.locked_structures: set[str] = set()
        self._phases = self._open_phases = PhaseVolumes()
        self._phases_address = ""  # of the server whose studies they are
        self._submissions = 0
        self.connected.connect(self._on_connected)
        self.study_opened.connect(lambda volume: self._measure_other_phases())

    # Predict

    def predict(self, model: str, prune: str, rois: Sequence[slicer.vtkMRMLMarkupsROINode], show_tokens: bool = False) -> None:
        """Segment the open study, prompted by ``rois`` (none: the server proposes a box); a pending prediction is cancelled."""
        study = self.current_study
        if study is None:
            self.failed.emit("No study is open: open one, or send the volume that is open.")
            return
        if self.address not in ("", study.server):
            self.failed.emit(f"{study.study} is a study of {study.server}: connect to that server, or open one of this server's.")
            return
        try:
            boxes = [roi_to_ijk_box(roi, study.volume_node) for roi in rois]
        except GeometryError as error:
            self.failed.emit(str(error))
            return
        params: dict[str, Any] = {"prune": prune, "return_tokens": show_tokens}
        if boxes:
            params["roi"] = [to_file_order(box, study.volume_node) for box in boxes]

        def on_prediction(prediction: Prediction) -> None:
            study.apply(prediction, self._folder / "answer.nrrd", boxes, model, self.locked_structures)
            self.predicted.emit(study.reply)

        self._dispatcher.dispatch(lambda client: client.infer(model, study.study, params), on_prediction, "predict")

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
        return self._open_phases.report(self.current_study) if self.current_study else None

    def choose_phases(self, ed: str, es: str) -> None:
        """Let the studies ``ed`` and ``es`` be end diastole and end systole of the open study's patient ("": the volumes tell)."""
        if self.current_study is not None:
            self._open_phases.chosen[patient_of(self.current_study.study)] = (ed, es)
            self.segmentation_changed.emit()

    def _on_connected(self, _: ServerInfo) -> None:
        """Forget the volumes of another server's studies, as the same names mean other studies here. An open study keeps its own table."""
        client = self._dispatcher.client
        if client is not None and client.address != self._phases_address:
            self._phases, self._phases_address = PhaseVolumes(), client.address

    def _measure_other_phases(self) -> None:
        phases, labels, folder = self._phases, self.labels, self._folder
        self._open_phases = phases
        missing = phases.missing(self.current_study.study, self.studies) if self.current_study else []

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
        mask = study.mask()
        if problems or not mask.any():
            empty = "The segments are empty: draw at least one structure before you submit."
            self.failed.emit(" ".join([*problems, "Nothing was sent."]) if problems else empty)
            return
        self._submissions += 1  # each has a file of its own: an earlier one may still be queued
        path = self._folder / f"label{self._submissions}.nii.gz"
        try:
            write_mask(path, mask, study.volume_node)
        except MaskError as error:
            self.failed.emit(str(error))
            return
        info = {"annotator": annotator, **study.provenance}

        def on_submitted(reply: dict[str, Any]) -> None:
            path.unlink()
            study.store_base()
            study.mark_sent(mask)
            if autosave is not None:
                autosave.discard()
                autosave.note_change()  # what was edited since it was sent
            self.submitted.emit(reply)
            self.refresh_studies()
            self.versions.load(study.study)

        # in no lane: nothing replaces or cancels a submission
        self._dispatcher.dispatch(lambda client: study.submit_label(client, path, info), on_submitted, "")
