"""Training and batch inference over HTTP: the paths and answers of MONAI Label, the work in background jobs of this app's own."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, HTTPException
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType
from monailabel.interfaces.utils.app import app_instance

from lib.datastore.studies import StudiesDatastore
from lib.jobs.batch_order import parse_batch_order
from lib.jobs.job import BusyError, Job
from lib.server import checks
from lib.server.checks import ADMIN, USER
from prato.models.registry import DEFAULT_MODEL

training = APIRouter(prefix="/train", dependencies=[Depends(checks.require_storable_body)])
batch = APIRouter(prefix="/batch/infer", dependencies=[Depends(checks.require_storable_body)])


@training.get("/")
def training_status(all: bool = False, check_if_running: bool = False, user: User = USER) -> Any:
    """The latest training, all of them, or the one that runs."""
    jobs = app_instance().trainings.jobs()
    if check_if_running:
        jobs = [job for job in jobs if job.is_open][:1]
    if not jobs:
        raise HTTPException(404, "No training is running." if check_if_running else "Nothing was trained here yet.")
    tasks = [_task(job) for job in jobs]
    return tasks if all else tasks[-1]


@training.post("/{model}")
def run_training(
    model: str, params: dict[str, Any] | None = None, run_sync: bool = False, enqueue: bool = False, user: User = ADMIN
) -> Any:
    """Train one model in the background; 429 while another training runs, unless ``enqueue``."""
    app_instance().refresh_studies()
    return _submit((params or {}).get("model", model), params or {}, run_sync, enqueue)


@training.post("/")
def run_every_training(params: dict[str, Any] | None = None, run_sync: bool = False, user: User = ADMIN) -> Any:
    """Train all models, one after the other; ``params`` holds an object for each by its name."""
    app, given = app_instance(), params or {}
    app.refresh_studies()
    shared = {name: value for name, value in given.items() if not isinstance(value, dict)}
    requests = {model: shared | (given[model] if isinstance(given.get(model), dict) else {}) for model in app.info()["trainers"]}
    for model, own in requests.items():  # all or none
        app.training_order(model, own)
    return {model: {"result": _submit(model, own, run_sync, True), "detail": None} for model, own in requests.items()}


@training.delete("/")
def stop_training(user: User = ADMIN) -> Any:
    """Stop the training that runs; started again with the same labels it goes on where it was. Null if none runs."""
    job = app_instance().trainings.stop()
    return job and _task(job)


def _submit(model: Any, params: dict[str, Any], run_sync: bool, enqueue: bool) -> Any:
    app = app_instance()
    checks.require_known("model to train", model, app.info()["trainers"])
    order = app.training_order(model, params)
    try:
        warnings = app.datastore().label_warnings() if isinstance(app.datastore(), StudiesDatastore) else ()
        job = app.trainings.submit({**params, "model": model}, order.model_dump(mode="json", by_alias=True), enqueue, warnings)
    except BusyError as error:
        raise HTTPException(429, str(error)) from error
    if not run_sync:
        return _task(job)
    app.trainings.wait(job)
    if job.state != "done":
        raise HTTPException(409, job.sentence or "The training was stopped before its end.")
    return job.result


def _task(job: Job) -> dict[str, Any]:
    return {**job.as_task(app_instance().training_stats(job.request.get("model", ""))), "warnings": job.warnings}


@batch.get("")
def batch_status(all: bool = False, check_if_running: bool = False, user: User = USER) -> Any:
    """The latest batch, all of them, or the one that runs."""
    batches = app_instance().batches.all()
    if check_if_running:
        batches = [each for each in batches if each.job.is_open]
    if not batches:
        raise HTTPException(404, "No batch is running." if check_if_running else "There was no batch since the server started.")
    tasks = [each.as_task() for each in batches]
    return tasks if all else tasks[-1]


@batch.post("")
@batch.post("/{model}")
def run_batch(
    model: str = DEFAULT_MODEL,
    images: BatchInferImageType = BatchInferImageType.IMAGES_ALL,
    params: dict[str, Any] | None = None,
    run_sync: bool = False,
    user: User = ADMIN,
) -> Any:
    """Propose masks for many studies in the background, by the default network where no model is named; 429 while another batch runs."""
    app, request = app_instance(), {"model": model, "images": images.value, **(params or {})}
    checks.require_known("model", request["model"], app.info()["models"])
    app.refresh_studies()
    try:
        started = app.start_batch(request, parse_batch_order(request, app.datastore()))
    except BusyError as error:
        raise HTTPException(429, str(error)) from error
    if run_sync:
        app.batches.wait(started)
        if started.job.state != "done":
            raise HTTPException(409, started.job.sentence or "The batch was stopped before its end.")
    return started.as_task()


@batch.delete("")
def stop_batch(user: User = ADMIN) -> Any:
    """Stop the batch that runs; what it has stored stays. Null if none runs."""
    stopped = app_instance().batches.stop()
    return stopped and stopped.as_task()
