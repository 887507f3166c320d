"""How work leaves the main thread and how its results come back: a worker thread, requests dispatched to it, and signals."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from PratoLabelLib.errors import describe_error
from PratoLabelLib.server.client import Client
from PratoLabelLib.server.connection import Cancelled
from PratoLabelLib.translation import translator

_ = translator(__file__)

_T = TypeVar("_T")
_logger = logging.getLogger(__name__)
#: How long :meth:`Worker.stop` waits before it cancels the running job again.
_CANCEL_INTERVAL_S = 0.05


@dataclass(eq=False)
class _Job:
    """A job and its callbacks; ``outcome`` is the callback with the result, once there is one."""

    run: Callable[[], Any]
    on_result: Callable[[Any], None]
    on_error: Callable[[Exception], None]
    lane: str
    cancel: Callable[[], None] | None
    outcome: Callable[[], None] | None = None


class Worker:
    """Runs jobs one at a time, in the order in which they were submitted, on a daemon thread; results are delivered by :meth:`poll`.

    Qt's event loop holds the interpreter's lock in 3D Slicer, also while it waits: the thread gets on only while the main thread runs
    Python code, and freely only while that waits. :meth:`poll` does, for as long as it is told.

    Garbage is collected on the main thread alone: whatever module has left it, what is Qt's or VTK's there must not be deleted by another
    thread. A window would even wait for the main thread, which waits for the lock, and Slicer would hang.

    All methods are for the main thread. ``cancel`` callbacks must be quick, must not call the worker, and may come more than once: a job
    that begins something just after it was cancelled is cancelled again at the next :meth:`poll`.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: list[_Job] = []  # waiting, running or with an outcome not yet delivered; a job that is dropped leaves the list
        self._running: _Job | None = None
        self._is_stopped = False
        self._has_paused_collection = False
        self._thread = threading.Thread(target=self._loop, name="PratoLabel worker", daemon=True)
        self._thread.start()

    def submit(
        self,
        job: Callable[[], _T],
        on_result: Callable[[_T], None],
        on_error: Callable[[Exception], None],
        lane: str = "",
        cancel: Callable[[], None] | None = None,
    ) -> None:
        """Run ``job`` on the thread, then ``on_result`` with its return value, or ``on_error`` with its exception, on the main thread.

        Args:
            lane: a named lane keeps only its newest job: an older one that waits is dropped, one that runs is cancelled and its result
                dropped. Jobs without a lane never replace each other.
            cancel: ends ``job`` early, from the main thread.

        Raises:
            RuntimeError: the worker was stopped.
        """
        with self._changed:
            if self._is_stopped:
                raise RuntimeError("The worker was stopped.")
            if gc.isenabled():
                gc.disable()
                self._has_paused_collection = True
            if lane:
                self._jobs = [other for other in self._jobs if other.lane != lane]
            self._jobs.append(_Job(job, on_result, on_error, lane, cancel))
            self._changed.notify()
            self._cancel_dropped()

    def poll(self, share: float = 0.0) -> None:
        """Deliver the results that have come; a callback that raises is logged and does not keep the others from being called.

        Args:
            share: seconds that the thread is given to finish a job, where it has one; less as soon as it has.
        """
        with self._changed:
            self._cancel_dropped()
            if self._jobs:
                self._changed.wait_for(self._has_outcome, share)
            finished = [(job, job.outcome) for job in self._jobs if job.outcome]
            self._collect_garbage()
        for job, outcome in finished:
            with self._changed:
                if job not in self._jobs:  # a callback has dropped it
                    continue
                self._jobs.remove(job)
            try:
                outcome()
            except Exception:
                _logger.exception("A callback failed.")

    def cancel(self, lane: str) -> None:
        """Drop the jobs of ``lane`` and their results; the one that runs is cancelled."""
        with self._changed:
            self._jobs = [job for job in self._jobs if job.lane != lane]
            self._cancel_dropped()

    @property
    def is_busy(self) -> bool:
        """Whether any result is still to be delivered."""
        with self._changed:
            return bool(self._jobs)

    def is_lane_busy(self, lane: str) -> bool:
        """Whether a result of ``lane`` is still to be delivered."""
        with self._changed:
            return any(job.lane == lane for job in self._jobs)

    def stop(self, timeout: float = 3.0) -> bool:
        """Cancel all jobs, drop all results and end the thread; True if it has ended within ``timeout`` seconds."""
        with self._changed:
            self._is_stopped = True
            self._jobs = []
            self._changed.notify()
        deadline = time.monotonic() + timeout
        while self._thread.is_alive() and time.monotonic() < deadline:
            with self._changed:
                self._cancel_dropped()
            self._thread.join(_CANCEL_INTERVAL_S)
        self._resume_collection()
        return not self._thread.is_alive()

    def _collect_garbage(self) -> None:
        """Let the interpreter do it when the thread rests; until then do here what is due of young garbage."""
        if not self._has_paused_collection:
            return
        if not self._running and not self._next_job():
            self._resume_collection()
            return
        due = [generation for generation in (0, 1) if gc.get_count()[generation] > gc.get_threshold()[generation]]
        if due:
            gc.collect(due[-1])

    def _resume_collection(self) -> None:
        if self._has_paused_collection:
            self._has_paused_collection = False
            gc.enable()

    def _cancel_dropped(self) -> None:
        # with the lock held, so that the thread takes up no other job meanwhile, whose request would be hit
        running = self._running
        if running and running not in self._jobs and running.cancel:
            running.cancel()

    def _has_outcome(self) -> bool:
        return any(job.outcome for job in self._jobs)

    def _next_job(self) -> _Job | None:
        return next((job for job in self._jobs if not job.outcome), None)

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopped or self._next_job())
                job = self._running = self._next_job()
            if job is None:
                return
            outcome: Callable[[], None]
            try:
                outcome = partial(job.on_result, job.run())
            except Exception as error:
                outcome = partial(job.on_error, error)
            with self._changed:
                job.outcome, self._running = outcome, None
                self._changed.notify()
            del job, outcome  # nothing of a job that was dropped stays until the next one comes, its files for one


