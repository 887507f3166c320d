"""The labelling loop on one study after the other: open, predict, correct, submit. No Qt in here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PratoLabelLib.answers import Answer, Cost, ServerInfo
from PratoLabelLib.client import Client
from PratoLabelLib.costs import expected_cost
from PratoLabelLib.geometry import GeometryError, ijk_box_to_roi, roi_to_ijk_box
from PratoLabelLib.open_study import OpenStudy, node_of
from PratoLabelLib.phases import Phases
from PratoLabelLib.report import CardiacReport
from PratoLabelLib.segmentation import MaskError, read_mask, write_mask
from PratoLabelLib.server_logic import ServerLogic
from PratoLabelLib.signal import Signal
from PratoLabelLib.transfers import Fetched, fetched, submitted
from PratoLabelLib.volume_file import load_image, write_from


class PratoLabelLogic(ServerLogic):
    """What the labeller does with the scene, on top of what is done with the server.

    A request that cannot be made, or that fails, leaves the scene as it was and says why through ``failed``.

    Attributes:
        study_opened, predicted, ...: signals, with what their listeners get.
        locked: structures that predictions leave alone.
    """

    def __init__(self, make_client: Callable[[str, str], Client] = Client) -> None:
        ServerLogic.__init__(self, make_client)
        self.study_opened = Signal()  # vtkMRMLScalarVolumeNode
        self.predicted = Signal()  # the reply's JSON part
        self.segmentation_changed = Signal()
        self.submitted = Signal()  # the reply
        self.locked: set[str] = set()
        self._temporary = tempfile.TemporaryDirectory(prefix="prato_label_")
        self._folder = Path(self._temporary.name)
        self._phases = self._open_phases = Phases()
        self._measured_at = ""
        self.connected.connect(self._measure_at)
        self._open: OpenStudy | None = None
        self._submissions = 0

    @property
    def open(self) -> OpenStudy | None:
        """The study that is open and whose nodes are still in the scene."""
        return self._open if self._open is not None and self._open.in_scene else None

    def forget_scene(self) -> None:
        """Let go of all nodes, for example because the scene closes; a prediction under way is cancelled."""
        self.cancel()
        if self._open is not None:
            self._open.leave()
            self._open = None

    # Study

    def open_next(self, strategy: str, model: str) -> None:
        """Open the study that ``strategy`` would have labelled next, as ``model`` judges; a prediction under way is not wanted any more."""
        self.cancel()
        folder = self._folder
        self._ask(lambda client: fetched(client, client.next_study(strategy, model), False, folder), self._show_study, "study")

    def open_study(self, study_id: str) -> None:
        """Open a study, with its final label if it has one. One that is in the scene already is shown as it was left.

        A prediction under way is not wanted any more.
        """
        self.cancel()
        node = node_of("vtkMRMLScalarVolumeNode", study_id)
        if node is not None and self.info is not None:
            self._adopt(study_id, node, None, None)
            return
        labelled, folder = any(study.labelled for study in self.studies if study.id == study_id), self._folder
        self._ask(lambda client: fetched(client, study_id, labelled, folder), self._show_study, "study")

    def send_volume(self, volume_node: Any, study_id: str) -> None:
        """Add the volume of the scene to the server's studies as ``study_id``, and open it there."""
        if volume_node is None or volume_node.GetImageData() is None:
            self.failed.emit("There is no volume to send: open an image first.")
            return
        path = self._folder / "sent.nii.gz"
        if not write_from(volume_node, path):
            self.failed.emit(f"{volume_node.GetName()} cannot be written to {path}: make room on the disk.")
            return

        def arrived(stored: str) -> None:
            self._adopt(stored, volume_node, None, 0)
            self.refresh_studies()

        self._ask(lambda client: client.upload_image(study_id, path), arrived, "study")

    def _show_study(self, found: Fetched) -> None:
        study, image, label, version = found
        node = node_of("vtkMRMLScalarVolumeNode", study) or load_image(image, study)
        if node is None:
            self.failed.emit(f"The image of {study} cannot be read: see whether it opens in the module Add Data.")
            return
        self._adopt(study, node, label, version)

    def _adopt(self, study: str, volume_node: Any, label: Path | None, version: int | None) -> None:
        mask = read_mask(label, volume_node, self.labels) if label else None
        client = self._asking.client
        base = None if version is None or client is None else (client.address, version)
        self.forget_scene()
        self._open_phases = self._phases
        self._open = OpenStudy(study, volume_node, self.labels, mask, base, self.segmentation_changed.emit)
        self.study_opened.emit(volume_node)
        self.segmentation_changed.emit()
        self._measure_other_phases(study)

    # Predict

    def predict(self, model: str, prune: str, rois: Sequence[Any], show_tokens: bool = False) -> None:
        """Segment the open study, prompted by ``rois`` (none: the server proposes a box); an earlier prediction under way is cancelled."""
        opened = self.open
        if opened is None:
            self.failed.emit("No study is open: open one, or send the volume that is open.")
            return
        try:
            boxes = [roi_to_ijk_box(roi, opened.volume_node) for roi in rois]
        except GeometryError as error:
            self.failed.emit(str(error))
            return
        params: dict[str, Any] = {"prune": prune, "return_tokens": show_tokens}
        if boxes:
            params["roi"] = [list(box) for box in boxes]

        def arrived(answer: Answer) -> None:
            opened.take(answer, self._folder / "answer.nrrd", boxes, model, self.locked)
            self.predicted.emit(opened.reply)

        self._ask(lambda client: client.infer(model, opened.study, params), arrived, "predict")

    def cancel(self) -> None:
        """Drop the prediction, or the opening of a study, that is under way."""
        self._worker.cancel("predict")
        self._worker.cancel("study")

    def box_from_reply(self, roi_node: Any) -> None:
        """Draw the box that the server used as the ROI."""
        if self.open is None or self.open.reply is None:
            self.failed.emit("There is no box to draw yet: run a prediction first.")
            return
        ijk_box_to_roi(self.open.reply["box"], self.open.volume_node, roi_node)

    def expected_cost(self, model: str, prune: str, rois: Sequence[Any]) -> Cost | None:
        """What the prediction would take; None where nobody knows it."""
        offered, opened = self.model(model), self.open
        return expected_cost(offered.cost, prune, rois, opened.volume_node) if offered and opened else None

    # Correct

    def cardiac(self) -> CardiacReport | None:
        """The cardiac table for the segments as they are; None while no study is open."""
        return self._open_phases.report(self.open) if self.open else None

    def _measure_at(self, _: ServerInfo) -> None:
        """Forget the volumes of another server's studies: those of the same name here are others. An open study keeps its own table."""
        address = self._asking.client.address
        if address != self._measured_at:
            self._phases, self._measured_at = Phases(), address

    def _measure_other_phases(self, study: str) -> None:
        phases, labels, folder = self._open_phases, self.labels, self._folder
        others = phases.missing(study, self.studies)

        def arrived(paths: dict[str, Path]) -> None:
            phases.add(paths, labels)
            self.segmentation_changed.emit()

        if others:
            self._ask(lambda client: {other: client.download_label(other, folder) for other in others}, arrived, "phases")

    # Submit

    def submit(self, annotator: str) -> None:
        """Store the segments as the study's final label, with where they come from."""
        opened = self.open
        if opened is None:
            self.failed.emit("No study is open: there is nothing to submit.")
            return
        mask = opened.mask()
        if not mask.any():
            self.failed.emit("The segments are empty: draw at least one structure before you submit.")
            return
        self._submissions += 1  # each has a file of its own: an earlier one may still wait for its turn
        path = self._folder / f"label{self._submissions}.nii.gz"
        try:
            write_mask(path, mask, opened.volume_node)
        except MaskError as error:
            self.failed.emit(str(error))
            return
        prediction = {name: opened.reply[name] for name in ("model", "model_version", "box", "box_source")} if opened.reply else {}
        info = {"annotator": annotator, **prediction}

        def arrived(reply: dict[str, Any]) -> None:
            path.unlink()
            opened.keep_base()
            self.submitted.emit(reply)
            self.refresh_studies()

        # in no lane: nothing replaces or cancels a submission
        self._ask(lambda client: submitted(client, opened, path, info), arrived, "")

    def close(self) -> None:
        """As the server's part, and let go of the scene."""
        self.forget_scene()
        ServerLogic.close(self)
        self._temporary.cleanup()
