"""A model that is uploaded while others upload theirs."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from fastapi import BackgroundTasks, HTTPException, UploadFile

from lib.server import model_routes
from prato.data.atomic import write_bytes
from prato.retraining.model_store import ModelStore
from tests.app.hearts import blank_model


class OvertakenStore(ModelStore):
    """Another server with the same models gets a file of its own before this one has replied."""

    def upload(self, data: bytes) -> None:
        super().upload(data)
        write_bytes(self.model, b"of somebody else")


def test_the_checksum_of_an_upload_is_that_of_the_file_that_was_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blank_model(tmp_path / "sent.safetensors")
    sent = (tmp_path / "sent.safetensors").read_bytes()
    monkeypatch.setattr(model_routes, "_store", lambda model: OvertakenStore(tmp_path / f"{model}.safetensors"))
    monkeypatch.setattr(model_routes, "app_instance", lambda: type("App", (), {"warm_up": None}))
    reply = model_routes.replace_model(BackgroundTasks(), "m", UploadFile(io.BytesIO(sent)))
    assert reply["checksum"] == f"SHA256:{hashlib.sha256(sent).hexdigest()}"


def test_a_history_that_cannot_be_read_is_said_to_who_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blank_model(model := tmp_path / "m.safetensors")
    sent, store = model.read_bytes(), ModelStore(model)
    store.history()
    (store.folder / "history.json").write_text("{")
    monkeypatch.setattr(model_routes, "_store", lambda model: store)
    with pytest.raises(HTTPException, match="cannot be read: restore it, or move it away to begin a new history") as refused:
        model_routes.replace_model(BackgroundTasks(), "m", UploadFile(io.BytesIO(sent)))
    assert refused.value.status_code == 503
