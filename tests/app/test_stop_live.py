"""How the server ends; the last file of those that use it."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import psutil
import pytest
import requests

from prato.data.nifti import nifti_bytes, read_volume
from tests.app.guarded import ask, refused, state
from tests.app.hearts import app_that_learns, heart
from tests.app.live import LiveServer, Reply, start_server, write_study
from tests.waiting import wait_until


def wait_for_a_training(server: LiveServer, replies: list[requests.Response]) -> threading.Thread:
    """Somebody who waits for a training that takes longer than any test."""
    for study in ("a_ED", "b_ED"):
        label = nifti_bytes(heart(), read_volume(server.studies / f"{study}.nii.gz").affine)
        assert ask(server, "PUT", f"/datastore/label?image={study}&tag=final", files={"label": label}, data={"params": "{}"}).ok
    path = "/train/prato_unetr?run_sync=true"
    thread = threading.Thread(target=lambda: replies.append(ask(server, "POST", path, json={"max_steps": 100_000})))
    thread.start()
    wait_until(lambda: replies or state(server)["jobs"])
    return thread


def test_it_ends_gracefully(guarded_server: LiveServer) -> None:
    """What computes is answered, who waits for a job is told, jobs of the server end with it, and nothing was an error."""
    of_trainings: list[requests.Response] = []
    waiting = wait_for_a_training(guarded_server, of_trainings)
    replies: list[Reply] = []
    params = {"roi": [8, 32, 6, 30, 0, 80]}
    thread = threading.Thread(target=lambda: replies.append(guarded_server.infer("prato_swin_unetr", "long", params, output="json")))
    thread.start()
    wait_until(lambda: replies or state(guarded_server)["line"]["length"] == 1)
    children = psutil.Process(guarded_server.process.pid).children(recursive=True)
    guarded_server.process.send_signal(signal.SIGTERM)
    assert guarded_server.process.wait(200) in (0, -signal.SIGTERM)
    thread.join()
    waiting.join()
    refused(of_trainings[0], 503, "The server is shutting down, which stops the training")
    assert [reply.status for reply in replies] == [200]
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    log = guarded_server.log.read_text()
    assert "Finished server process" in log
    assert "Traceback" not in log


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGHUP, -signal.SIGTERM)])
def test_stopped_before_its_models_are_loaded_it_ends_without_a_fault(tmp_path: Path, number: signal.Signals, status: int) -> None:
    """By Ctrl-C, or by its terminal, which was closed."""
    (tmp_path / "studies").mkdir()
    write_study(tmp_path / "studies" / "a.nii.gz")
    with start_server(app_that_learns(tmp_path / "app"), tmp_path / "studies", tmp_path / "server.log", {}) as server:
        server.process.send_signal(number)
        assert server.process.wait(200) == status
    log = server.log.read_text()
    assert "Finished server process" in log and "Traceback" not in log
