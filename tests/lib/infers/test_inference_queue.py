"""The queue of inference requests: whose turn it is, who is sent away, and how far each is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from lib.infers.inference_queue import InferenceQueue, InferenceSlot, QueueFullError
from tests.waiting import wait_until


def slot(name: str, is_correction: bool = False) -> InferenceSlot:
    made = InferenceSlot(name)
    made.is_correction = is_correction
    return made


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def test_one_of_each_kind_computes_in_the_order_in_which_they_came(pool: ThreadPoolExecutor) -> None:
    queue, done, running = InferenceQueue(8), list[str](), list[str]()
    go_on = {name: threading.Event() for name in ("cine", "click 1", "image", "click 2")}

    def compute(name: str) -> None:
        with queue.acquire(slot(name, name.startswith("click"))):
            running.append(name)
            assert go_on[name].wait(60)
            running.remove(name)
            done.append(name)

    jobs = []
    for count, name in enumerate(go_on, 1):
        jobs.append(pool.submit(compute, name))
        wait_until(lambda count=count: len(queue) == count)  # type: ignore[misc]
    wait_until(lambda: len(running) == 2)
    assert set(running) == {"cine", "click 1"}
    assert [queue.progress(name)["before"] for name in go_on] == [0, 0, 1, 1]  # type: ignore[index]
    assert [queue.progress(name)["state"] for name in go_on] == ["computing"] * 2 + ["waiting"] * 2  # type: ignore[index]
    go_on["click 1"].set()
    wait_until(lambda: "click 2" in running)
    assert "image" not in running and done == ["click 1"]
    for name in ("click 2", "cine", "image"):
        go_on[name].set()
    for job in jobs:
        job.result(60)
    assert sorted(done) == sorted(go_on) and done.index("cine") < done.index("image") and len(queue) == 0


def test_where_nobody_may_wait_it_is_said_that_somebody_is_served() -> None:
    queue = InferenceQueue(0)
    with queue.acquire(slot("first")), pytest.raises(QueueFullError, match="A request is running already"), queue.acquire(slot("second")):
        pass


def test_a_full_line_of_one_kind_sends_none_of_the_other_away(pool: ThreadPoolExecutor) -> None:
    queue, go_on = InferenceQueue(1), threading.Event()

    def compute(name: str) -> None:
        with queue.acquire(slot(name)):
            assert go_on.wait(60)

    jobs = [pool.submit(compute, name) for name in ("first", "second")]
    wait_until(lambda: len(queue) == 2)
    with pytest.raises(QueueFullError, match="1 request is waiting already"), queue.acquire(slot("third")):
        pass
    with ExitStack() as held:
        held.enter_context(queue.acquire(slot("click", is_correction=True)))
        assert len(queue) == 3
    go_on.set()
    for job in jobs:
        job.result(60)
    assert queue.wait_idle(1, lambda: False)
