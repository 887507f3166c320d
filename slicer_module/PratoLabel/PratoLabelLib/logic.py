"""The labelling loop on one study after the other: open, predict, correct, submit. No Qt in here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import slicer

from PratoLabelLib.cardiac_report import CardiacReport, PhaseVolumes
from PratoLabelLib.client import Client
from PratoLabelLib.geometry import GeometryError, ijk_box_to_roi, roi_to_ijk_box
from PratoLabelLib.open_study import OpenStudy, StudyFiles, download_study, find_node
from PratoLabelLib.responses import Cost, Prediction, ServerInfo
from PratoLabelLib.segmentation import MaskError, read_mask, write_mask
from PratoLabelLib.server_logic import ServerLogic
from PratoLabelLib.volumes import load_volume, write_volume
from PratoLabelLib.worker import Signal


class PratoLabelLogic(ServerLogic):
    """What the labeller does with the scene, on top of what is done with the server.

    A request that cannot be sent, or that fails, leaves the scene as it was and ``failed`` says why.

    Attributes:
        study_opened, predicted, ...: signals; the comment tells what their listeners get.
        locked_structures: structures that predictions leave as they are.
    """

    def __init__(self, make_client: Callable[[str, str], Client] = Client) -> None:
        ServerLogic.__init__(self, make_client)
        self.study_opened = Signal()  # vtkMRMLScalarVolumeNode
        self.predicted = Signal()  # the reply's JSON part
        self.segmentation_changed = Signal()
        self.submitted = Signal()  # the reply
        self.locked_structures: set[str] = set()
        self._temporary = tempfile.TemporaryDirectory(prefix="prato_label_")
        self._folder = Path(self._temporary.name)
        self._phases = self._open_phases = PhaseVolumes()
        self._phases_address = ""  # of the server whose studies they are
        self.connected.connect(self._on_connected)
        self._open_study: OpenStudy | None = None
        self._submissions = 0

    @property
    def current_study(self) -> OpenStudy | None:
        """The study that is open and whose nodes are still in the scene."""
        return self._open_study if self._open_study is not None and self._open_study.is_in_scene else None

    def forget_scene(self) -> None:
        """Let go of all nodes, for example because the scene closes; a pending prediction is cancelled."""
        self.cancel()
        if self._open_study is not None:
            self._open_study.close()
            self._open_study = None

    # Study

    def open_next(self, strategy: str, model: str) -> None:
        """Open the study that ``strategy`` picks to be labelled next, scored by ``model``; a pending prediction is cancelled."""
        self.cancel()
        folder = self._folder
        self._dispatcher.dispatch(
            lambda client: download_study(client, client.next_study(strategy, model), False, folder), self._on_downloaded, "study"
        )

    def open_study(self, study_id: str) -> None:
        """Open a study, with its final label if it has one. One that is in the scene already is shown as it was left.

        A pending prediction is cancelled.
        """
        self.cancel()
        node = find_node("vtkMRMLScalarVolumeNode", study_id)
        if node is not None and self.info is not None:
            self._show_study(study_id, node, None, None)
            return
        is_labelled, folder = any(study.labelled for study in self.studies if study.id == study_id), self._folder
        self._dispatcher.dispatch(lambda client: download_study(client, study_id, is_labelled, folder), self._on_downloaded, "study")

    def send_volume(self, volume_node: slicer.vtkMRMLScalarVolumeNode | None, study_id: str) -> None:
        """Add the volume of the scene to the server's studies as ``study_id``, and open it there."""
        if volume_node is None or volume_node.GetImageData() is None:
            self.failed.emit("There is no volume to send: open an image first.")
            return
        path = self._folder / "sent.nii.gz"
        if not write_volume(volume_node, path):
            self.failed.emit(f"{volume_node.GetName()} cannot be written to {path}: free some disk space.")
            return

        def on_uploaded(study: str) -> None:
            self._show_study(study, volume_node, None, 0)
            self.refresh_studies()

        self._dispatcher.dispatch(lambda client: client.upload_image(study_id, path), on_uploaded, "study")

    def _on_downloaded(self, files: StudyFiles) -> None:
        node = find_node("vtkMRMLScalarVolumeNode", files.study) or load_volume(files.image, files.study)
        if node is None:
            self.failed.emit(f"The image of {files.study} cannot be read: check whether it opens in the module Add Data.")
            return
        self._show_study(files.study, node, files.label, files.version)

    def _show_study(self, study: str, volume_node: slicer.vtkMRMLScalarVolumeNode, label: Path | None, version: int | None) -> None:
        mask = read_mask(label, volume_node, self.labels) if label else None
        client = self._dispatcher.client
        base = None if version is None or client is None else (client.address, version)
        self.forget_scene()
        self._open_phases = self._phases
        self._open_study = OpenStudy(study, volume_node, self.labels, mask, base, self.segmentation_changed.emit)
        self.study_opened.emit(volume_node)
        self.segmentation_changed.emit()
        self._measure_other_phases(study)

    # Predict

    def predict(self, model: str, prune: str, rois: Sequence[slicer.vtkMRMLMarkupsROINode], show_tokens: bool = False) -> None:
        """Segment the open study, prompted by ``rois`` (none: the server proposes a box); a pending prediction is cancelled."""
        study = self.current_study
        if study is None:
            self.failed.emit("No study is open: open one, or send the volume that is open.")
            return
        try:
            boxes = [roi_to_ijk_box(roi, study.volume_node) for roi in rois]
        except GeometryError as error:
            self.failed.emit(str(error))
            return
        params: dict[str, Any] = {"prune": prune, "return_tokens": show_tokens}
        if boxes:
            params["roi"] = [list(box) for box in boxes]

        def on_prediction(prediction: Prediction) -> None:
            study.apply(prediction, self._folder / "answer.nrrd", boxes, model, self.locked_structures)
            self.predicted.emit(study.reply)

        self._dispatcher.dispatch(lambda client: client.infer(model, study.study, params), on_prediction, "predict")

    def cancel(self) -> None:
        """Drop the pending prediction and the pending opening of a study."""
        self._worker.cancel("predict")
        self._worker.cancel("study")

    def fit_roi_to_reply(self, roi_node: slicer.vtkMRMLMarkupsROINode) -> None:
        """Make the ROI the box that the server used."""
        study = self.current_study
        if study is None or study.reply is None:
            self.failed.emit("There is no box to draw yet: run a prediction first.")
            return
        ijk_box_to_roi(study.reply["box"], study.volume_node, roi_node)

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

    def _on_connected(self, _: ServerInfo) -> None:
        """Forget the volumes of another server's studies, as the same names mean other studies here. An open study keeps its own table."""
        client = self._dispatcher.client
        if client is not None and client.address != self._phases_address:
            self._phases, self._phases_address = PhaseVolumes(), client.address

    def _measure_other_phases(self, study: str) -> None:
        phases, labels, folder = self._open_phases, self.labels, self._folder
        missing = phases.missing(study, self.studies)

        def on_labels(paths: dict[str, Path]) -> None:
            phases.add_labels(paths, labels)
            self.segmentation_changed.emit()

        if missing:
            self._dispatcher.dispatch(lambda client: {name: client.download_label(name, folder) for name in missing}, on_labels, "phases")

    # Submit

    def submit(self, annotator: str) -> None:
        """Store the segments as the study's final label, with their provenance."""
        study = self.current_study
        if study is None:
            self.failed.emit("No study is open: there is nothing to submit.")
            return
        mask = study.mask()
        if not mask.any():
            self.failed.emit("The segments are empty: draw at least one structure before you submit.")
            return
        self._submissions += 1  # each has a file of its own: an earlier one may still be queued
        path = self._folder / f"label{self._submissions}.nii.gz"
        try:
            write_mask(path, mask, study.volume_node)
        except MaskError as error:
            self.failed.emit(str(error))
            return
        provenance = {name: study.reply[name] for name in ("model", "model_version", "box", "box_source")} if study.reply else {}
        info = {"annotator": annotator, **provenance}

        def on_submitted(reply: dict[str, Any]) -> None:
            path.unlink()
            study.store_base()
            self.submitted.emit(reply)
            self.refresh_studies()

        # in no lane: nothing replaces or cancels a submission
        self._dispatcher.dispatch(lambda client: study.submit_label(client, path, info), on_submitted, "")

    def close(self) -> None:
        """As for the server's part, and let go of the scene."""
        self.forget_scene()
        ServerLogic.close(self)
        self._temporary.cleanup()
