"""What is done with the server: connect, list its studies, train, and keep time. No Qt in here, and no nodes."""

from __future__ import annotations

from collections.abc import Callable

from PratoLabelLib import costs, training
from PratoLabelLib.answers import Model, ServerInfo, Study, TrainingState
from PratoLabelLib.asking import Asking
from PratoLabelLib.client import Client, ServerError
from PratoLabelLib.signal import Signal
from PratoLabelLib.worker import Worker


class ServerLogic:
    """Everything over the network happens in one worker thread; results arrive in :meth:`tick`, on the thread that calls it.

    Attributes:
        connected, failed, ...: signals, with what their listeners get.
        info, studies: what the server said; None or empty before.
    """

    def __init__(self, make_client: Callable[[str, str], Client]) -> None:
        self.connected = Signal()  # ServerInfo
        self.costs_known = Signal()  # the server has measured its models since
        self.failed = Signal()  # one sentence
        self.busy_changed = Signal()  # bool
        self.studies_changed = Signal()  # list of Study
        self.training_changed = Signal()  # TrainingState
        self._make_client = make_client
        self._worker = Worker()
        self._asking = Asking(self._worker, self.failed.emit)
        self._ask = self._asking.ask
        self._busy = False
        self._forget_server()

    def connect_to(self, address: str, token: str = "") -> None:
        """Ask the server at ``address`` what it offers, and for its studies; ``connected`` and ``studies_changed`` tell."""
        self.disconnect()
        try:
            client = self._make_client(address, token)
        except ServerError as error:
            self.failed.emit(str(error))
            return

        def arrived(info: ServerInfo) -> None:
            self._asking.client, self.info = client, info
            self.connected.emit(info)
            self.refresh_studies()

        self._asking.ask(lambda asked: asked.info(), arrived, "server", client=client)

    def disconnect(self) -> None:
        """Forget the server; nodes stay in the scene."""
        for lane in ("server", "studies", "study", "predict", training.LANE, costs.LANE):
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

    def tick(self) -> None:
        """To be called on the main thread, some twenty times a second: delivers results, and asks how a training goes."""
        self._worker.poll()
        if not self._worker.busy_in(training.LANE):
            self._training.tick()
        if self.info and not self.info.costs_known:
            self._costs.tick()
        if self._worker.busy != self._busy:
            self._busy = self._worker.busy
            self.busy_changed.emit(self._busy)

    def _on_costs(self, info: ServerInfo) -> None:
        self.info = info
        self.costs_known.emit()

    def close(self) -> None:
        """End the worker; nothing runs afterwards, and nothing more can be asked."""
        self._worker.stop()

    def _forget_server(self) -> None:
        self._asking.client = None
        self.info: ServerInfo | None = None
        self.studies: list[Study] = []
        self._training = training.TrainingWatch(self._ask, self.training_changed.emit)
        self._costs = costs.CostWatch(self._ask, self._on_costs)
