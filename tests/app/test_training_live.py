"""Trainings on the real server: stopped, taken up, published and gone back from, while inference answers; and a worker that is killed."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from lib.jobs.training_queue import _STOP_TIMEOUT_S
from prato.data.nifti import read_volume, write_volume
from tests.app.hearts import app_that_learns, heart
from tests.app.live import LiveServer, start_server, write_study
from tests.waiting import HANG_S, wait_until

MODEL = "prato_unetr"
ROI = {"roi": [10, 30, 8, 28, 0, 5]}
LONG = {"max_steps": 5_000, "max_epochs": 10_000}


@contextmanager
def started(folder: Path, forked_training: bool) -> Iterator[LiveServer]:
    """The stock command over labelled studies of two patients; a training is waited for that is slow to stop, as beside other tests."""
    app, studies = app_that_learns(folder / "app"), folder / "studies"
    code = app / "lib" / "jobs" / "training_queue.py"
    impatient = f"_STOP_TIMEOUT_S = {_STOP_TIMEOUT_S}"
    assert impatient in code.read_text(encoding="utf-8")
    code.write_text(code.read_text(encoding="utf-8").replace(impatient, f"_STOP_TIMEOUT_S = {HANG_S}"), encoding="utf-8")
    (studies / "labels" / "final").mkdir(parents=True)
    for n, name in enumerate(("a_ED", "b_ED")):
        image = write_study(studies / f"{name}.nii.gz", seed=n)
        write_volume(studies / "labels" / "final" / image.name, heart(), read_volume(image).affine)
    with start_server(app, studies, folder / "server.log", forked_training=forked_training) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The tests of this file change it one after the other."""
    with started(tmp_path_factory.mktemp("training"), forked_training=True) as running:
        yield running