class RequestDispatcher:
    """Sends requests to the connected server through the worker; a failure becomes one sentence for the user.

    Args:
        worker: runs the requests.
        on_failure: gets a sentence where a request cannot be sent, fails, or its result cannot be used.
        on_dispatch: called when a request was handed to the worker.

    Attributes:
        client: of the server that is connected; None before.
    """

    def __init__(self, worker: Worker, on_failure: Callable[[str], None], on_dispatch: Callable[[], None] = lambda: None) -> None:
        self.client: Client | None = None
        self._worker, self._on_failure, self._on_dispatch = worker, on_failure, on_dispatch
        self._once: set[tuple[Client, str]] = set()  # that are on their way

    @property
    def address(self) -> str:
        """Of the server that is connected, ``http://host:port``; "" before."""
        return self.client.address if self.client else ""

    def dispatch(
        self,
        request: Callable[[Client], _T],
        on_result: Callable[[_T], None],
        lane: str,
        on_error: Callable[[], None] = lambda: None,
        quiet: bool = False,
        client: Client | None = None,
        once: str = "",
    ) -> None:
        """Call ``request`` with the client in the worker, then ``on_result`` with what it returned, on the main thread.

        Args:
            lane: see :meth:`Worker.submit`.
            on_error: called where the request cannot be sent, fails or is cancelled.
            quiet: a failure is not reported, as the user did not start this request.
            client: used instead of the connected server's.
            once: what it does, in no lane: it is not done twice where a button is pressed twice before the answer is there.
        """
        receiver = client or self.client
        if receiver is None:
            on_error()
            self._on_failure(_("Not connected to a server: enter its address and press Connect."))
            return
        key = receiver, once
        if key in self._once:
            return
        self._once.update([key] if once else [])

        def deliver(result: _T) -> None:
            self._once.discard(key)
            try:
                on_result(result)
            except Exception as error:  # whatever it is, the user must learn that nothing came of the request
                self._on_failure(describe_error(error))

        def fail(error: Exception) -> None:
            self._once.discard(key)
            on_error()
            sentence = "" if isinstance(error, Cancelled) else describe_error(error)
            if sentence and not quiet:
                self._on_failure(sentence)

        self._worker.submit(lambda: request(receiver), deliver, fail, lane, receiver.cancel)
        self._on_dispatch()


class Signal:
    """A signal without Qt: calls its listeners in the order in which they connected. For the main thread alone."""

    def __init__(self) -> None:
        self._listeners: list[Callable[..., None]] = []

    def connect(self, listener: Callable[..., None]) -> None:
        """Call ``listener`` at every :meth:`emit`."""
        self._listeners.append(listener)

    def disconnect(self, listener: Callable[..., None]) -> None:
        """Call ``listener`` no more.

        Raises:
            ValueError: it was not connected.
        """
        self._listeners.remove(listener)

    def emit(self, *args: Any) -> None:
        """Call every listener with ``args``."""
        for listener in list(self._listeners):
            listener(*args)
