"""The worker where the main thread holds the interpreter's lock between its ticks, as Qt's event loop does in 3D Slicer."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from PratoLabelLib.server.worker import Worker

#: Between two ticks of a panel that waits for a reply, and how long such a tick waits.
BETWEEN_S, SHARE_S = 0.005, 0.01


@pytest.fixture
def worker() -> Iterator[Worker]:
    running = Worker()
    yield running
    running.stop()


def deliver(worker: Worker, job: Callable[[], Any], share: float) -> tuple[int, float]:
    """How many ticks ``job`` takes, and what part of the time was the main thread's wait in them."""
    results: list[Any] = []
    worker.submit(job, results.append, results.append)
    ticks, waited, start = 0, 0.0, time.monotonic()
    hold = ctypes.PyDLL(None).usleep  # does not let go of the lock, as ctypes.CDLL or time.sleep would
    while not results and ticks < 2000:
        tick = time.monotonic()
        worker.poll(share)
        waited += time.monotonic() - tick
        ticks += 1
        hold(int(1e6 * BETWEEN_S))
    assert results == ["done"]
    return ticks, waited / (time.monotonic() - start)


def give_and_take(times: int) -> Callable[[], str]:
    """A job that gives up the lock so many times, as every read from a socket does."""

    def job() -> str:
        for _ in range(times):
            time.sleep(0)
        return "done"

    return job


def test_a_small_request_is_a_tick_or_two(worker: Worker) -> None:
    deliver(worker, give_and_take(1), SHARE_S)  # the thread has started
    assert min(deliver(worker, give_and_take(50), SHARE_S)[0] for _ in range(5)) <= 3
    if sys.version_info >= (3, 11):  # before, a thread that gives up the lock for a moment soon had it again
        assert max(deliver(worker, give_and_take(50), 0.0)[0] for _ in range(5)) > 20  # what ticks that do not wait make of it


def test_a_large_transfer_gets_most_of_the_time(worker: Worker) -> None:
    ticks, part = deliver(worker, lambda: time.sleep(0.3) or "done", SHARE_S)
    assert ticks < 60
    assert part > 0.4


def test_a_tick_ends_as_soon_as_there_is_a_result(worker: Worker) -> None:
    start = time.monotonic()
    ticks, _ = deliver(worker, give_and_take(1), 600.0)
    assert ticks == 1
    assert time.monotonic() - start < 300


@pytest.mark.slow
def test_an_idle_tick_does_not_wait(worker: Worker) -> None:
    start = time.monotonic()
    worker.poll(600.0)
    assert time.monotonic() - start < 300
