"""A model's history over HTTP, roll-back to an older version, and replacement by an uploaded file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from fastapi import APIRouter, BackgroundTasks, File, HTTPException, Response, UploadFile
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import file_checksum

from lib.server import checks
from lib.server.checks import ADMIN, ANNOTATOR, USER
from lib.server.downloads import Download, name_errors
from prato.inference.predictor import load_segmenter
from prato.models.checkpoint import CheckpointError
from prato.retraining.model_records import ModelRecord, current_version
from prato.retraining.model_store import ModelStore, ReplacedError, StoreError, UnknownVersionError

router = APIRouter(prefix="/model")


@router.get("/{model}/history")
def model_history(model: str, user: User = USER) -> dict[str, Any]:
    """The model's history, oldest first; ``kept`` lists the versions that can be rolled back to."""
    store = _store(model)
    try:
        records = store.history()
    except StoreError as error:
        raise HTTPException(503, str(error)) from error
    rows = [{**record.model_dump(), "kept": record.published and store.file(record.version).is_file()} for record in records]
    return {"model": model, "current": current_version(records), "records": rows}


@router.get("/{model}/history.png", response_class=Response)
def model_history_plot(model: str, user: User = USER) -> Response:
    """The model's history as a picture: Dice and labels by round of training."""
    try:
        return Response(history_png(model, _store(model).history()), media_type="image/png")
    except StoreError as error:
        raise HTTPException(503, str(error)) from error


@router.post("/{model}/rollback")
def roll_back(model: str, version: str, background_tasks: BackgroundTasks, user: User = ADMIN) -> dict[str, Any]:
    """Roll back to an older version; running requests finish with the version that they started with."""
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


@router.get("/{model}")
def download_model(model: str, user: User = ADMIN) -> Response:
    """The model's file as it is now."""
    path = _store(model).model
    if not path.is_file():
        raise HTTPException(404, f"There is no file of {model} yet: upload one, or train the model.")
    with name_errors(path):
        return Download(path.open("rb"), f"{model}{path.suffix}")


@router.put("/{model}")
def replace_model(
    background_tasks: BackgroundTasks, model: str, file: Annotated[UploadFile, File()], user: User = ANNOTATOR
) -> dict[str, Any]:
    """Replace a model's weights by an uploaded model file, which is tried first; running requests finish with the old one."""
    store = _store(model)
    data = file.file.read()
    with tempfile.TemporaryDirectory() as folder:
        upload = Path(folder) / "model.safetensors"  # never under its own name, which may be anything
        upload.write_bytes(data)
        try:
            load_segmenter(upload, torch.device("cpu"))
        except CheckpointError as error:
            raise HTTPException(400, str(error)) from error
        checksum = file_checksum(upload)  # not of the file that answers by the time of the reply: others may upload one, too
    try:
        store.upload(data)
    except StoreError as error:
        raise HTTPException(503, str(error)) from error
    background_tasks.add_task(app_instance().warm_up, model)
    return {"checksum": checksum, "modified_time": int(store.model.stat().st_mtime)}


def _store(model: str) -> ModelStore:
    path = app_instance().model_file(model, validate=False)
    if path is None:
        checks.require_known("model", model, app_instance().info()["models"])
    return ModelStore(Path(path))


def history_png(model: str, records: Sequence[ModelRecord]) -> bytes:
    """Mean Dice on the patients held back by round, with the 95 % interval of its change, over the number of labels that it learnt from."""
    rounds = [record for record in records if record.kind == "trained"]
    figure = Figure(figsize=(8, 5), layout="constrained")
    dice, labels = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    x = np.arange(1, len(rounds) + 1)
    dice.plot(x, [r.training["dice_before"] for r in rounds], "_", color="0.5", markersize=14, label="before")
    for published, colour in ((True, "tab:blue"), (False, "tab:red")):
        chosen = [(n, r) for n, r in zip(x, rounds) if r.published is published]
        after = [r.training["dice_after"] for _, r in chosen]
        dice.plot([n for n, _ in chosen], after, "o", color=colour, label="published" if published else "not published")
        for n, record in chosen:
            if record.training["interval"]:
                low, high = (record.training["dice_before"] + change for change in record.training["interval"])
                dice.vlines(n, low, high, color=colour, alpha=0.5)
    dice.set(title=f"{model}: rounds of training", ylabel="mean Dice, held-back patients")
    dice.legend(loc="best")
    labels.bar(x, [len(r.training["labels"]) for r in rounds], color="0.7")
    labels.set(xlabel="round", ylabel="labels")
    labels.xaxis.set_major_locator(MaxNLocator(integer=True))
    labels.yaxis.set_major_locator(MaxNLocator(integer=True))
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()