@pytest.fixture(scope="module")
def killed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Whose training processes, and in the end it itself, are killed: they are as they are where nothing is forked."""
    with started(tmp_path_factory.mktemp("killed"), forked_training=False) as running:
        yield running


def get(server: LiveServer, path: str) -> Any:
    return requests.get(server.url + path, timeout=200).json()


def job(server: LiveServer) -> dict[str, Any]:
    return get(server, "/train/")


def ended(server: LiveServer) -> bool:
    return job(server)["state"] not in ("queued", "running")


def step(server: LiveServer) -> int:
    return int(get(server, "/info/")["train_stats"][MODEL].get("step", 0))


def models(server: LiveServer) -> dict[str, bytes]:
    return {name: data for name, data in server.tree().items() if name.endswith(".safetensors")}


def answering(server: LiveServer) -> str:
    return str(server.infer(MODEL, "a_ED", ROI).json["model_version"])


def test_of_two_at_the_same_moment_one_is_refused(server: LiveServer) -> None:
    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(lambda _: server.post(f"/train/{MODEL}", LONG), range(2)))
    assert sorted(reply.status for reply in replies) == [200, 429]
    refused = next(reply for reply in replies if reply.status == 429)
    assert refused.json["detail"].startswith("A training is running already: wait until it has finished")
    assert len(get(server, "/train/?all=true")) == 1


def test_stopped_it_leaves_nothing_half_written(server: LiveServer) -> None:
    before = models(server)
    wait_until(lambda: step(server) > 2, every=0.2)
    shown = job(server)
    assert (shown["status"], shown["state"]) == ("RUNNING", "running")
    assert "step" in shown["details"][-1]
    assert shown["progress"]["eta_seconds"] > 0
    assert server.infer(MODEL, "a_ED", ROI).status == 200  # while it trains
    assert requests.delete(f"{server.url}/train/", timeout=200).json()["status"] == "STOPPED"
    assert requests.delete(f"{server.url}/train/", timeout=200).json() is None
    assert get(server, "/train/?check_if_running=true")["detail"] == "No training is running."
    assert models(server) == before
    assert not list(server.app.rglob("*.tmp"))


def test_taken_up_published_and_gone_back_from(server: LiveServer) -> None:
    reached, shipped = step(server), answering(server)
    assert server.post(f"/train/{MODEL}", LONG).status == 200
    first = wait_until(lambda: (job(server).get("progress") or {}).get("step"), every=0.2)  # none while it loads and measures
    assert first >= reached
    requests.delete(f"{server.url}/train/", timeout=200)
    done = server.read(requests.post(f"{server.url}/train/{MODEL}?run_sync=true", json={"max_steps": 10, "seed": 3}, timeout=600)).json
    assert done["published"], done["reason"]
    assert answering(server) == done["model_version_after"] != shipped
    history = get(server, f"/model/{MODEL}/history")
    assert (history["current"], [row["kind"] for row in history["records"]]) == (done["model_version_after"], ["shipped", "trained"])
    assert set(history["records"][1]["training"]["labels"]) == {"a_ED", "b_ED"}
    picture = requests.get(f"{server.url}/model/{MODEL}/history.png", timeout=200)
    assert (picture.headers["content-type"], picture.content[:4]) == ("image/png", b"\x89PNG")
    assert server.post(f"/model/{MODEL}/rollback?version={shipped}").json["kind"] == "rolled_back"
    assert answering(server) == shipped
    for version, status in ((shipped, 409), ("0" * 12, 404), ("../prato_unetr", 404)):
        reply = server.post(f"/model/{MODEL}/rollback?version={version}")
        assert (reply.status, reply.json["detail"][-1]) == (status, ".")
    assert server.post("/model/nothing/rollback?version=x").status == 404


def test_a_worker_that_is_killed_is_a_sentence_and_the_server_goes_on(killed_server: LiveServer) -> None:
    server = killed_server
    assert server.post(f"/train/{MODEL}", LONG).status == 200
    wait_until(lambda: job(server).get("progress"), every=0.2)
    os.kill(worker(server), signal.SIGKILL)
    wait_until(lambda: job(server)["status"] != "RUNNING", every=0.2)
    assert (job(server)["status"], job(server)["state"]) == ("ERROR", "failed")
    assert "The training process was killed (signal 9)" in job(server)["details"][-1]
    assert server.infer(MODEL, "a_ED", ROI).status == 200


def worker(server: LiveServer) -> int:
    """The process that trains."""
    (found,) = [p for p in psutil.Process(server.process.pid).children() if p.cmdline()[-1:] == ["prato.retraining"]]
    return int(found.pid)


def stored(server: LiveServer) -> Path:
    """What a training goes on from."""
    folder = server.app / "model" / MODEL
    return next(folder.glob("state_*.pt"), folder / "none yet")


def trains(server: LiveServer, asked: dict[str, int]) -> None:
    """Have a training begin; it may be over soon."""
    assert server.post(f"/train/{MODEL}", asked).status == 200
    wait_until(lambda: (job(server).get("progress") or {}).get("step") or ended(server), every=0.2)


def caught_in_the_middle(server: LiveServer) -> tuple[dict[str, int], int]:
    """A training that was stopped, taken up, and frozen before its end: what was asked for, and a step that it had reached when stopped."""
    for seed in range(10, 30):
        asked = {"max_steps": 100, "max_epochs": 10_000, "seed": seed}
        stored(server).unlink(missing_ok=True)
        trains(server, asked)
        reached = step(server)
        requests.delete(f"{server.url}/train/", timeout=200)
        if not stored(server).exists():  # it was over, or too slow to store anything
            continue
        trains(server, asked)
        os.kill(worker(server), signal.SIGSTOP)
        if job(server)["state"] == "running":
            return asked, reached
        os.kill(worker(server), signal.SIGCONT)
    raise AssertionError("every training was over before it could be stopped")


def test_killed_with_all_its_processes_it_starts_clean_and_the_training_goes_on_to_its_end(killed_server: LiveServer) -> None:
    """The last test of that server, which is gone."""
    server = killed_server
    asked, reached = caught_in_the_middle(server)
    before = models(server)
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()
    with start_server(server.app, server.studies, server.log.with_name("again.log")) as again:
        cut_off = job(again)
        assert (cut_off["status"], cut_off["state"]) == ("ERROR", "interrupted")
        assert "start it again, and it resumes where it stopped" in cut_off["details"][-1]
        assert models(again) == before
        assert not list(again.app.rglob("*.tmp"))
        shipped = answering(again)
        trains(again, asked)
        wait_until(lambda: ended(again), every=0.2)
        done = job(again)
        assert done["state"] == "done", done
        steps = [int(found[1]) for line in done["details"] if (found := re.search(r"step (\d+)/100", line))]
        assert steps[-1] == 100
        assert reached < steps[0]  # it did not begin anew
        result = get(again, "/info/")["train_stats"][MODEL]
        assert result["model_version_before"] == shipped
        assert answering(again) == result["model_version_after"]
        assert not list(again.app.rglob("*.tmp"))
        assert not stored(again).exists()


def test_what_came_into_the_folder_a_moment_ago_counts(tmp_path: Path) -> None:
    app, studies = app_that_learns(tmp_path / "app"), tmp_path / "studies"
    (studies / "labels" / "final").mkdir(parents=True)
    with start_server(app, studies, tmp_path / "server.log", {"MONAI_LABEL_DATASTORE_AUTO_RELOAD": "false"}) as server:
        for n, name in enumerate(("a_ED", "b_ED")):
            image = write_study(studies / f"{name}.nii.gz", seed=n)
            assert server.post(f"/batch/infer/{MODEL}?images=all&run_sync=true", {}).status == 200
            write_volume(studies / "labels" / "final" / image.name, heart(), read_volume(image).affine)
        assert server.post(f"/train/{MODEL}", {"max_steps": 1}).status == 200
        write_study(studies / "c_ED.nii.gz", seed=2)
        assert server.post("/activelearning/random", {}).json["id"] == "c_ED"  # the one without a label
