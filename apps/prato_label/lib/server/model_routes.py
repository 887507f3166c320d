"""A model's history over HTTP, and the way back to an older version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, BackgroundTasks, HTTPException, Response
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance

from lib.server import checks, roles
from lib.server.history_plot import history_png
from prato.retraining.model_store import ModelStore, ReplacedError, UnknownVersionError
from prato.retraining.records import StoreError

router = APIRouter(prefix="/model")


@router.get("/{model}/history")
def model_history(model: str, user: User = roles.USER) -> dict[str, Any]:
    """What became of the model so far, oldest first; ``kept`` says which versions can be gone back to."""
    store = _store(model)
    try:
        records = store.history()
    except StoreError as error:
        raise HTTPException(503, str(error)) from error
    rows = [{**record.model_dump(), "kept": record.published and store.file(record.version).is_file()} for record in records]
    return {"model": model, "current": next((r.version for r in reversed(records) if r.published), None), "records": rows}


@router.get("/{model}/history.png", response_class=Response)
def model_history_plot(model: str, user: User = roles.USER) -> Response:
    """The same as a picture: Dice and labels by round of training."""
    try:
        return Response(history_png(model, _store(model).history()), media_type="image/png")
    except StoreError as error:
        raise HTTPException(503, str(error)) from error


@router.post("/{model}/rollback")
def roll_back(model: str, version: str, background_tasks: BackgroundTasks, user: User = roles.ADMIN) -> dict[str, Any]:
    """Let an older version answer again; requests under way finish with the one that they began with."""
    try:
        record = _store(model).roll_back(version)
    except UnknownVersionError as error:
        raise HTTPException(404, str(error)) from error
    except ReplacedError as error:
        raise HTTPException(409, str(error)) from error
    except StoreError as error:
        raise HTTPException(503, str(error)) from error
    background_tasks.add_task(app_instance().warm_up, model)
    return record.model_dump()


def _store(model: str) -> ModelStore:
    path = app_instance().model_file(model, validate=False)
    if path is None:
        checks.known("model", model, app_instance().info()["models"])
    return ModelStore(Path(path))
