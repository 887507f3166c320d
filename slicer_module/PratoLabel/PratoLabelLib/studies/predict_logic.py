"""Segmenting the open study: one phase, all phases of a cine, and phases that follow those that were corrected. No Qt in here."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import slicer

from PratoLabelLib.errors import UserError
from PratoLabelLib.measures.nifti_frames import Frames, split_frames
from PratoLabelLib.scene.geometry import Box, GeometryError, ijk_box_to_roi, roi_to_ijk_box
from PratoLabelLib.scene.phase_boxes import boxes_by_phase
from PratoLabelLib.scene.segmentation import REOPEN, MaskError
from PratoLabelLib.scene.volumes import to_file_order
from PratoLabelLib.server.client import Client
from PratoLabelLib.server.progress import Progress
from PratoLabelLib.server.responses import Cost, Prediction
from PratoLabelLib.server.worker import Signal
from PratoLabelLib.studies.cine_study import CineStudy
from PratoLabelLib.studies.open_study import OpenStudy
from PratoLabelLib.studies.study_files import RequestFolder
from PratoLabelLib.studies.study_logic import StudyLogic
from PratoLabelLib.translation import translator

_ = translator(__file__)


#: How long masks of a cine are put into the segments before Slicer's event loop has its turn.
TURN_S = 0.04


@dataclass(frozen=True)
class Prompt:
    """What a segmentation is asked with.

    Attributes:
        boxes: in the order of the volume node, by phase; phase 0 of a study of one phase. Empty: the server proposes a box.
        roi: what is sent of them.
    """

    study: OpenStudy
    boxes: dict[int, list[Box]] = field(default_factory=dict)
    roi: dict[str, Any] = field(default_factory=dict)


class PredictLogic(StudyLogic):
    """Requests predictions and puts them into the segments.

    Attributes:
        predicted, progressed, phases_kept, phases_followed: signals; the comment tells what their listeners get.
        locked_structures: structures that predictions leave as they are.
        progress: of a prediction of all phases; None while there is none.
    """

    def __init__(self, make_client: Callable[[str, str], Client] = Client) -> None:
        StudyLogic.__init__(self, make_client)
        self.predicted = Signal()  # the reply's JSON part
        self.progressed = Signal()
        self.phases_kept = Signal()  # the phases of a cine that a prediction left as they were
        self.phases_followed = Signal()  # the phases of a cine that follow others, and these
        self.progress: Progress | None = None
        self._told_progress: tuple[int, int] | None = None
        self.locked_structures: set[str] = set()
        self.study_lost.connect(self._drop_prediction)

    def tick(self, share: float = 0.0) -> None:
        """As for the study's part, and tell how far a prediction of all phases is."""
        StudyLogic.tick(self, share)
        now = None if self.progress is None else (self.progress.done, self.progress.phases)
        if now != self._told_progress:
            self._told_progress = now
            self.progressed.emit()

    def cancel(self) -> None:
        """As for the study's part; nothing is on its way then."""
        StudyLogic.cancel(self)
        self._forget_progress()

    def predict(self, model: str, prune: str, rois: Sequence[slicer.vtkMRMLMarkupsROINode], show_tokens: bool = False) -> None:
        """Segment the open study, prompted by ``rois`` (none: the server proposes a box); a pending prediction is cancelled."""
        prompt = self._prompt(rois)
        if prompt is None:
            return
        study, is_cine = prompt.study, isinstance(prompt.study, CineStudy)
        phase = prompt.study.phase if isinstance(prompt.study, CineStudy) else 0
        params: dict[str, Any] = {"prune": prune, **({"phases": phase} if is_cine else {"return_tokens": show_tokens}), **prompt.roi}

        def on_prediction(prediction: Prediction) -> None:
            study.require_same_image(prediction.reply)
            study.apply(prediction, self._temporary.path / "answer.nrrd", prompt.boxes.get(phase, []), model, self.locked_structures)
            self.predicted.emit(study.reply)

        self._forget_progress()
        self._dispatcher.dispatch(lambda client: client.infer(model, study.study, params), on_prediction, "predict")

    def predict_all_phases(self, model: str, prune: str, rois: Sequence[slicer.vtkMRMLMarkupsROINode]) -> None:
        """As :meth:`predict`, of all phases of the open cine, with ``rois`` for each. What somebody has corrected stays as it is."""
        prompt = self._prompt(rois)
        if prompt is None or not isinstance(prompt.study, CineStudy):
            return
        study: CineStudy = prompt.study

        def apply(reply: dict[str, Any], frames: Frames) -> Generator[int, None, None]:
            left = yield from study.apply_all(reply, frames, prompt.boxes, model, self.locked_structures, self.versions.drawn_phases())
            self.predicted.emit(study.reply)
            self.phases_kept.emit(left)

        self._infer_phases(study, model, {"prune": prune, "phases": "all", **prompt.roi}, apply, self._temporary.new())

    def propagate(self, model: str, prune: str, rois: Sequence[slicer.vtkMRMLMarkupsROINode]) -> None:
        """Let the phases of the open cine follow those that are corrected, here or on the server; these stay as they are."""
        prompt = self._prompt(rois)
        if prompt is None or not isinstance(prompt.study, CineStudy):
            return
        study: CineStudy = prompt.study
        keys, folder = study.phases_to_submit(), self._temporary.new()
        try:
            finish_label = study.write_phases(keys, folder.path / "keys.nii.gz") if keys else None
        except MaskError as error:
            self.failed.emit(str(error))
            return

        def apply(reply: dict[str, Any], frames: Frames) -> Generator[int, None, None]:
            followed = yield from study.apply_propagated(reply, frames, keys, model, self.locked_structures, self.versions.drawn_phases())
            self.predicted.emit(study.reply)
            self.phases_followed.emit(followed, reply["keys"])

        params = {"prune": prune, "propagate": keys or True, **prompt.roi}
        self._infer_phases(study, model, params, apply, folder, finish_label)

    def _infer_phases(
        self,
        study: CineStudy,
        model: str,
        params: dict[str, Any],
        apply: Callable[[dict[str, Any], Frames], Generator[int, None, None]],
        folder: RequestFolder,
        finish_label: Callable[[], None] | None = None,
    ) -> None:
        """Request masks of all phases, and ``apply`` them, in steps that each yield how many phases are done.

        Args:
            finish_label: what is left to write of a file in ``folder``, which is sent along.
        """
        progress = Progress()

        def infer(client: Client) -> tuple[dict[str, Any], Frames]:
            path, label = folder.path / "answer.nii.gz", folder.path / "keys.nii.gz"
            if finish_label is not None:
                finish_label()
            prediction = client.infer_phases(model, study.study, params, progress, label if finish_label is not None else None)
            path.write_bytes(prediction.mask)
            frames = split_frames(path)
            if frames is None:
                raise MaskError(_("The server has segmented only one phase of {study}: {way}.").format(study=study.study, way=REOPEN))
            return prediction.reply, frames

        def on_result(result: tuple[dict[str, Any], Frames]) -> None:
            reply, frames = result
            self._forget_progress()
            study.require_same_image(reply)
            self._take_turns(apply(reply, frames), Progress(0, study.cine.count))

        self.progress = progress
        self._dispatcher.dispatch(infer, on_result, "predict", self._forget_progress)

    def _take_turns(self, steps: Generator[int, None, None], progress: Progress) -> None:
        """Go on with ``steps`` for a moment, and then in the next ticks: Slicer's views and the button *Cancel* are not held up.

        Each turn is in the lane of what it belongs to: whatever ends that, ends the turns, and who waits for it waits for them, too.
        """
        self._forget_progress()  # also where a step fails
        end = time.monotonic() + TURN_S
        for done in steps:
            progress.done = done
            if time.monotonic() > end:
                self.progress = progress
                self._dispatcher.dispatch(
                    lambda client: None, lambda _: self._take_turns(steps, progress), "predict", self._forget_progress
                )
                return

    def _drop_prediction(self) -> None:
        """Its answer would be written into the nodes that are left, those of other phases perhaps."""
        self._worker.cancel("predict")
        self._forget_progress()

    def _forget_progress(self) -> None:
        self.progress = None

    def _prompt(self, rois: Sequence[slicer.vtkMRMLMarkupsROINode]) -> Prompt | None:
        """What the open study is segmented with; None, and ``failed`` says why, where it cannot be."""
        study = self.current_study
        if study is None:
            self.failed.emit(_("No study is open: open one, or send the volume that is open."))
            return None
        try:
            study.require_server(self.address)
            if not rois:
                return Prompt(study)
            boxes, keyed = boxes_by_phase(rois, study.volume_node, study.cine.count if isinstance(study, CineStudy) else 1)
        except UserError as error:
            self.failed.emit(str(error))
            return None
        still = [to_file_order(box, study.volume_node) for box in boxes[0]]
        return Prompt(study, boxes, {"roi": {str(phase): box for phase, box in keyed.items()} if keyed else still})

    def fit_roi_to_reply(self, roi_node: slicer.vtkMRMLMarkupsROINode) -> None:
        """Make the ROI the box that the server used."""
        study = self.current_study
        if study is None or study.reply is None:
            self.failed.emit(_("There is no box to draw yet: run a prediction first."))
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
