"""A training is followed until it has ended, whatever else is requested meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from PratoLabelLib.server import server_logic
from PratoLabelLib.server.connection import ServerError
from PratoLabelLib.server.responses import TrainingState
from PratoLabelLib.server.server_logic import TrainingMonitor
from PratoLabelLib.server.worker import RequestDispatcher, Worker
from tests.slicer_module.fake_client import FakeClient
from tests.waiting import wait_until


def settle(worker: Worker) -> None:
    """Have all results delivered."""
    wait_until(lambda: not worker.is_busy, worker.poll)


@pytest.mark.parametrize(
    "attempt", [lambda monitor: monitor.start("prato_unetr", 8), lambda monitor: monitor.stop()], ids=["start", "stop"]
)
def test_a_start_or_stop_that_fails_leaves_the_monitor_on_the_training_that_runs(
    attempt: Callable[[TrainingMonitor], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_logic, "TRAINING_INTERVAL_S", 0.0)
    client, worker = FakeClient(tmp_path), Worker()
    failures: list[str] = []
    dispatcher = RequestDispatcher(worker, failures.append)
    dispatcher.client = client
    monitor = TrainingMonitor(dispatcher, lambda state: None)
    client.state = TrainingState(True, 3, 8, 120, 320, 0.8, "Step 120 of 320.", {})
    monitor.start("prato_unetr", 8)
    settle(worker)
    client.failure = ServerError("A training is running already.")
    attempt(monitor)
    settle(worker)
    assert failures == ["A training is running already."]
    client.state = TrainingState(False, 8, 8, 320, 320, 0.9, "The training has ended.", {})
    monitor.tick()
    settle(worker)
    assert not monitor.state.running
    assert worker.stop()


def test_what_became_of_a_training_is_learned_when_the_server_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRAINING_INTERVAL_S", "LOST_INTERVAL_S"):
        monkeypatch.setattr(server_logic, name, 0.0)
    running = TrainingState(True, 3, 8, 120, 320, 0.8, "Step 120 of 320.", {})
    interrupted = TrainingState(False, 0, 0, 0, 0, None, "The server stopped during this training.", {})
    answers: list[TrainingState | ServerError] = [running, *[ServerError("No server runs there.")] * 3, interrupted]

    def answer(model: str) -> TrainingState:
        found = answers.pop(0)
        if isinstance(found, ServerError):
            raise found
        return found

    client, worker = FakeClient(tmp_path), Worker()
    monkeypatch.setattr(client, "training", answer)
    failures: list[str] = []
    states: list[TrainingState] = []
    dispatcher = RequestDispatcher(worker, failures.append)
    dispatcher.client = client
    monitor = TrainingMonitor(dispatcher, states.append)
    monitor.start("prato_unetr", 8)
    settle(worker)
    for _ in range(6):  # after the end, nothing is asked any more
        monitor.tick()
        settle(worker)
    assert failures == ["No server runs there."]  # said once
    assert states == [running, interrupted] and not answers
    assert worker.stop()


@pytest.mark.slow
def test_a_request_without_a_server_is_refused_in_one_sentence() -> None:
    worker, failures = Worker(), []
    RequestDispatcher(worker, failures.append).dispatch(lambda client: client.info(), lambda info: None, "server")
    assert failures == ["Not connected to a server: enter its address and press Connect."]
    assert not worker.is_busy
    assert worker.stop()
