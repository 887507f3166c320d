"""Clicks on the open study that wait, and the histories of those that were made. No Qt in here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import slicer
import vtk

from PratoLabelLib.clicks.phase_clicks import PhaseClicks
from PratoLabelLib.errors import describe_error
from PratoLabelLib.measures.click_history import Stroke
from PratoLabelLib.measures.click_request import apply_reply, make_params
from PratoLabelLib.scene.segmentation import MaskError
from PratoLabelLib.scene.volumes import has_reversed_slices
from PratoLabelLib.server.client import Client
from PratoLabelLib.server.connection import Cancelled, ServerError
from PratoLabelLib.server.worker import Signal
from PratoLabelLib.studies.cine_study import CineStudy
from PratoLabelLib.studies.open_study import OpenStudy
from PratoLabelLib.studies.predict_logic import PredictLogic
from PratoLabelLib.translation import translator

_ = translator(__file__)


class ClickQueue(PredictLogic):
    """Sends clicks one after the other: each is asked for with the mask that the one before has made, so it waits here.

    Clicks belong to the phase that they were made in, whichever is shown when they are answered. A prediction, or anything else that
    replaces the segments, ends the history of its phases: there are no clicks in them any more, but those that wait. What a labeller puts
    into the segments ends nothing.

    Attributes:
        clicks_changed: signal: other clicks are there, or can be taken back.
    """

    LANE = "clicks"

    def __init__(self, make_client: Callable[[str, str], Client] = Client) -> None:
        PredictLogic.__init__(self, make_client)
        self.clicks_changed = Signal()
        self._clicks: dict[int, PhaseClicks] = {}  # by phase; phase 0 of a study of one phase
        self._left: dict[tuple[str, str], tuple[vtk.vtkWeakReference, dict[int, PhaseClicks]]] = {}  # of studies that were left, by server
        self._asked: tuple[PhaseClicks, Stroke] | None = None  # the click that is on its way
        self._is_clicking = self._is_stale = False
        self.study_opened.connect(lambda volume: self._on_opened())
        self.segments_about_to_change.connect(self._on_replaced)
        self.segmentation_changed.connect(self._note_change)
        self.phase_shown.connect(self._look_at_phase)

    @property
    def strokes(self) -> list[Stroke]:
        """The clicks on what is shown, oldest first, also those that wait."""
        clicks = self._shown
        return clicks.strokes if clicks is not None else []

    @property
    def clicks_waiting(self) -> int:
        """How many clicks were not made yet, in all phases; one that is moved or deleted counts until the segments have followed."""
        return sum(len(clicks.waiting) + (clicks.remake is not None) for clicks in self._clicks.values())

    def tick(self, share: float = 0.0) -> None:
        """As for the study's part, and send the click whose turn it is."""
        PredictLogic.tick(self, share)
        self._follow_segments()
        self._send_next()

    def cancel(self) -> None:
        """As for the study's part; clicks that wait are not sent, and ``failed`` says which."""
        PredictLogic.cancel(self)
        self._drop_all()

    def propagate(self, model: str, prune: str, rois: Sequence[slicer.vtkMRMLMarkupsROINode]) -> None:
        """As for the study's part, once no clicks wait: phases are to follow what these have made of the others."""
        if self.clicks_waiting:
            self.failed.emit(_("Clicks are still waiting for the server: press Propagate once they are done."))
        else:
            PredictLogic.propagate(self, model, prune, rois)

    def disconnect(self) -> None:
        """As for the server's part; clicks that wait are sent once it is connected again."""
        self._stop_asking()
        PredictLogic.disconnect(self)

    def forget_scene(self) -> None:
        """As for the study's part. Where its segments stay in the scene, so do the clicks for when it is opened again."""
        study, segments = self.current_study, vtk.vtkWeakReference()
        PredictLogic.forget_scene(self)
        if study is not None:
            segments.Set(study.segmentation_node)
            self._left = {key: left for key, left in self._left.items() if left[0].Get() is not None}
            self._left[study.server, study.study] = segments, self._clicks
        self._clicks = {}
        self.clicks_changed.emit()

    # Sending

    def _send_next(self) -> None:
        if self._asked is not None or not self.clicks_waiting or any(map(self._worker.is_lane_busy, ("predict", "server"))):
            return
        study = self.current_study
        if study is None:  # its nodes were deleted
            self._drop_all()
            return
        if self.address != study.server:
            away = _("{study} is a study of {server}: connect to that server again.").format(study=study.study, server=study.server)
            self._drop_all(away if self.address else _("Not connected to a server: enter its address and press Connect."))
            return
        phase, clicks = next((phase, clicks) for phase, clicks in self._clicks.items() if clicks.next is not None)
        stroke = clicks.next
        assert stroke is not None
        history, mask = clicks.begin(study.mask_of(phase))
        is_reversed, strokes, certain = has_reversed_slices(study.volume_node), [*history.strokes, stroke], history.certain(mask)
        extra, offered = _about(study, phase), self.info.models if self.info is not None else ()
        model = (study.reply or {}).get("model") or next((model.name for model in offered), "")

        def ask(client: Client) -> dict[str, Any] | Exception:
            try:
                return client.correct(model, study.study, {**make_params(strokes, mask, certain, is_reversed), **extra})
            except Cancelled:
                raise
            except Exception as error:
                return error

        def on_reply(reply: dict[str, Any] | Exception) -> None:
            self._follow_segments()
            if self._asked != (clicks, stroke):  # what it was asked about is past
                return
            self._asked = None
            if self.current_study is not study:  # its nodes were deleted
                return
            try:
                if isinstance(reply, Exception):
                    raise reply
                study.require_same_image(reply)
                refined = apply_reply(mask, reply["refined"], is_reversed)
                study.check_writable(phase)
            except Exception as error:
                self._on_refused(clicks, stroke, error)
                return
            effect = {name: said for name, said in reply["refined"].items() if name != "mask"}
            locked, was = [study.labels[name] for name in self.locked_structures if name in study.labels], study.mask_of(phase)
            self._write(study, phase, clicks.finish(stroke, mask, refined, was, locked, effect), was)
            self.clicks_changed.emit()
            self._send_next()

        self._asked = clicks, stroke
        self._dispatcher.dispatch(ask, on_reply, self.LANE, self._stop_asking)

    def _on_refused(self, clicks: PhaseClicks, stroke: Stroke, error: Exception) -> None:
        """What was refused is dropped, and what was to be made anew with it is as before; with no server there, nothing else is sent."""
        is_gone = isinstance(error, ServerError) and error.status is None
        if clicks.remake is not None:
            clicks.remake = None
        else:
            clicks.waiting.remove(stroke)
        undone = self._forget_waiting() if is_gone else ""
        self.clicks_changed.emit()
        self.failed.emit(" ".join(filter(None, (describe_error(error), undone))))

    def _drop_all(self, why: str = "") -> None:
        undone = self._forget_waiting()
        self._stop_asking()
        self.clicks_changed.emit()
        if undone:
            self.failed.emit(" ".join(filter(None, (why, undone))))

    def _forget_waiting(self) -> str:
        """Forget the clicks that were not made yet; returns what they were, in one sentence."""
        study, parts = self._open_study, []
        for phase, clicks in sorted(self._clicks.items()):
            names = ", ".join(f"{count} {name}" for name, count in Counter(stroke.structure for stroke in clicks.waiting).items())
            count = len(clicks.waiting)
            made, moved = _("{count} clicks") if count > 1 else _("{count} click"), _("the change of a click")
            if isinstance(study, CineStudy):
                made, moved = (_("{what} in phase {phase}").format(what=what, phase=phase) for what in (made, moved))
            parts += [f"{made.format(count=count)} ({names})"] if count else []
            parts += [moved] if clicks.remake is not None else []
            clicks.waiting, clicks.remake = [], None
        if not parts:
            return ""
        where = study.study if study is not None else _("the study")
        return _("Not done on {study}: {parts}; do it again.").format(study=where, parts=_(" and ").join(parts))

    def _stop_asking(self) -> None:
        self._worker.cancel(self.LANE)
        self._asked = None

    # What else happens to the segments

    def _find_writable(self) -> tuple[OpenStudy, PhaseClicks] | None:
        """The open study, and the clicks on what is shown; None where that cannot be changed, and ``failed`` says why."""
        study, clicks = self.current_study, self._shown
        if study is None or clicks is None:
            return None
        try:
            study.check_writable(study.shown_phase)
        except MaskError as error:
            self.failed.emit(str(error))
            return None
        return study, clicks

    @property
    def _shown(self) -> PhaseClicks | None:
        study = self.current_study
        return self._clicks.setdefault(study.shown_phase, PhaseClicks()) if study is not None else None

    def _write(self, study: OpenStudy, phase: int, mask: np.ndarray, was: np.ndarray) -> None:
        self._is_clicking = True
        try:
            study.edit_phase(phase, mask, was)
        finally:
            self._is_clicking = False

    def _on_replaced(self, phases: Collection[int], is_edit: bool) -> None:
        study = self.current_study
        if study is None:
            return
        for phase in phases:
            clicks = self._clicks.setdefault(phase, PhaseClicks())
            if is_edit and clicks.history is None:
                clicks.begin(study.mask_of(phase))  # what is put in its place is as if it were painted
            elif not is_edit:
                clicks.end(study.mask_of(phase))
                if self._asked is not None and self._asked[0] is clicks:
                    self._stop_asking()

    def _on_opened(self) -> None:
        study = self.current_study
        segments, clicks = self._left.pop((study.server, study.study), (None, {})) if study is not None else (None, {})
        if study is not None and segments is not None and segments.Get() is study.segmentation_node:
            self._clicks = clicks
        self._look_at_phase()

    def _note_change(self) -> None:
        self._is_stale = not self._is_clicking or self._is_stale
        if self._shown is not None and self._shown.history is None:
            self._look_at_phase()  # before anybody paints in what was put there

    def _follow_segments(self) -> None:
        """Look at what somebody else has done to the segments. Not while it is done: the Segment Editor's undo replaces them one by one."""
        study, clicks = self.current_study, self._shown
        if not self._is_stale or study is None or clicks is None or clicks.history is None:
            return
        self._is_stale = False
        if clicks.has_past and clicks.follow(study.mask()):
            if self._asked is not None and self._asked[0] is clicks:
                self._stop_asking()
            self.clicks_changed.emit()

    def _look_at_phase(self) -> None:
        """The segments that are shown are as a server or a click made them; whatever differs from now on was painted."""
        study, clicks = self.current_study, self._shown
        is_playing = isinstance(study, CineStudy) and study.cine.is_playing
        if study is not None and clicks is not None and clicks.history is None and not is_playing:
            clicks.begin(study.mask())
        self.clicks_changed.emit()


def _about(study: OpenStudy, phase: int) -> dict[str, Any]:
    """What else is sent: the phase of a cine, and the box that the mask was made for."""
    reply, which = study.reply, {"phases": phase} if isinstance(study, CineStudy) else {}
    is_boxed = reply is not None and reply.get("box_source") == "roi" and reply.get("mask_phase") in (None, which.get("phases"))
    return {**which, "roi": [reply["box"]]} if is_boxed and reply is not None else which
