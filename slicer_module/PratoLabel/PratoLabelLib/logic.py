"""The labelling loop: connect, open, predict, correct, submit, train. No Qt in here."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PratoLabelLib import training
from PratoLabelLib.answers import Answer, Cost, Model, ServerInfo, Study, TrainingState
from PratoLabelLib.cardiac import Volumes
from PratoLabelLib.client import Cancelled, Client, ServerError
from PratoLabelLib.geometry import Box, GeometryError, ijk_box_to_roi, roi_to_ijk_box
from PratoLabelLib.open_study import OpenStudy, node_of
from PratoLabelLib.report import CardiacReport, patient_of, report, stored_volumes
from PratoLabelLib.segmentation import MaskError, read_mask, write_mask
from PratoLabelLib.signal import Signal
from PratoLabelLib.volume_file import load_image, write_from
from PratoLabelLib.worker import Worker

_logger = logging.getLogger(__name__)
_COSTS = "costs"
_ASK_COSTS_S = 5.0
#: A study, its image, and its label with the label's version where there are any.
_Fetched = tuple[str, Path, Path | None, int | None]


class PratoLabelLogic:
    """Everything over the network happens in one worker thread; results arrive in :meth:`tick`, on the thread that calls it.

    A request that cannot be made, or that fails, leaves the scene as it was and says why through ``failed``.

    Attributes:
        connected, failed, ...: signals, with what their listeners get.
        info, studies: what the server said; None or empty before.
        locked: structures that predictions leave alone.
    """

    def __init__(self, make_client: Callable[[str, str], Client] = Client) -> None:
        self.connected = Signal()  # ServerInfo
        self.costs_known = Signal()  # the server has measured its models since
        self.failed = Signal()  # one sentence
        self.busy_changed = Signal()  # bool
        self.studies_changed = Signal()  # list of Study
        self.study_opened = Signal()  # vtkMRMLScalarVolumeNode
        self.predicted = Signal()  # the reply's JSON part
        self.segmentation_changed = Signal()
        self.submitted = Signal()  # the reply
        self.training_changed = Signal()  # TrainingState
        self.locked: set[str] = set()
        self._make_client = make_client
        self._worker = Worker()
        self._folder = tempfile.TemporaryDirectory(prefix="prato_label_")
        self._volumes: dict[str, Volumes] = {}
        self._open: OpenStudy | None = None
        self._submissions = 0
        self._busy = False
        self._forget_server()

    def _forget_server(self) -> None:
        self._client: Client | None = None
        self.info: ServerInfo | None = None
        self.studies: list[Study] = []
        self._training = training.TrainingWatch(self._ask, self.training_changed.emit)
        self._asked_costs = 0.0

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

    # Server

    def connect_to(self, address: str, token: str = "") -> None:
        """Ask the server at ``address`` what it offers, and for its studies; ``connected`` and ``studies_changed`` tell."""
        self.disconnect()
        try:
            client = self._make_client(address, token)
        except ServerError as error:
            self.failed.emit(str(error))
            return

        def arrived(info: ServerInfo) -> None:
            self._client, self.info = client, info
            self.connected.emit(info)
            self.refresh_studies()

        self._submit(client.info, arrived, "server", client)

    def disconnect(self) -> None:
        """Forget the server; nodes stay in the scene."""
        for lane in ("server", "studies", "study", "predict", training.LANE, _COSTS):
            self._worker.cancel(lane)
        self._forget_server()

    def refresh_studies(self) -> None:
        """Ask for the studies and their labels."""

        def arrived(studies: list[Study]) -> None:
            self.studies = studies
            self.studies_changed.emit(studies)

        self._ask(lambda client: client.studies(), arrived, "studies")

    def model(self, name: str) -> Model | None:
        """What the server says of the model ``name``."""
        return next((model for model in (self.info.models if self.info else ()) if model.name == name), None)

    @property
    def labels(self) -> dict[str, int]:
        """Structure name -> value in masks, as the server's first model has them; empty before there is one."""
        return dict(self.info.models[0].labels) if self.info and self.info.models else {}

    # Study

    def open_next(self, strategy: str) -> None:
        """Open the study that ``strategy`` would have labelled next; a prediction under way is not wanted any more."""
        self.cancel()
        self._ask(lambda client: self._fetched(client, client.next_study(strategy), False), self._show_study, "study")

    def open_study(self, study_id: str) -> None:
        """Open a study, with its final label if it has one. One that is in the scene already is shown as it was left.

        A prediction under way is not wanted any more.
        """
        self.cancel()
        node = node_of("vtkMRMLScalarVolumeNode", study_id)
        if node is not None and self.info is not None:
            self._adopt(study_id, node, None, None)
            return
        labelled = any(study.labelled for study in self.studies if study.id == study_id)
        self._ask(lambda client: self._fetched(client, study_id, labelled), self._show_study, "study")

    def send_volume(self, volume_node: Any, study_id: str) -> None:
        """Add the volume of the scene to the server's studies as ``study_id``, and open it there."""
        if volume_node is None or volume_node.GetImageData() is None:
            self.failed.emit("There is no volume to send: open an image first.")
            return
        path = Path(self._folder.name) / "sent.nii.gz"
        if not write_from(volume_node, path):
            self.failed.emit(f"{volume_node.GetName()} cannot be written to {path}: make room on the disk.")
            return

        def arrived(stored: str) -> None:
            self._adopt(stored, volume_node, None, 0)
            self.refresh_studies()

        self._ask(lambda client: client.upload_image(study_id, path), arrived, "study")

    def _fetched(self, client: Client, study: str, labelled: bool) -> _Fetched:
        # in the worker: files alone, no nodes
        folder = self._folder.name
        image = client.download_image(study, folder)
        version = client.current_version(study)  # first its number: the label may be replaced at any moment
        if version is None:
            return study, image, client.download_label(study, folder) if labelled else None, None
        return study, image, client.download_version(study, version, folder) if version else None, version

    def _show_study(self, fetched: _Fetched) -> None:
        study, image, label, version = fetched
        node = node_of("vtkMRMLScalarVolumeNode", study) or load_image(image, study)
        if node is None:
            self.failed.emit(f"The image of {study} cannot be read: see whether it opens in the module Add Data.")
            return
        self._adopt(study, node, label, version)

    def _adopt(self, study: str, volume_node: Any, label: Path | None, version: int | None) -> None:
        mask = read_mask(label, volume_node, self.labels) if label else None
        base = None if version is None or self._client is None else (self._client.address, version)
        self.forget_scene()
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
            opened.take(answer, Path(self._folder.name) / "answer.nrrd", boxes, model, self.locked)
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
        """What the prediction would take: the server's figure for a slice, times the slices of the boxes (without one, of the volume)."""
        offered = self.model(model)
        if offered is None or prune not in offered.cost or self.open is None:
            return None
        volume_node = self.open.volume_node
        try:
            boxes: list[Box] = [roi_to_ijk_box(roi, volume_node) for roi in rois]
        except GeometryError:
            return None
        slices = len({k for box in boxes for k in range(box[4], box[5])}) or volume_node.GetImageData().GetDimensions()[2]
        per_slice = offered.cost[prune]
        return Cost(per_slice.gflops * slices, per_slice.ms * slices)

    # Correct

    def cardiac(self) -> CardiacReport | None:
        """The cardiac table for the segments as they are; None while no study is open."""
        opened = self.open
        if opened is None:
            return None
        found = report(opened.mask(), opened.volume_node, opened.labels, opened.study, self._volumes)
        self._volumes[opened.study] = found.volumes
        return found

    def _measure_other_phases(self, study: str) -> None:
        others = [s.id for s in self.studies if s.labelled and s.id not in self._volumes and s.id != study]
        others = [other for other in others if patient_of(other) == patient_of(study)]
        labels, folder = self.labels, self._folder.name

        def arrived(paths: dict[str, Path]) -> None:
            self._volumes.update({other: stored_volumes(path, labels) for other, path in paths.items()})
            self.segmentation_changed.emit()

        if others:
            self._ask(lambda client: {other: client.download_label(other, folder) for other in others}, arrived, "phases")

    # Submit and train

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
        path = Path(self._folder.name) / f"label{self._submissions}.nii.gz"
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
        self._ask(lambda client: _submitted(client, opened, path, info), arrived, "")

    def start_training(self, model: str, max_epochs: int) -> None:
        """Train ``model`` on the submitted labels; ``training_changed`` tells how far it is, about every two seconds."""
        self._training.start(model, max_epochs)

    def stop_training(self) -> None:
        """End the training that runs; the model stays as it was."""
        self._training.stop()

    @property
    def training(self) -> TrainingState | None:
        """How far the training is, as last heard."""
        return self._training.state

    # Between the threads

    def tick(self) -> None:
        """To be called on the main thread, some twenty times a second: delivers results, and asks how a training goes."""
        self._worker.poll()
        if not self._worker.busy_in(training.LANE):
            self._training.tick()
        if self.info and not self.info.costs_known and time.monotonic() - self._asked_costs > _ASK_COSTS_S:
            self._ask_costs()
        if self._worker.busy != self._busy:
            self._busy = self._worker.busy
            self.busy_changed.emit(self._busy)

    def _ask_costs(self) -> None:
        self._asked_costs = time.monotonic()

        def arrived(info: ServerInfo) -> None:
            self.info = info
            self.costs_known.emit()

        self._ask(lambda client: client.info(), arrived, _COSTS)

    def close(self) -> None:
        """End the worker; nothing runs afterwards, and nothing more can be asked."""
        self.forget_scene()
        self._worker.stop()
        self._folder.cleanup()

    def _ask(self, question: Callable[[Client], Any], arrived: Callable[[Any], None], lane: str) -> None:
        client = self._client
        if client is None:
            self.failed.emit("Not connected to a server: give its address and press Test.")
            return
        self._submit(lambda: question(client), arrived, lane, client)

    def _submit(self, job: Callable[[], Any], arrived: Callable[[Any], None], lane: str, client: Client) -> None:
        def done(result: Any) -> None:
            try:
                arrived(result)
            except Exception as error:  # whatever it is, the labeller must see that nothing came of it
                _logger.exception("The answer could not be used.")
                self.failed.emit(_sentence(error))

        def failed(error: Exception) -> None:
            if lane == training.LANE:
                self._training.lose()
            if lane == _COSTS:
                self._asked_costs = math.inf  # what nobody asked for fails silently
            elif not isinstance(error, Cancelled):
                self.failed.emit(_sentence(error))

        self._worker.submit(job, done, failed, lane, client.cancel)


def _submitted(client: Client, opened: OpenStudy, path: Path, info: dict[str, Any]) -> dict[str, Any]:
    """Hand in the label at ``path``, which is what further work begins with. In the worker: no nodes."""
    server, version = opened.base or ("", 0)
    based = {"base_version": version} if server == client.address else {}
    try:
        reply = client.submit(opened.study, path, {**info, **based})
    except ServerError as error:
        if error.status != 400 or not based:
            raise
        reply = client.submit(opened.study, path, info)  # a server whose history was lost knows no such version, and the work must not be
    opened.base = (client.address, reply["version"]) if isinstance(reply.get("version"), int) else None
    return reply


def _sentence(error: Exception) -> str:
    return str(error) or f"Something unexpected happened ({type(error).__name__}): see the Python console."
