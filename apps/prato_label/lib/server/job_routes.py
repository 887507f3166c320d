"""Training and batch inference over HTTP: MONAI Label's paths and replies, but the work runs in this app's own background jobs."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from monailabel.config import settings
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType
from monailabel.interfaces.utils.app import app_instance

from lib.datastore.studies import StudiesDatastore
from lib.jobs.batch import Batch
from lib.jobs.batch_order import parse_batch_order
from lib.jobs.job import BusyError, Job
from lib.server import checks
from lib.server.checks import ADMIN, USER
from lib.server.errors import CLIENT_CLOSED_REQUEST
from lib.server.shutdown import is_ending

training = APIRouter(prefix="/train", dependencies=[Depends(checks.require_storable_body)])
batch = APIRouter(prefix="/batch/infer", dependencies=[Depends(checks.require_storable_body)])
#: How often it is looked whether a job has ended, for those who wait for it.
_LOOK_S = 0.1


@training.get("/")
def training_status(all: bool = False, check_if_running: bool = False, user: User = USER) -> Any:
    """The latest training, all trainings, or the running one."""
    jobs = app_instance().trainings.jobs()
    if check_if_running:
        jobs = [job for job in jobs if job.is_open][:1]
    if not jobs:
        raise HTTPException(404, "No training is running." if check_if_running else "Nothing has been trained here yet.")
    tasks = [_task(job) for job in jobs]
    return tasks if all else tasks[-1]


@training.post("/{model}")
async def run_training(
    request: Request,
    model: str,
    params: dict[str, Any] | None = None,
    run_sync: bool = False,
    enqueue: bool = False,
    user: User = ADMIN,
) -> Any:
    """Train one model in the background; 429 while another training runs, unless ``enqueue``."""
    await run_in_threadpool(app_instance().refresh_studies)
    job = await run_in_threadpool(_submit, (params or {}).get("model", model), params or {}, enqueue)
    return await _result(job, request) if run_sync else await run_in_threadpool(_task, job)


@training.post("/")
async def run_every_training(request: Request, params: dict[str, Any] | None = None, run_sync: bool = False, user: User = ADMIN) -> Any:
    """Train all models, one after the other; ``params`` holds an object for each by its name."""
    app, given = app_instance(), params or {}
    await run_in_threadpool(app.refresh_studies)
    shared = {name: value for name, value in given.items() if not isinstance(value, dict)}
    models = await run_in_threadpool(_trainable_models, app)
    requests = {model: shared | (given[model] if isinstance(given.get(model), dict) else {}) for model in models}
    for model, own in requests.items():  # all or none
        await run_in_threadpool(app.training_order, model, own)
    jobs = {model: await run_in_threadpool(_submit, model, own, True) for model, own in requests.items()}  # whoever waits may go
    results = {model: await _result(job, request) if run_sync else await run_in_threadpool(_task, job) for model, job in jobs.items()}
    return {model: {"result": result, "detail": None} for model, result in results.items()}


@training.delete("/")
def stop_training(user: User = ADMIN) -> Any:
    """Stop the running training; started again with the same labels, it resumes where it stopped. Null if none is running."""
    job = app_instance().trainings.stop()
    return job and _task(job)


async def _result(job: Job, request: Request) -> Any:
    await _wait_for(job, request, "training")
    return job.result


def _trainable_models(app: Any) -> Any:
    models = app.info()["trainers"]
    if not models:
        raise HTTPException(404, "There is no trainable model here: the server was started without trainers.")
    return models


def _submit(model: Any, params: dict[str, Any], enqueue: bool) -> Job:
    app = app_instance()
    checks.require_known("trainable model", model, _trainable_models(app))
    order = app.training_order(model, params)
    try:
        warnings = app.datastore().label_warnings() if isinstance(app.datastore(), StudiesDatastore) else ()
        return app.trainings.submit({**params, "model": model}, order.model_dump(mode="json", by_alias=True), enqueue, warnings)
    except BusyError as error:
        raise HTTPException(429, str(error)) from error


async def _wait_for(job: Job, request: Request, kind: str) -> None:
    """Return when ``job`` is done. Whoever waits holds no thread: there are 40, and trainings take hours.

    Raises:
        HTTPException: 409 where it ended otherwise; 499, the client has gone; 503, the server ends.
    """
    while job.is_open:
        if is_ending():
            raise HTTPException(503, f"The server is shutting down, which stops the {kind}: start it again once the server is back.")
        if await request.is_disconnected():
            raise HTTPException(CLIENT_CLOSED_REQUEST, f"The client has disconnected: the {kind} goes on without it.")
        await asyncio.sleep(_LOOK_S)
    if job.state != "done":
        raise HTTPException(409, job.sentence or f"The {kind} was stopped before it finished.")


def _task(job: Job) -> dict[str, Any]:
    return {**job.as_task(app_instance().training_stats(job.request.get("model", ""))), "warnings": job.warnings}


@batch.get("")
def batch_status(all: bool = False, check_if_running: bool = False, user: User = USER) -> Any:
    """The latest batch, all batches, or the running one."""
    batches = app_instance().batches.all()
    if check_if_running:
        batches = [each for each in batches if each.job.is_open]
    if not batches:
        raise HTTPException(404, "No batch is running." if check_if_running else "No batch has run since the server started.")
    tasks = [each.as_task() for each in batches]
    return tasks if all else tasks[-1]


@batch.post("")
@batch.post("/{model}")
async def run_batch(
    request: Request,
    model: str = "",
    images: BatchInferImageType = BatchInferImageType.IMAGES_ALL,
    params: dict[str, Any] | None = None,
    run_sync: bool = False,
    user: User = ADMIN,
) -> Any:
    """Propose masks for many studies in the background, by the default model where none is named; 429 while another batch runs."""
    started = await run_in_threadpool(
        _start_batch, {"model": model or app_instance().default_model, "images": images.value, **(params or {})}
    )
    if run_sync:
        await _wait_for(started.job, request, "batch")
    return started.as_task()


def _start_batch(request: dict[str, Any]) -> Batch:
    app = app_instance()
    if not settings.MONAI_LABEL_TASKS_BATCH_INFER:
        raise HTTPException(404, "Batches are switched off on this server (MONAI_LABEL_TASKS_BATCH_INFER).")
    checks.require_known("model", request["model"], app.info()["models"])
    app.refresh_studies()
    try:
        return app.start_batch(request, parse_batch_order(request, app.datastore()))
    except BusyError as error:
        raise HTTPException(429, str(error)) from error


@batch.delete("")
def stop_batch(user: User = ADMIN) -> Any:
    """Stop the running batch; the masks that it has stored stay. Null if none is running."""
    stopped = app_instance().batches.stop()
    return stopped and stopped.as_task()
