"""Batch inference over HTTP: the paths and answers of MONAI Label, the work on the networks that are warm."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, HTTPException
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType
from monailabel.interfaces.utils.app import app_instance

from lib.batch import batch_order
from lib.jobs import BusyError
from lib.server import checks, roles

router = APIRouter(prefix="/batch/infer", dependencies=[Depends(checks.storable_body)])


@router.get("")
def batch_status(all: bool = False, check_if_running: bool = False, user: User = roles.USER) -> Any:
    """The latest batch, all of them, or the one that runs."""
    batches = app_instance().batches.all()
    if check_if_running:
        batches = [batch for batch in batches if batch.job.open]
    if not batches:
        raise HTTPException(404, "No batch is running." if check_if_running else "There was no batch since the server started.")
    tasks = [batch.as_task() for batch in batches]
    return tasks if all else tasks[-1]


@router.post("/{model}")
def run_batch(
    model: str,
    images: BatchInferImageType = BatchInferImageType.IMAGES_ALL,
    params: dict[str, Any] | None = None,
    run_sync: bool = False,
    user: User = roles.ADMIN,
) -> Any:
    """Propose masks for many studies in the background; 429 while another batch runs."""
    app, request = app_instance(), {"model": model, "images": images.value, **(params or {})}
    checks.known("model", request["model"], app.info()["models"])
    try:
        batch = app.start_batch(request, batch_order(request, app.datastore()))
    except BusyError as error:
        raise HTTPException(429, str(error)) from error
    if run_sync:
        app.batches.wait(batch)
        if batch.job.state != "done":
            raise HTTPException(409, batch.job.sentence or "The batch was stopped before its end.")
    return batch.as_task()


@router.delete("")
def stop_batch(user: User = roles.ADMIN) -> Any:
    """Stop the batch that runs; what it has stored stays. Null if none runs."""
    batch = app_instance().batches.stop()
    return batch and batch.as_task()
