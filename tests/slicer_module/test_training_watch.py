"""A training is followed until it has ended, whatever else is asked meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from client_double import ClientDouble

from PratoLabelLib import training
from PratoLabelLib.answers import TrainingState
from PratoLabelLib.asking import Asking
from PratoLabelLib.errors import ServerError
from PratoLabelLib.training import TrainingWatch
from PratoLabelLib.worker import Worker


def settle(worker: Worker) -> None:
    """Have all answers delivered."""
    deadline = time.monotonic() + 200
    while worker.busy:
        assert time.monotonic() < deadline
        worker.poll()
        time.sleep(0.005)


@pytest.mark.parametrize("attempt", [lambda watch: watch.start("prato_unetr", 8), lambda watch: watch.stop()], ids=["start", "stop"])
def test_a_start_or_stop_that_fails_leaves_the_watch_on_the_training_that_runs(
    attempt: Callable[[TrainingWatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_ASK_S", 0.0)
    server, worker, said = ClientDouble(tmp_path), Worker(), []
    asking = Asking(worker, said.append)
    asking.client = server
    watch = TrainingWatch(asking.ask, lambda state: None)
    server.state = TrainingState(True, 3, 8, 120, 320, 0.8, "Step 120 of 320.", {})
    watch.start("prato_unetr", 8)
    settle(worker)
    server.failure = ServerError("A training is running already.")
    attempt(watch)
    settle(worker)
    assert said == ["A training is running already."]
    server.state = TrainingState(False, 8, 8, 320, 320, 0.9, "The training has ended.", {})
    watch.tick()
    settle(worker)
    assert not watch.state.running
    assert worker.stop()
