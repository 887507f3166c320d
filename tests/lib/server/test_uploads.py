"""Uploaded images that are kept for a while."""

from __future__ import annotations

import tempfile
import time
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import UploadFile
from monailabel.interfaces.app import MONAILabelApp

import main
from lib.server.uploads import UploadSessions, remove_abandoned_uploads, stored_upload


def test_sessions_of_a_server_that_has_ended_end_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = {}
    for name, expiry in (("soon", 100), ("later", 3000)):
        image = tmp_path / f"{name}.nii"
        image.write_bytes(b"")
        ends[name] = Path(UploadSessions(str(tmp_path / "sessions")).add_session(str(image), expiry)[1].path)
    (cut_short := tmp_path / "sessions" / "cut-short").mkdir()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1000)
    app: Any = SimpleNamespace(_sessions=UploadSessions(str(tmp_path / "sessions")))
    MONAILabelApp.cleanup_sessions(app)  # as every five minutes
    assert (ends["soon"].exists(), ends["later"].exists(), cut_short.exists()) == (False, True, True)
    monkeypatch.setattr(time, "time", lambda: now + 10_000)
    MONAILabelApp.cleanup_sessions(app)
    assert not list((tmp_path / "sessions").iterdir())


def test_with_expired_sessions_unused_memory_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[str] = []
    monkeypatch.setattr(main, "release_free_memory", lambda: released.append("all"))
    app = object.__new__(main.PratoLabelApp)
    app._sessions = None
    app.cleanup_sessions()
    assert released == ["all"]


def test_sessions_of_a_clock_that_has_been_set_back_end_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold patients' images."""
    image, now = tmp_path / "image.nii", time.time()
    sessions = UploadSessions(str(tmp_path / "sessions"))
    for ahead in (10, 1_000_000):
        monkeypatch.setattr(time, "time", lambda ahead=ahead: now + ahead)
        image.write_bytes(b"")
        sessions.add_session(str(image), 100)
    monkeypatch.setattr(time, "time", lambda: now)
    assert sessions.remove_expired() == 1
    assert len(list((tmp_path / "sessions").iterdir())) == 1


def test_what_a_killed_server_has_left_of_uploads_is_removed_and_no_upload_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with stored_upload(UploadFile(BytesIO(b"an image"), filename="volume.nii")) as path:
        left = tmp_path / f"{path.parent.name}_left"  # as a kill leaves it
        left.mkdir()
        (left / "volume.nii").write_bytes(b"an image")
        (tmp_path / "prato_other").mkdir()
        remove_abandoned_uploads()
        assert path.read_bytes() == b"an image" and not left.exists() and (tmp_path / "prato_other").exists()
    assert [each.name for each in tmp_path.iterdir()] == ["prato_other"]


def test_a_server_that_starts_just_as_an_upload_begins_does_not_take_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    make, made = tempfile.mkdtemp, list[str]()

    def make_while_another_starts(*arguments: Any, **options: Any) -> str:
        made.append(make(*arguments, **options))
        if len(made) == 1:
            remove_abandoned_uploads()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_while_another_starts)
    with stored_upload(UploadFile(BytesIO(b"an image"), filename="volume.nii")) as path:
        assert path.read_bytes() == b"an image" and len(made) == 2
