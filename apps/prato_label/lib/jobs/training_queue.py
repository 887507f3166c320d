"""Trainings, one at a time, in the order in which they were requested."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Condition, Thread
from typing import Any

from lib.jobs.job import BusyError, Job, State, claim_list, load_jobs, save_jobs
from lib.jobs.worker_process import WorkerDiedError, WorkerProcess
from prato.data.atomic import first_line
from prato.retraining.round import recover_round

logger = logging.getLogger(__name__)
#: As MONAI Label's own trainings are logged.
_task_logger = logging.getLogger("task_train")
#: A round that has not stopped by then is killed; a stop must take less than two seconds.
_STOP_TIMEOUT_S = 0.8
#: How a training ends with the server, which nobody asked to stop that training.
_INTERRUPTED: tuple[State, str] = (
    "interrupted",
    "The server stopped during this training: start it again, and it resumes where it stopped.",
)
#: As ``Job.end`` is given it.
_End = tuple[State, str, dict[str, Any] | None]


class TrainingQueue:
    """The trainings of this server, and those before its last start, which are read from ``folder``.

    Args:
        studies: the folder or address that it serves; servers of others may have the same ``folder``.
    """

    def __init__(self, folder: Path, studies: str) -> None:
        self._path, self._lock = claim_list(folder, studies)
        self._changed = Condition()
        self._jobs = load_jobs(self._path)
        for job in filter(lambda job: job.is_open, self._jobs):
            job.end(*_end_of(job, *_INTERRUPTED))
        self._stopped: tuple[State, str] = ("stopped", "")
        self._worker = WorkerProcess()
        self._thread: Thread | None = None

    def jobs(self) -> list[Job]:
        """All, oldest first."""
        with self._changed:
            return list(self._jobs)

    @property
    def current(self) -> Job | None:
        """The one that runs or is next."""
        with self._changed:
            return self._next()

    @property
    def worker_pid(self) -> int | None:
        """The id of the process that trains, if there is one."""
        return self._worker.pid

    def prepare(self) -> None:
        """Start the process that trains, as it is likely to be needed."""
        try:
            self._worker.start()
        except OSError as error:
            logger.warning("the training process cannot be started: %s", error)

    def submit(self, request: dict[str, Any], order: dict[str, Any], enqueue: bool, warnings: Sequence[str] = ()) -> Job:
        """Start a training, or with ``enqueue`` put it at the end of the queue; ``warnings`` are shown with it.

        Raises:
            BusyError: there is one, and not ``enqueue``.
        """
        with self._changed:  # checked and added at once: of two requests at the same moment, one is refused
            if not enqueue and self._next():
                raise BusyError(
                    "A training is running already: wait until it has finished, stop it with DELETE /train/, or send enqueue=true."
                )
            job = Job(request, order, warnings=[*warnings])
            self._jobs.append(job)
            self._save()
            if self._thread is None:
                self._thread = Thread(target=self._work, name="trainings", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            return job

    def stop(self) -> Job | None:
        """Stop the running training, within two seconds; it can be resumed. None if none is running."""
        with self._changed:
            job = self._next()
            if job is None:
                return None
            if job.state == "queued":  # not sent to the process yet
                self._end(job, *self._stopped)
                return job
        self._worker.stop(job.id)
        with self._changed:
            if not self._changed.wait_for(lambda: not job.is_open, _STOP_TIMEOUT_S):
                self._worker.kill()
                self._end(job, *_end_of(job, *self._stopped))
            return job

    def close(self) -> None:
        """Interrupt every training, and end the process that is kept warm for the next one: the server ends."""
        self._stopped = _INTERRUPTED
        while self.stop():
            pass
        self._worker.kill()
        self._lock.release()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next() is not None)
                job = self._next()
                assert job is not None
                job.start()
                self._save()
            try:
                order = {**job.order, "job": job.id}
                said = self._worker.run(job.id, order, lambda line: self._log_line(job, line))  # noqa: B023 - called at once
                is_stopped = said["end"] == "stopped"
                end: _End = (*self._stopped, None) if is_stopped else (said["end"], said.get("sentence", ""), said.get("result"))
            except WorkerDiedError as error:
                once_more = "start the training again, and it resumes where it stopped."
                end = _end_of(job, "failed", f"The training process was killed ({error}): {once_more}")
            except Exception as error:  # this thread must outlive everything
                logger.exception("the training process cannot be used")
                self._worker.kill()
                end = _end_of(job, "failed", f"The training process cannot be used ({error}): the server's log has the details.")
            with self._changed:
                if job.is_open:
                    self._end(job, *end)

    def _log_line(self, job: Job, line: str) -> None:
        _task_logger.info(line)
        with self._changed:
            job.lines.append(line)

    def _end(self, job: Job, *end: Any) -> None:
        job.end(*end)
        self._save()
        self._changed.notify_all()

    def _next(self) -> Job | None:
        return next((job for job in self._jobs if job.is_open), None)

    def _save(self) -> None:
        try:
            save_jobs(self._path, self._jobs)
        except OSError as error:  # a full disk must not end a training
            logger.warning("%s cannot be written: %s", self._path, error)


def _end_of(job: Job, state: State, sentence: str = "") -> _End:
    """How ``job`` ended whose process could not say so: in ``state``, unless it had published its model, or decided not to."""
    try:
        result = recover_round(Path(job.order["model"]), job.id) if job.begun else None
    except (OSError, LookupError, ValueError) as error:  # such as a models folder that is gone, or read-only
        logger.warning("what the training %s came to cannot be told: %s", job.id, first_line(error))
        result = None
    return (state, sentence, None) if result is None else ("done", "", result)
