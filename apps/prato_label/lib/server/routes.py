"""Routes that stand before MONAI Label's own of the same path: the same work, once the request has been checked.

They are plain functions, so they run in worker threads; MONAI Label's own hold the whole server still during an inference.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import torch
from fastapi import APIRouter, BackgroundTasks, Depends, File, HTTPException, UploadFile
from monailabel.endpoints import activelearning
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import file_checksum

from lib.server import checks, roles
from prato.inference.segmenter import Segmenter
from prato.models.checkpoint import CheckpointError
from prato.retraining.model_store import ModelStore

router = APIRouter(dependencies=[Depends(checks.storable_body)])


@router.post("/activelearning/{strategy}")
def next_sample(strategy: str, params: dict[str, Any] | None = None, user: User = roles.USER) -> Any:
    """The study to label next."""
    checks.known("strategy", (params or {}).get("strategy", strategy), app_instance().info()["strategies"])
    return activelearning.sample(strategy, params, user.username)


@router.put("/model/{model}")
def replace_model(
    background_tasks: BackgroundTasks, model: str, file: Annotated[UploadFile, File()], user: User = roles.ANNOTATOR
) -> dict[str, Any]:
    """Replace a model's weights by an uploaded model file, which is tried first; requests under way finish with the old one."""
    path = app_instance().model_file(model, validate=False)
    if path is None:
        checks.known("model", model, app_instance().info()["models"])
    data = file.file.read()
    with tempfile.TemporaryDirectory() as folder:
        upload = Path(folder) / "model.safetensors"  # never under its own name, which may be anything
        upload.write_bytes(data)
        try:
            Segmenter(upload, torch.device("cpu"))
        except CheckpointError as error:
            raise HTTPException(400, str(error)) from error
    ModelStore(Path(path)).upload(data)
    background_tasks.add_task(app_instance().warm_up, model)
    return {"checksum": file_checksum(path), "modified_time": int(Path(path).stat().st_mtime)}
