"""The training that was started here, followed until it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable

from PratoLabelLib.answers import TrainingState

LANE = "training"
_ASK_S = 2.0


class TrainingWatch:
    """Starts, stops and asks about trainings.

    Args:
        ask: hands a question for the client, and what to do with its answer, to the worker.
        changed: told each state that comes.
    """

    def __init__(self, ask: Callable[..., None], changed: Callable[[TrainingState], None]) -> None:
        self.state: TrainingState | None = None
        self._ask, self._changed = ask, changed
        self._model = ""
        self._asked = 0.0

    def start(self, model: str, max_epochs: int) -> None:
        """Train ``model`` on the submitted labels. Where that fails, a training that runs is followed as before."""

        def arrived(_: None) -> None:
            self._model = model
            self._look()

        self._ask(lambda client: client.train(model, {"max_epochs": max_epochs}), arrived, LANE)

    def stop(self) -> None:
        """End the training that runs; the model stays as it was. Where that fails, it is followed as before."""
        self._ask(lambda client: client.stop_training(), lambda _: self._look(), LANE)

    def tick(self) -> None:
        """Ask how it goes, if a training runs and the last answer is two seconds old."""
        if self._model and time.monotonic() - self._asked > _ASK_S:
            self._look()

    def _lose(self) -> None:
        """The server does not answer, or is another one: no use in asking on."""
        self._model = ""

    def _look(self) -> None:
        self._asked = time.monotonic()
        model = self._model

        def arrived(state: TrainingState) -> None:
            self.state = state
            if not state.running:
                self._model = ""
            self._changed(state)

        self._ask(lambda client: client.training(model), arrived, LANE, self._lose)
