"""The thread beside the main one: who gets a result, when, and on which thread."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from PratoLabelLib.errors import UserError
from PratoLabelLib.server.connection import Cancelled, ServerError
from PratoLabelLib.server.worker import RequestDispatcher, Worker
from tests.waiting import HANG_S, wait_until


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    assert worker.stop(HANG_S)


class Slow:
    """A job that waits until it is let go or cancelled, as a request waits for its answer."""

    def __init__(self, value: Any = "slow") -> None:
        self.value, self.began, self.let_go, self.cancelled = value, threading.Event(), threading.Event(), 0

    def __call__(self) -> Any:
        self.began.set()
        assert self.let_go.wait(HANG_S)
        return self.value

    def cancel(self) -> None:
        self.cancelled += 1
        self.let_go.set()


def never(result: Any) -> None:
    raise AssertionError(f"{result!r} must not be delivered")


def wait_for(condition: Callable[[], Any], worker: Worker | None = None) -> None:
    """Poll, as the main thread does, until ``condition`` holds."""
    wait_until(condition, worker and worker.poll)


def test_results_come_in_order_and_on_the_main_thread(worker: Worker) -> None:
    got: list[tuple[int, int, bool]] = []
    for n in range(20):
        worker.submit(
            lambda n=n: (n, threading.get_ident()), lambda r: got.append((*r, threading.current_thread() is threading.main_thread())), never
        )
    time.sleep(0.05)
    assert got == []  # nobody is called before the main thread asks
    wait_for(lambda: len(got) == 20, worker)
    assert [n for n, _, _ in got] == list(range(20))
    assert {thread for _, thread, _ in got} == {worker._thread.ident}
    assert all(main for _, _, main in got)


def test_what_a_job_raises_goes_to_failed_and_the_next_job_runs(worker: Worker) -> None:
    got: list[Any] = []
    worker.submit(lambda: 1 / 0, never, got.append)
    worker.submit(lambda: "fine", got.append, never)
    wait_for(lambda: len(got) == 2, worker)
    assert isinstance(got[0], ZeroDivisionError)
    assert got[1] == "fine"


def test_a_callback_that_raises_is_logged_and_keeps_no_other_from_its_turn(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    got: list[Any] = []
    worker.submit(lambda: 1, lambda result: [][result], never)
    worker.submit(lambda: 2, got.append, never)
    with caplog.at_level(logging.ERROR):
        wait_for(lambda: got, worker)
    assert got == [2]
    assert "IndexError" in caplog.text


def test_within_a_lane_the_newest_wins(worker: Worker) -> None:
    slow, got = Slow(), []
    worker.submit(slow, never, never, lane="predict", cancel=slow.cancel)
    assert slow.began.wait(HANG_S)
    for n in range(3):
        worker.submit(lambda n=n: n, got.append if n == 2 else never, never, lane="predict")
    assert slow.cancelled  # the one that ran; those that waited never begin
    wait_for(lambda: got, worker)
    assert got == [2]


def test_other_lanes_and_jobs_without_one_are_left_alone(worker: Worker) -> None:
    slow, got = Slow(), []
    worker.submit(slow, got.append, never, lane="predict", cancel=slow.cancel)
    worker.submit(lambda: "plain", got.append, never)
    worker.submit(lambda: "other", got.append, never, lane="studies")
    worker.submit(lambda: "plain again", got.append, never)
    assert slow.began.wait(HANG_S)
    assert not slow.cancelled
    slow.let_go.set()
    wait_for(lambda: len(got) == 4, worker)
    assert got == ["slow", "plain", "other", "plain again"]


def test_a_result_that_has_come_but_was_not_delivered_is_dropped_too(worker: Worker) -> None:
    worker.submit(lambda: "old", never, never, lane="predict")
    done, got = threading.Event(), []
    worker.submit(done.set, got.append, never)
    assert done.wait(HANG_S)  # so the first has ended, and poll was never called
    worker.submit(lambda: "new", got.append, never, lane="predict")
    wait_for(lambda: "new" in got, worker)


def test_a_job_that_goes_on_in_spite_of_cancel_is_cancelled_at_every_poll(worker: Worker) -> None:
    nudges = threading.Semaphore(0)

    def two_requests() -> str:
        for _ in range(2):  # the second begins after the first was cancelled
            assert nudges.acquire(timeout=HANG_S)
        return "late"

    began = threading.Event()
    worker.submit(lambda: (began.set(), two_requests())[1], never, never, lane="open", cancel=nudges.release)
    assert began.wait(HANG_S)
    worker.cancel("open")
    assert not worker.is_lane_busy("open")
    got: list[str] = []
    worker.submit(lambda: "next", got.append, never, cancel=lambda: got.append("the wrong job was cancelled"))
    wait_for(lambda: got, worker)
    assert got == ["next"]


def test_a_callback_may_submit_and_cancel(worker: Worker) -> None:
    got: list[Any] = []
    gate = Slow()
    worker.submit(gate, lambda _: worker.cancel("doomed"), never)
    worker.submit(lambda: "doomed", never, never, lane="doomed")
    worker.submit(lambda: "kept", lambda r: (got.append(r), worker.submit(lambda: "chained", got.append, never)), never)
    gate.let_go.set()
    wait_for(lambda: len(worker._jobs) == 3 and all(job.outcome for job in worker._jobs))
    worker.poll()
    assert got == ["kept"]
    wait_for(lambda: len(got) == 2, worker)
    assert got[1] == "chained"


def test_busy_until_the_result_is_delivered(worker: Worker) -> None:
    assert not worker.is_busy
    got: list[Any] = []
    worker.submit(lambda: 1, got.append, never, lane="a")
    assert worker.is_busy
    assert worker.is_lane_busy("a")
    assert not worker.is_lane_busy("b")
    wait_for(lambda: got, worker)
    assert not worker.is_busy
    assert not worker.is_lane_busy("a")


def test_stop_cancels_drops_and_ends_the_thread() -> None:
    worker, slow = Worker(), Slow()
    worker.submit(slow, never, never, cancel=slow.cancel)
    worker.submit(lambda: "waiting", never, never)
    assert slow.began.wait(HANG_S)
    assert worker.stop(HANG_S)
    assert slow.cancelled
    assert not worker._thread.is_alive()
    worker.poll()
    assert not worker.is_busy
    with pytest.raises(RuntimeError, match="stopped"):
        worker.submit(lambda: 1, never, never)
    assert worker.stop()  # once more does no harm


@pytest.mark.slow
def test_stop_says_when_a_job_will_not_end_and_does_not_wait_longer() -> None:
    worker, slow = Worker(), Slow()
    worker.submit(slow, never, never)
    assert slow.began.wait(HANG_S)
    assert not worker.stop(timeout=0.2)
    assert worker._thread.daemon  # it keeps no program from ending
    slow.let_go.set()
    assert worker.stop(HANG_S)


class Garbage:
    """What only a collection finds, as a window of Qt or a node of VTK in a cycle may be."""

    def __init__(self, threads: set[threading.Thread]) -> None:
        self._threads, self._itself = threads, self

    def __del__(self) -> None:
        self._threads.add(threading.current_thread())


@pytest.mark.slow
def test_garbage_is_collected_on_the_main_thread_alone(worker: Worker) -> None:
    threads: set[threading.Thread] = set()

    def make_much() -> list[list[int]]:
        return [[n] for n in range(50 * gc.get_threshold()[0])]

    results: list[Any] = []
    assert gc.isenabled()
    for _ in range(3):
        for _ in range(20):
            Garbage(threads)
        worker.submit(make_much, results.append, never)
    wait_for(lambda: len(results) == 3, worker)
    assert threads <= {threading.main_thread()}
    wait_for(gc.isenabled, worker)
    gc.collect()
    assert threads == {threading.main_thread()}


def test_young_garbage_goes_while_a_request_takes_long(worker: Worker) -> None:
    threads: set[threading.Thread] = set()
    slow = Slow()
    worker.submit(slow, lambda result: None, never)
    Garbage(threads)
    kept = [[n] for n in range(2 * gc.get_threshold()[0])]
    worker.poll()
    assert threads == {threading.main_thread()} and not gc.isenabled() and kept
    slow.let_go.set()
    wait_for(gc.isenabled, worker)


def test_a_stopped_worker_leaves_the_collection_as_it_was() -> None:
    for is_enabled in (False, True):
        gc.enable() if is_enabled else gc.disable()
        try:
            worker = Worker()
            slow = Slow()
            worker.submit(slow, never, never, cancel=slow.cancel)
            assert not gc.isenabled()
            assert worker.stop(HANG_S)
            assert gc.isenabled() == is_enabled
        finally:
            gc.enable()


@pytest.mark.parametrize("is_in_reply", [False, True])
@pytest.mark.parametrize(
    "error", [ServerError("No server replies."), UserError("It does not fit: open it again."), Cancelled(), KeyError("box")]
)
def test_the_console_gets_a_traceback_of_what_nobody_has_foreseen(
    worker: Worker, caplog: pytest.LogCaptureFixture, error: Exception, is_in_reply: bool
) -> None:
    told: list[str] = []

    def fail(_: Any) -> None:
        raise error

    class Client:
        cancel = staticmethod(lambda: None)

    dispatcher = RequestDispatcher(worker, told.append)
    dispatcher.client = Client()  # type: ignore[assignment]
    dispatcher.dispatch(*((lambda client: None, fail) if is_in_reply else (fail, never)), lane="")
    with caplog.at_level(logging.WARNING):
        wait_for(lambda: not worker.is_busy, worker)
    if isinstance(error, KeyError):
        assert told == ["Something unexpected happened (KeyError: 'box'): see the Python console."]
        assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [error]
    else:
        assert told == ([] if isinstance(error, Cancelled) and not is_in_reply else [str(error)])
        assert not caplog.records
