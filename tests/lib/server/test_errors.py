"""What the system says of folders that cannot be written to, as a status and a sentence."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fastapi import FastAPI, Form, HTTPException, Request, UploadFile
from httpx import Response
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from lib.datastore.studies import StudiesDatastore, settings
from lib.server import errors, uploads
from prato.retraining.worker import _Worker
from prato_server.middleware import RequestIdMiddleware


@pytest.mark.parametrize(
    ("place", "code", "status", "sentence"),
    [
        ("app/model/versions/prato_unetr/.lock", errno.EROFS, 503, "The models folder cannot be written to (read-only file system): give"),
        ("app/model/versions", errno.EACCES, 503, "The models folder cannot be written to (permission denied): give the server"),
        ("app/model/a.safetensors", errno.EACCES, 503, "a.safetensors in the models folder cannot be used (permission denied): check the"),
        ("studies/.import-x.tmp", errno.EROFS, 503, "The studies folder cannot be written to (read-only file system): give the server"),
        ("studies/a.nii.gz", errno.EMFILE, 503, "The server has too many files and connections open: send the request again in a moment"),
        ("tmp/upload", errno.ENFILE, 503, "The server has too many files and connections open: send the request again in a moment, or let"),
        ("studies/.import-x.tmp", errno.EACCES, 503, "The studies folder cannot be written to (permission denied): give the server write"),
        ("studies/labels/final/.a.nii.gz.x.tmp", errno.EACCES, 503, "The folder labels/final of the studies cannot be written to (perm"),
        ("scratch/prato_upload_x.tmp", errno.EACCES, 503, "Temporary files cannot be written to"),
        ("scratch/prato_upload_x.tmp", errno.ENOENT, 503, "Temporary files cannot be written to"),
        (
            "studies/unread.nii.gz",
            errno.EACCES,
            409,
            "unread.nii.gz in the studies folder cannot be used (permission denied): check the file",
        ),
    ],
)
def test_folders_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, code: int, status: int, sentence: str
) -> None:
    monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    (tmp_path / "studies").mkdir()
    store = StudiesDatastore(str(tmp_path / "studies"))
    monkeypatch.setattr(errors, "app_instance", lambda: SimpleNamespace(app_dir=str(tmp_path / "app"), datastore=lambda: store))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))  # which is not there
    if "safetensors" in place or "unread" in place:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK)
    request = Request({"type": "http", "method": "PUT", "path": "/", "headers": [], "state": {"request_id": "one-request"}})
    reply = errors._handle_os_error(request, OSError(code, os.strerror(code), str(tmp_path / place)))
    assert reply.status_code == status and json.loads(bytes(reply.body))["detail"].startswith(sentence)


@pytest.mark.parametrize(("place", "what"), [("model/prato_unetr/.lock", "models"), ("studies/training_split.json", "studies")])
def test_a_training_whose_folders_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, what: str) -> None:
    order = {"model": str(tmp_path / "model" / "prato_unetr.safetensors"), "files": [{"image": str(tmp_path / "studies" / "a.nii.gz")}]}

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path / place))

    monkeypatch.setattr("prato.retraining.worker.train_round", refuse)
    monkeypatch.setattr("prato.retraining.worker.TrainingOrder.model_validate", lambda order: order)
    with open(os.devnull) as nothing, open(os.devnull, "w") as said:
        end = _Worker(nothing, said)._run_round("1", order)
    assert end["end"] == "failed"
    assert end["sentence"].startswith(f"The {what} folder cannot be written to (read-only file system): give the server write permission")


def test_sessions_of_somebody_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default sessions are in the home folder, which the user of a service may not have."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/nonexistent")

    sessions = SimpleNamespace(store_path="/nonexistent/.cache/monailabel/sessions", add_session=refuse)
    monkeypatch.setattr(uploads, "app_instance", lambda: SimpleNamespace(sessions=lambda: sessions))
    monkeypatch.setattr(uploads.checks, "require_nifti", lambda *_: None)
    with pytest.raises(HTTPException) as refused:
        uploads.create_session([UploadFile(BytesIO(b"image"), filename="a.nii.gz")])
    assert refused.value.status_code == 503 and "name another in MONAI_LABEL_SESSION_PATH" in refused.value.detail


def test_a_machine_without_memory_says_so() -> None:
    app = FastAPI(middleware=[Middleware(RequestIdMiddleware)])
    errors.register(app)
    faults = {"torch": partial(torch.empty, 2**50), "numpy": partial(np.empty, 2**55), "other": partial(torch.ones(2).reshape, 3)}

    @app.get("/{name}")
    def allocate(name: str) -> None:
        faults[name]()

    asking = TestClient(app, raise_server_exceptions=False)
    for name in ("torch", "numpy"):
        reply = asking.get(f"/{name}")
        assert reply.status_code == 503 and reply.json()["detail"].startswith("The server has too little free memory for this: end")
    assert asking.get("/other").status_code == 500
    order = {"model": "m.safetensors", "files": []}
    with pytest.MonkeyPatch.context() as patched, open(os.devnull) as nothing, open(os.devnull, "w") as said:
        patched.setattr("prato.retraining.worker.train_round", lambda *_: faults["torch"]())
        patched.setattr("prato.retraining.worker.TrainingOrder.model_validate", lambda order: order)
        assert "too little free memory for the training" in _Worker(nothing, said)._run_round("1", order)["sentence"]


@pytest.mark.parametrize("as_upload", [True, False])
def test_a_field_that_is_too_long_is_refused_as_what_it_is(as_upload: bool) -> None:
    app = FastAPI(middleware=[Middleware(RequestIdMiddleware)])
    errors.register(app)

    @app.post("/")
    def take(params: str = Form(), file: UploadFile | None = None) -> None: ...

    def send(size: int) -> Response:
        return TestClient(app).post("/", data={"params": "x" * size}, files={"file": b"image"} if as_upload else None)

    reply = send(2**20 + 1)
    assert (reply.status_code, reply.json()["detail"][:49]) == (413, "A field of the request holds more than 1 MiB, the")
    assert send(2**20 - 64).status_code == 200
