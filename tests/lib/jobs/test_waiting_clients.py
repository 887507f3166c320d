"""Whoever waits for the end of a training keeps nobody else from an answer."""

from __future__ import annotations

import asyncio
import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import HTTPException

from lib.jobs.job import BusyError, Job
from lib.server import job_routes, shutdown

#: More than the threads in which a server's plain routes run.
CLIENTS = 60


class App:
    """As much of the app as trains: jobs that end when a test says so."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.trainings = self

    def refresh_studies(self) -> None: ...

    def info(self) -> dict[str, Any]:
        return {"trainers": ["heart", "beat"]}

    def datastore(self) -> None: ...

    def training_stats(self, model: str) -> dict[str, Any]:
        return {}

    def training_order(self, model: str, params: dict[str, Any]) -> Any:
        return SimpleNamespace(model_dump=lambda **_: {})

    def submit(self, request: dict[str, Any], order: dict[str, Any], enqueue: bool, warnings: Any) -> Job:
        if self.jobs and not enqueue:
            raise BusyError("A training is running already.")
        self.jobs.append(Job(request, order))
        return self.jobs[-1]


class Client:
    """One that is connected until a test says otherwise."""

    def __init__(self) -> None:
        self.has_gone = False

    async def is_disconnected(self) -> bool:
        return self.has_gone


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> App:
    app = App()
    monkeypatch.setattr(job_routes, "app_instance", lambda: app)
    monkeypatch.setattr(job_routes, "_LOOK_S", 0.01)
    return app


def train(client: Client, **options: Any) -> Any:
    return job_routes.run_training(client, "heart", {}, run_sync=True, **options)  # type: ignore[arg-type]


def test_those_who_wait_hold_no_thread_and_get_the_result(app: App) -> None:
    async def everything() -> list[Any]:
        waiting = [asyncio.create_task(train(Client(), enqueue=True)) for _ in range(CLIENTS)]
        while len(app.jobs) < CLIENTS:
            await asyncio.sleep(0.01)
        free = await asyncio.wait_for(job_routes.run_in_threadpool(threading.get_ident), 60)
        assert free and not any(task.done() for task in waiting)
        for number, job in enumerate(app.jobs):
            job.end("done", result={"number": number})
        return await asyncio.gather(*waiting)

    assert sorted(result["number"] for result in asyncio.run(everything())) == [*range(CLIENTS)]


def test_nobody_waits_for_a_client_that_has_gone(app: App) -> None:
    async def leave() -> None:
        client = Client()
        waiting = asyncio.create_task(train(client))
        while not app.jobs:
            await asyncio.sleep(0.01)
        client.has_gone = True
        await asyncio.wait_for(waiting, 60)

    with pytest.raises(HTTPException) as gone:
        asyncio.run(leave())
    assert gone.value.status_code == 499 and app.jobs[0].is_open


def test_all_models_are_trained_though_whoever_asked_has_gone(app: App) -> None:
    async def leave() -> None:
        client = Client()
        client.has_gone = True
        await job_routes.run_every_training(client, {}, run_sync=True)  # type: ignore[arg-type]

    with pytest.raises(HTTPException) as gone:
        asyncio.run(leave())
    assert gone.value.status_code == 499 and [job.request["model"] for job in app.jobs] == ["heart", "beat"]


@pytest.mark.parametrize("state", ["stopped", "failed"])
def test_a_training_that_did_not_end_well_is_said_to_whoever_waits(app: App, state: Any) -> None:
    async def everything() -> None:
        waiting = asyncio.create_task(train(Client()))
        while not app.jobs:
            await asyncio.sleep(0.01)
        app.jobs[0].end(state, "Why it failed." if state == "failed" else "")
        await asyncio.wait_for(waiting, 60)

    with pytest.raises(HTTPException, match="Why it failed" if state == "failed" else "stopped before it finished") as ended:
        asyncio.run(everything())
    assert ended.value.status_code == 409


def test_who_waits_is_told_that_the_server_ends(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is told, its own handler still does its work."""
    told: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: told.append(number)) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(shutdown, "_told", threading.Event())
    try:
        shutdown.notice_signals()
        assert not shutdown.is_ending()
        signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert told == [signal.SIGTERM] and shutdown.is_ending()
    with pytest.raises(HTTPException, match="The server is shutting down") as ended:
        asyncio.run(train(Client()))
    assert ended.value.status_code == 503
