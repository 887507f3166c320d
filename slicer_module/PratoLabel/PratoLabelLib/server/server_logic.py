"""What is done with the server: connect, list its studies, train, and keep polling it. No Qt in here, and no nodes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from PratoLabelLib.server.client import Client
from PratoLabelLib.server.connection import ServerError
from PratoLabelLib.server.responses import ModelInfo, ServerInfo, Study, TrainingState
from PratoLabelLib.server.worker import RequestDispatcher, Signal, Worker

#: How often the progress of a training is requested, also while the server does not tell it, and how often the costs that it has not
#: measured yet.
TRAINING_INTERVAL_S = 2.0
LOST_INTERVAL_S = 10.0
COST_INTERVAL_S = 5.0


class TrainingMonitor:
    """Starts and stops trainings, and follows the one that was started here until it has ended.

    Args:
        on_change: gets each state that comes.

    Attributes:
        state: the latest one; None before.
    """

    LANE = "training"

    def __init__(self, dispatcher: RequestDispatcher, on_change: Callable[[TrainingState], None]) -> None:
        self.state: TrainingState | None = None
        self._dispatcher, self._on_change = dispatcher, on_change
        self._model = ""  # whose training is followed
        self._is_lost = False  # the last request failed, which was said: the server may come back, and tell what became of the training
        self._requested_at = 0.0

    def start(self, model: str, max_epochs: int) -> None:
        """Train ``model`` on the submitted labels. Where that fails, a running training is followed as before."""

        def follow(_: None) -> None:
            self._model = model
            self._request_state()

        self._dispatcher.dispatch(lambda client: client.train(model, {"max_epochs": max_epochs}), follow, self.LANE)

    def stop(self) -> None:
        """End the running training; the model stays as it was. Where that fails, it is followed as before."""
        self._dispatcher.dispatch(lambda client: client.stop_training(), lambda _: self._request_state(), self.LANE)

    def tick(self) -> None:
        """Request the state, if a training is followed and the last request is old enough."""
        if self._model and time.monotonic() - self._requested_at > (LOST_INTERVAL_S if self._is_lost else TRAINING_INTERVAL_S):
            self._request_state()

    def _request_state(self) -> None:
        self._requested_at = time.monotonic()
        model = self._model
        self._dispatcher.dispatch(lambda client: client.training(model), self._on_state, self.LANE, self._on_lost, quiet=self._is_lost)

    def _on_state(self, state: TrainingState) -> None:
        self.state, self._is_lost = state, False
        if not state.running:
            self._model = ""
        self._on_change(state)

    def _on_lost(self) -> None:
        self._is_lost = True


class CostMonitor:
    """Requests what a server offers until it has measured the cost of its models.

    Args:
        on_info: gets each reply.
    """

    LANE = "costs"

    def __init__(self, dispatcher: RequestDispatcher, on_info: Callable[[ServerInfo], None]) -> None:
        self._dispatcher, self._on_info = dispatcher, on_info
        self._requested_at = 0.0

    def tick(self) -> None:
        """Send a request, if the last one is five seconds old and none has failed."""
        if time.monotonic() - self._requested_at > COST_INTERVAL_S:
            self._requested_at = time.monotonic()
            self._dispatcher.dispatch(lambda client: client.info(), self._on_info, self.LANE, self._give_up, quiet=True)

    def _give_up(self) -> None:
        self._requested_at = math.inf


class ServerLogic:
    """All network traffic is in one worker thread; results arrive in :meth:`tick`, on the thread that calls it.

    Attributes:
        connected, failed, ...: signals; the comment tells what their listeners get.
        info, studies: what the server offers; None or empty before it is connected.
    """

    info: ServerInfo | None
    studies: list[Study]

    def __init__(self, make_client: Callable[[str, str], Client]) -> None:
        self.connected = Signal()  # ServerInfo
        self.costs_measured = Signal()
        self.dispatched = Signal()  # a request is on its way
        self.failed = Signal()  # one sentence
        self.busy_changed = Signal()  # bool
        self.studies_changed = Signal()  # list of Study
        self.training_changed = Signal()  # TrainingState
        self.reviewed = Signal()  # a study's id and its state
        self._make_client = make_client
        self._worker = Worker()
        self._dispatcher = RequestDispatcher(self._worker, self.failed.emit, self.dispatched.emit)
        self._is_busy = False
        self._forget_server()

    def connect_to(self, address: str, token: str = "") -> None:
        """Request what the server at ``address`` offers, and its studies; ``connected`` and ``studies_changed`` follow."""
        self.disconnect()
        try:
            client = self._make_client(address, token)
        except ServerError as error:
            self.failed.emit(str(error))
            return

        def on_info(info: ServerInfo) -> None:
            self._dispatcher.client, self.info = client, info
            self.connected.emit(info)
            self.refresh_studies()

        self._dispatcher.dispatch(lambda client: client.info(), on_info, "server", client=client)

    def disconnect(self) -> None:
        """Forget the server; nodes stay in the scene."""
        for lane in ("server", "studies", "study", "predict", TrainingMonitor.LANE, CostMonitor.LANE):
            self._worker.cancel(lane)
        self._forget_server()

    @property
    def address(self) -> str:
        """See :class:`RequestDispatcher`."""
        return self._dispatcher.address

    def refresh_studies(self) -> None:
        """Request the studies and their labels; once it is connected, where it is being connected to another server."""
        if self.address:
            self._dispatcher.dispatch(lambda client: client.studies(), self._on_studies, "studies")

    def review_study(self, study: str, state: str, reason: str, annotator: str) -> None:
        """Leave a study for later ("skipped"), hand it out no more ("rejected"), or neither ("open"); ``reviewed`` follows."""

        def on_reviewed(_: None) -> None:
            self.reviewed.emit(study, state)
            self.refresh_studies()

        what = f"{state} {study} {reason}"
        self._dispatcher.dispatch(lambda client: client.review(study, state, reason, annotator), on_reviewed, "", once=what)

    def find_model(self, name: str) -> ModelInfo | None:
        """What the server says about the model ``name``; None if it has no such model."""
        return next((model for model in (self.info.models if self.info else ()) if model.name == name), None)

    def find_study(self, name: str) -> Study | None:
        """What the server says about the study ``name``; None if it lists no such study."""
        return next((study for study in self.studies if study.id == name), None)

    @property
    def labels(self) -> dict[str, int]:
        """Structure name -> value in masks, as in the server's first model; empty before there is one."""
        return dict(self.info.models[0].labels) if self.info and self.info.models else {}

    def start_training(self, model: str, max_epochs: int) -> None:
        """Train ``model`` on the submitted labels; ``training_changed`` tells the progress, about every two seconds."""
        self._training.start(model, max_epochs)

    def stop_training(self) -> None:
        """End the running training; the model stays as it was."""
        self._training.stop()

    @property
    def training_state(self) -> TrainingState | None:
        """The latest progress of the training; None before there is one."""
        return self._training.state

    @property
    def is_busy(self) -> bool:
        """Whether a reply is still to come."""
        return self._worker.is_busy

    def tick(self, share: float = 0.0) -> None:
        """To be called on the main thread, twenty times a second and more often while ``is_busy``: delivers results, polls the server.

        Args:
            share: seconds that the worker may have of the main thread's time, see :meth:`Worker.poll`.
        """
        was_busy = self._worker.is_busy
        self._worker.poll(share)
        if not self._worker.is_lane_busy(TrainingMonitor.LANE):
            self._training.tick()
        if self.info and not self.info.has_costs:
            self._costs.tick()
        is_busy = self._worker.is_busy
        if is_busy != self._is_busy or is_busy != was_busy:  # also of what began and ended between two ticks
            self._is_busy = is_busy
            self.busy_changed.emit(self._is_busy)

    def close(self) -> None:
        """End the worker; nothing runs afterwards, and no request can be sent."""
        self._worker.stop()

    def _on_studies(self, studies: list[Study]) -> None:
        self.studies = studies
        self.studies_changed.emit(studies)

    def _on_costs(self, info: ServerInfo) -> None:
        self.info = info
        self.costs_measured.emit()

    def _forget_server(self) -> None:
        self._dispatcher.client = None
        self.info = None
        self.studies = []
        self._training = TrainingMonitor(self._dispatcher, self.training_changed.emit)
        self._costs = CostMonitor(self._dispatcher, self._on_costs)
