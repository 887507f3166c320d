"""Work beside the main thread: one thread, jobs in order, and results that come back on the main thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

_T = TypeVar("_T")
_logger = logging.getLogger(__name__)
#: How long :meth:`Worker.stop` waits before it cancels the running job once more.
_NUDGE_S = 0.05


class _Job:
    """A job and its callbacks; ``outcome`` is the callback with the result, once there is one."""

    def __init__(self, run: Callable[[], Any], done: Any, failed: Any, lane: str, cancel: Callable[[], None] | None) -> None:
        self.run, self.done, self.failed, self.lane, self.cancel = run, done, failed, lane, cancel
        self.outcome: Callable[[], None] | None = None


class Worker:
    """Runs jobs one at a time, in the order in which they were submitted, on one thread that never keeps the program from ending.

    All methods are for the main thread. ``cancel`` callbacks must be quick, must not call the worker, and may come more than once: a job
    that begins something just after it was cancelled is cancelled again at the next :meth:`poll`.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._wanted: list[_Job] = []  # waiting, running or with an outcome not yet delivered; a job that is dropped leaves
        self._running: _Job | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="PratoLabel worker", daemon=True)
        self._thread.start()

    def submit(
        self,
        job: Callable[[], _T],
        done: Callable[[_T], None],
        failed: Callable[[Exception], None],
        lane: str = "",
        cancel: Callable[[], None] | None = None,
    ) -> None:
        """Run ``job`` on the thread, then ``done`` with what it returned, or ``failed`` with what it raised, on the main thread.

        Args:
            lane: of a named lane only the newest job is wanted: an older one that waits is dropped, one that runs is cancelled, and what
                comes of it is dropped. Jobs without a lane never replace each other.
            cancel: ends ``job`` early, from the main thread.

        Raises:
            RuntimeError: the worker was stopped.
        """
        with self._changed:
            if self._stopped:
                raise RuntimeError("The worker was stopped.")
            if lane:
                self._wanted = [other for other in self._wanted if other.lane != lane]
            self._wanted.append(_Job(job, done, failed, lane, cancel))
            self._changed.notify()
            self._cancel_unwanted()

    def poll(self) -> None:
        """Deliver the results that have come; a callback that raises is a line in the log and keeps no other from its turn."""
        with self._changed:
            self._cancel_unwanted()
            finished = [(job, job.outcome) for job in self._wanted if job.outcome]
        for job, outcome in finished:
            with self._changed:
                if job not in self._wanted:  # a callback has dropped it
                    continue
                self._wanted.remove(job)
            try:
                outcome()
            except Exception:
                _logger.exception("A callback failed.")

    def cancel(self, lane: str) -> None:
        """Drop the jobs of ``lane`` and their results; the one that runs is cancelled."""
        with self._changed:
            self._wanted = [job for job in self._wanted if job.lane != lane]
            self._cancel_unwanted()

    @property
    def busy(self) -> bool:
        """Whether any result is still to be delivered."""
        with self._changed:
            return bool(self._wanted)

    def busy_in(self, lane: str) -> bool:
        """Whether a result of ``lane`` is still to be delivered."""
        with self._changed:
            return any(job.lane == lane for job in self._wanted)

    def stop(self, timeout: float = 3.0) -> bool:
        """Cancel all jobs, drop all results and end the thread; True if it has ended within ``timeout`` seconds."""
        with self._changed:
            self._stopped = True
            self._wanted = []
            self._changed.notify()
        deadline = time.monotonic() + timeout
        while self._thread.is_alive() and time.monotonic() < deadline:
            with self._changed:
                self._cancel_unwanted()
            self._thread.join(_NUDGE_S)
        return not self._thread.is_alive()

    def _cancel_unwanted(self) -> None:
        # with the lock held, as the thread takes up no other job meanwhile: the next one's request is never hit
        running = self._running
        if running and running not in self._wanted and running.cancel:
            running.cancel()

    def _next(self) -> _Job | None:
        return next((job for job in self._wanted if not job.outcome), None)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._next())
                job = self._running = self._next()
            if job is None:
                return
            try:
                outcome = partial(job.done, job.run())
            except Exception as error:
                outcome = partial(job.failed, error)
            with self._changed:
                job.outcome, self._running = outcome, None
