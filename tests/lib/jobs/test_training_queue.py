"""Trainings in the background, with the real process that trains: stopped, taken up, killed, and asked for at the same moment."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from lib.jobs import training_queue, worker_process
from lib.jobs.job import BusyError, Job, save_jobs
from lib.jobs.training_queue import TrainingQueue
from lib.jobs.worker_process import WorkerDiedError, WorkerProcess
from prato.data.nifti import read_volume, write_volume
from prato.data.studies.folder import StudyFile
from prato.retraining.model_store import ModelStore
from prato.retraining.round import TrainingOrder, studies_key, train_round
from prato.training.fine_tuning import TrainingParameters
from prato.training.progress import TrainingProgress, load_progress
from tests.app.hearts import blank_model, heart
from tests.app.live import write_study
from tests.waiting import wait_until

LONG = 10_000
#: The name of the first list of a server of "studies".
LIST = f"jobs_{studies_key('studies')}_1"


class Bench:
    """A model, two labelled studies and a queue."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model = folder, folder / "model" / "m.safetensors"
        self.model.parent.mkdir()
        blank_model(self.model)
        for n, study in enumerate(("a", "b")):
            image = write_study(folder / f"{study}.nii.gz", seed=n)
            write_volume(folder / f"label_{study}.nii.gz", heart(), read_volume(image).affine)
        self.queue = TrainingQueue(folder / "trainings", "studies")

    @property
    def list(self) -> Path:
        """Where the trainings of ``queue`` are written."""
        (path,) = (self.folder / "trainings").glob("*.json")
        return path

    def order(self, steps: int, **parameters: int) -> dict[str, Any]:
        files = [StudyFile(s, s, self.folder / f"{s}.nii.gz", self.folder / f"label_{s}.nii.gz") for s in ("a", "b")]
        training = TrainingParameters(max_epochs=10_000, max_steps=steps, **parameters)
        return TrainingOrder(model=self.model, parameters=training, files=files).model_dump(mode="json", by_alias=True)

    def submit(self, steps: int, enqueue: bool = False, **parameters: int) -> Job:
        return self.queue.submit({"model": "m"}, self.order(steps, **parameters), enqueue)

    @property
    def step(self) -> int:
        return int(load_progress(self.model.parent / "m" / "stats.json").get("step", 0))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The tests of this file change it one after the other: starting the process takes longer than all of them."""
    made = Bench(tmp_path_factory.mktemp("bench"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(worker_process, "_NICENESS", 1)  # beside other tests, ten steps are a tenth of a core
        yield made
        made.queue.close()


@pytest.mark.slow
def test_of_many_at_the_same_moment_one_is_taken(bench: Bench) -> None:
    def attempt(_: int) -> bool:
        try:
            bench.submit(LONG)
        except BusyError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1
    (job,) = bench.queue.jobs()
    wait_until(lambda: bench.step >= 3)
    assert job.state == "running"
    task = job.as_task(load_progress(bench.model.parent / "m" / "stats.json"))
    assert task["status"] == "RUNNING"
    assert task["progress"]["total_steps"] == LONG
    assert task["progress"]["eta_seconds"] > task["progress"]["seconds"] > 0
    assert "step" in task["details"][-1]
    niceness, own = (os.getpriority(os.PRIO_PROCESS, pid) for pid in (bench.queue.worker_pid, 0))
    assert niceness == min(own + 1, 19)  # which is as low as a priority can be, also that of these tests


@pytest.mark.slow
def test_stopped_and_taken_up(bench: Bench) -> None:
    model = bench.model.read_bytes()
    assert bench.queue.stop().state == "stopped"
    reached = bench.step
    assert bench.queue.stop() is None
    assert bench.model.read_bytes() == model
    assert not list(bench.folder.rglob("*.tmp"))
    second = bench.submit(LONG)
    wait_until(lambda: bench.step > reached)
    assert second.state == "running"


@pytest.mark.slow
def test_killed_it_fails_with_a_sentence_and_goes_on_after(bench: Bench) -> None:
    job = bench.queue.current
    following = bench.submit(LONG, enqueue=True)
    os.kill(bench.queue.worker_pid, signal.SIGKILL)
    wait_until(lambda: not job.is_open)
    assert job.state == "failed"
    assert job.sentence == "The training process was killed (signal 9): start the training again, and it resumes where it stopped."
    assert job.as_task({})["details"][-1] == f"HTTPException: {job.sentence}"
    wait_until(lambda: following.lines)  # by a new process
    shutil.copytree(bench.list.parent, bench.folder / "killed")  # as if nobody held it any more
    restarted = TrainingQueue(bench.folder / "killed", "studies").jobs()
    assert [(j.state, j.as_task({})["status"]) for j in restarted] == [
        ("stopped", "STOPPED"),
        ("failed", "ERROR"),
        ("interrupted", "ERROR"),
    ]
    assert "The server stopped during this training" in restarted[-1].as_task({})["details"][-1]
    bench.queue.stop()


@pytest.mark.slow
def test_one_that_does_not_hear_is_ended_all_the_same(bench: Bench) -> None:
    """Within two seconds, with nothing half-written."""
    assert training_queue._STOP_TIMEOUT_S < 2
    model, frozen = bench.model.read_bytes(), bench.submit(LONG)
    wait_until(lambda: frozen.lines)
    os.kill(bench.queue.worker_pid, signal.SIGSTOP)
    assert bench.queue.stop() is frozen
    assert frozen.state == "stopped"
    assert bench.model.read_bytes() == model
    assert not list(bench.folder.rglob("*.tmp"))


@pytest.mark.slow
def test_a_short_one_ends_with_a_result(bench: Bench) -> None:
    job = bench.submit(4)
    wait_until(lambda: not job.is_open)
    assert job.state == "done", job.sentence
    assert job.result["model_version_before"]
    wait_until(lambda: json.loads(bench.list.read_text())[-1]["state"] == "done")


@pytest.mark.slow
def test_a_process_that_dies_while_it_waits_costs_no_training(bench: Bench) -> None:
    """It is told of the next one before anybody can know that it is about to die."""
    warm = bench.queue.worker_pid
    os.kill(warm, signal.SIGSTOP)  # so that it cannot begin
    job = bench.submit(2)
    wait_until(lambda: job.state == "running")
    os.kill(warm, signal.SIGKILL)
    wait_until(lambda: not job.is_open)
    assert job.state == "done", job.sentence
    assert bench.queue.worker_pid != warm


@pytest.mark.slow
def test_what_cannot_be_trained_fails_with_the_reason(bench: Bench) -> None:
    for study in ("a", "b"):
        (bench.folder / f"label_{study}.nii.gz").write_bytes(b"no label")
    warm = bench.queue.worker_pid
    job = bench.submit(4)
    wait_until(lambda: not job.is_open)
    assert bench.queue.worker_pid == warm
    assert job.state == "failed"
    assert job.sentence.startswith("None of the final labels can be used: The label label_a.nii.gz is not readable NIfTI")


@pytest.mark.parametrize("hears", [True, False])
def test_a_server_that_ends_has_interrupted_its_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hears: bool) -> None:
    """They had been "stopped", as if somebody had wanted that; those of a server that was killed are interrupted."""
    told = Event()

    def run(self: WorkerProcess, job: str, order: dict[str, Any], on_line: Any) -> dict[str, Any]:
        on_line("begun")
        told.wait()
        return {"id": job, "end": "stopped"}

    monkeypatch.setattr(WorkerProcess, "run", run)
    monkeypatch.setattr(WorkerProcess, "stop", lambda self, job: told.set() if hears else None)
    made = Bench(tmp_path)
    running, waiting = made.submit(2), made.submit(2, enqueue=True)
    wait_until(lambda: running.lines)
    made.queue.close()
    restarted = TrainingQueue(tmp_path / "trainings", "studies")
    for job, again in zip((running, waiting), restarted.jobs()):
        assert job.id == again.id and job.state == again.state == "interrupted"
        assert again.sentence == "The server stopped during this training: start it again, and it resumes where it stopped."
    told.set()
    restarted.close()


def publish_and_die(made: Bench, job: str) -> None:
    """A round of the training ``job`` whose process is killed before it can say what it came to."""

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(TrainingProgress, "report_result", die)
        train_round(TrainingOrder.model_validate({**made.order(2), "job": job}), lambda: True)


@pytest.mark.slow
def test_a_training_that_has_published_its_model_is_done_although_its_process_could_not_say_so(tmp_path: Path) -> None:
    made = Bench(tmp_path)
    running, waiting = Job({"model": "m"}, made.order(2)), Job({"model": "m"}, made.order(2))
    running.start()
    publish_and_die(made, running.id)
    made.queue.close()
    save_jobs(tmp_path / "trainings" / f"{LIST}.json", [running, waiting])
    first, second = TrainingQueue(tmp_path / "trainings", "studies").jobs()
    assert first.state == "done" and second.state == "interrupted"
    stats = load_progress(tmp_path / "model" / "m" / "stats.json")
    assert first.result["published"] is stats["published"] is True
    assert ModelStore(made.model).history()[-1].version == first.result["model_version_after"] == stats["model_version_after"]


@pytest.mark.slow
def test_a_training_whose_process_dies_after_it_has_published_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Bench(tmp_path)

    def run(self: WorkerProcess, job: str, order: dict[str, Any], on_line: Any) -> dict[str, Any]:
        assert order["job"] == job
        publish_and_die(made, job)
        raise WorkerDiedError("signal 9")

    monkeypatch.setattr(WorkerProcess, "run", run)
    job = made.submit(2)
    wait_until(lambda: not job.is_open)
    assert job.state == "done" and job.result["published"], job.sentence


@pytest.mark.parametrize(
    "text",
    [
        '[{"state": "do',
        "[1, null]",
        '[{"request": {"model": "m"}, "order": {}, "state": "asleep", "lines": []}]',
        '[{"request": "m", "order": {}, "state": "done", "lines": []}]',
        "[" * 100_000,
    ],
)
def test_a_damaged_list_of_jobs_is_no_obstacle(tmp_path: Path, text: str) -> None:
    (tmp_path / f"{LIST}.json").write_text(text)
    assert TrainingQueue(tmp_path, "studies").jobs() == []


def test_half_a_list_of_trainings_that_a_killed_server_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / f".{LIST}.json.x7_k2mqz.tmp").write_bytes(b"[{")
    assert TrainingQueue(tmp_path, "studies").jobs() == [] and not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*.tmp"))


def ended_list(folder: Path, *jobs: Job) -> list[tuple[str, str]]:
    """What a server of "studies" that starts now, and ends again, finds in ``folder``, where one before it has written ``jobs``."""
    if jobs:
        save_jobs(folder / f"{LIST}.json", list(jobs))
    queue = TrainingQueue(folder, "studies")
    found = [(job.id, job.state) for job in queue.jobs()]
    queue.close()
    return found


@pytest.mark.parametrize("studies", ["studies", "of another department"])
def test_a_second_server_with_the_same_models_leaves_the_trainings_of_the_first_alone(tmp_path: Path, studies: str) -> None:
    """It said of the one that ran that the server had stopped, and each wrote its own list over the other's."""
    first = TrainingQueue(tmp_path, "studies")
    running = Job({"model": "m"}, {})
    running.start()
    save_jobs(first._path, [running])
    second = TrainingQueue(tmp_path, studies)
    assert second.jobs() == []
    others = Job({"model": "m"}, {}, state="done")
    save_jobs(second._path, [others])
    second.close()
    again = TrainingQueue(tmp_path, studies)
    assert [job.id for job in again.jobs()] == [others.id]
    first.close()
    assert ended_list(tmp_path) == [(running.id, "interrupted")]
    again.close()


def test_a_server_of_other_studies_does_not_take_up_the_list_of_one_that_has_ended(tmp_path: Path) -> None:
    job = Job({"model": "m"}, {}, state="done")
    assert ended_list(tmp_path, job) == [(job.id, "done")]
    assert TrainingQueue(tmp_path, "of another department").jobs() == []
    assert ended_list(tmp_path) == [(job.id, "done")]


def test_the_list_that_all_servers_of_an_app_once_shared_goes_to_the_first_that_starts(tmp_path: Path) -> None:
    job = Job({"model": "m"}, {}, state="done")
    save_jobs(tmp_path / "jobs.json", [job])
    first = TrainingQueue(tmp_path, "studies")
    assert [each.id for each in first.jobs()] == [job.id]
    assert TrainingQueue(tmp_path, "of another department").jobs() == []
    first.close()
    assert ended_list(tmp_path) == [(job.id, "done")]


def test_where_no_list_can_be_held_trainings_run_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is no reason for a server not to start."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", fail)
    queue = TrainingQueue(tmp_path, "studies")
    monkeypatch.undo()
    assert queue.jobs() == []
    queue.close()
