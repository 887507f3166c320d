"""Clicks on the open study that wait, and the histories of those that were made. No Qt in here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from PratoLabelLib.measures.click_history import ClickHistory, Stroke
from PratoLabelLib.measures.click_request import apply_reply, make_params
from PratoLabelLib.scene.volumes import has_reversed_slices
from PratoLabelLib.server.client import Client
from PratoLabelLib.server.connection import Cancelled, ServerError
from PratoLabelLib.server.worker import Signal
from PratoLabelLib.studies.cine_study import CineStudy
from PratoLabelLib.studies.open_study import OpenStudy
from PratoLabelLib.studies.predict_logic import PredictLogic


class ClickQueue(PredictLogic):
    """Sends clicks one after the other: each is asked for with the mask that the one before has made, so it waits here.

    A prediction, or anything else that replaces the segments, ends the history of those that are shown: there are no clicks in it any more.

    Attributes:
        clicks_changed: signal: other clicks are there, or can be taken back.
    """

    LANE = "clicks"

    def __init__(self, make_client: Callable[[str, str], Client] = Client) -> None:
        PredictLogic.__init__(self, make_client)
        self.clicks_changed = Signal()
        self._histories: dict[int, ClickHistory] = {}  # by phase; phase 0 of a study of one phase
        self._waiting: list[Stroke] = []
        self._is_asking = self._is_clicking = self._is_stale = False
        self.study_opened.connect(lambda volume: self._start_history())
        self.segments_about_to_change.connect(self._end_history)
        self.segmentation_changed.connect(self._note_change)
        self.phase_shown.connect(self._follow_phase)
        self.predicted.connect(lambda reply: self._forget_others())

    @property
    def strokes(self) -> list[Stroke]:
        """The clicks on what is shown, oldest first, also those that wait."""
        history = self._history
        return [*(history.strokes if history is not None else ()), *self._waiting]

    def tick(self, share: float = 0.0) -> None:
        """As for the study's part, and send the click whose turn it is."""
        PredictLogic.tick(self, share)
        self._follow_segments()
        self._send_next()

    def cancel(self) -> None:
        """As for the study's part; clicks that wait are not sent."""
        PredictLogic.cancel(self)
        self._drop_all()

    def disconnect(self) -> None:
        """As for the server's part; clicks that wait are not sent."""
        self._drop_all()
        PredictLogic.disconnect(self)

    def forget_scene(self) -> None:
        """As for the study's part; no click survives."""
        PredictLogic.forget_scene(self)
        self._histories.clear()
        self.clicks_changed.emit()

    # Sending

    def _send_next(self) -> None:
        study, history = self.current_study, self._history
        if self._is_asking or not self._waiting or study is None or history is None or self._worker.is_lane_busy("predict"):
            return
        stroke, mask, phase = self._waiting[0], study.mask(), phase_of(study)
        is_reversed, strokes, certain = has_reversed_slices(study.volume_node), [*history.strokes, stroke], history.certain(mask)
        extra, model = _about(study), (study.reply or {}).get("model") or next((m.name for m in self.info.models), "") if self.info else ""

        def ask(client: Client) -> dict[str, Any] | ServerError:
            try:
                return client.correct(model, study.study, {**make_params(strokes, mask, certain, is_reversed), **extra})
            except Cancelled:
                raise
            except ServerError as error:
                return error

        def on_reply(reply: dict[str, Any] | ServerError) -> None:
            self._is_asking = False
            try:
                if isinstance(reply, ServerError):
                    self._on_refused(stroke, reply)
                    return
                self._waiting.remove(stroke)
                locked = [study.labels[name] for name in self.locked_structures if name in study.labels]
                refined = apply_reply(mask, reply["refined"], is_reversed)
                if self._histories.get(phase) is history:
                    was = study.mask()
                    effect = {name: said for name, said in reply["refined"].items() if name != "mask"}
                    self._write(study, history.record(stroke, mask, refined, was, locked, effect), was)
            finally:
                self.clicks_changed.emit()
            self._send_next()

        self._is_asking = True
        self._dispatcher.dispatch(ask, on_reply, self.LANE, self._stop_asking)
        if self._dispatcher.client is None:
            self._drop_all()

    def _on_refused(self, stroke: Stroke, error: ServerError) -> None:
        """What was refused is dropped; where no server is there, so is what waits behind it."""
        if error.status is None:
            self._waiting.clear()
        else:
            self._waiting.remove(stroke)
        self.failed.emit(str(error))

    def _drop(self, stroke: Stroke, by: list[Stroke] | None = None) -> None:
        index = self._waiting.index(stroke)
        if index == 0:
            self._stop_asking()
        self._waiting[index : index + 1] = by or []
        self._send_next()

    def _drop_all(self) -> None:
        self._waiting.clear()
        self._stop_asking()
        self.clicks_changed.emit()

    def _stop_asking(self) -> None:
        self._worker.cancel(self.LANE)
        self._is_asking = False

    # What else happens to the segments

    @property
    def _history(self) -> ClickHistory | None:
        study = self.current_study
        return self._histories.get(phase_of(study)) if study is not None else None

    def _write(self, study: OpenStudy, mask: np.ndarray, was: np.ndarray) -> None:
        self._is_clicking = True
        try:
            study.edit(mask, was)
        finally:
            self._is_clicking = False

    def _start_history(self) -> None:
        study = self.current_study
        if study is not None and not (isinstance(study, CineStudy) and study.cine.is_playing):
            self._histories[phase_of(study)] = ClickHistory(study.mask())
            self.clicks_changed.emit()

    def _end_history(self) -> None:
        study = self.current_study
        if study is not None and not self._is_clicking:
            self._histories.pop(phase_of(study), None)
            self._forget_others()
            self._drop_all()

    def _forget_others(self) -> None:
        """Phases of a cine that are not shown may be written as well: all but those that somebody has edited."""
        study = self.current_study
        if isinstance(study, CineStudy):
            kept = {study.phase, *study.edited}
            self._histories = {phase: history for phase, history in self._histories.items() if phase in kept or history.done}

    def _note_change(self) -> None:
        self._is_stale = not self._is_clicking or self._is_stale

    def _follow_segments(self) -> None:
        """Look at what somebody else has done to the segments. Not while it is done: the Segment Editor's undo replaces them one by one."""
        if not self._is_stale:
            return
        self._is_stale = False
        study, history = self.current_study, self._history
        if study is not None and history is None:
            self._start_history()  # with what was written in its place
        elif study is not None and history is not None and (history.done or history.undone) and history.follow(study.mask()):
            self.clicks_changed.emit()

    def _follow_phase(self) -> None:
        """Clicks belong to the phase that they were made in."""
        self._drop_all()
        study, history = self.current_study, self._history
        if study is not None and (history is None or not history.fits(study.mask())):
            self._start_history()


def phase_of(study: OpenStudy) -> int:
    """The phase whose segments are shown: 0 of a study of one phase."""
    return study.phase if isinstance(study, CineStudy) else 0


def _about(study: OpenStudy) -> dict[str, Any]:
    """What else is sent: the phase of a cine, and the box that the mask was made for."""
    reply, phase = study.reply, {"phases": study.phase} if isinstance(study, CineStudy) else {}
    is_boxed = reply is not None and reply.get("box_source") == "roi" and reply.get("mask_phase") in (None, phase.get("phases"))
    return {**phase, "roi": [reply["box"]]} if is_boxed and reply is not None else phase
