"""What clients upload, checked before it is stored, and what is packed for them.

Plain functions, so that they run in worker threads: MONAI Label's own pack and unpack whole images and block every other request meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, File, Form, HTTPException, UploadFile
from fastapi.responses import FileResponse
from monailabel.endpoints import datastore, session
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import remove_file
from monailabel.utils.sessions import SessionInfo, Sessions

from lib.datastore.studies import StudiesDatastore
from lib.server import checks
from lib.server.checks import ADMIN, ANNOTATOR, USER
from prato.labelling.records import annotator_from

router = APIRouter()
_ENDINGS = (".nii.gz", ".nii")


@router.put("/datastore/", include_in_schema=False)
@router.put("/datastore/image")
def add_image(
    background_tasks: BackgroundTasks,
    file: Annotated[UploadFile, File()],
    image: str = "",
    params: Annotated[str, Form()] = "{}",
    user: User = ANNOTATOR,
) -> Any:
    """Add a study."""
    checks.require_storable(checks.parse_json_object(params))
    name = Path(file.filename or "").name
    ending = next((e for e in _ENDINGS if name.lower().endswith(e)), "")
    checks.require_nifti(file, "The uploaded image")
    with remove_uploads_on_error(background_tasks):
        return datastore.add_image(background_tasks, image or name[: len(name) - len(ending)] or "-", params, file, user.username)


@router.delete("/datastore/", include_in_schema=False)
@router.delete("/datastore/image")
def remove_image(id: str, annotator: str = "", user: User = ADMIN) -> Any:
    """Remove a study; the versions of its labels stay, with who removed them."""
    store = app_instance().datastore()
    if not isinstance(store, StudiesDatastore):
        return datastore.remove_image(id, user.username)
    store.remove_image(id, annotator_from({"annotator": annotator}))
    return {}


@router.put("/session/")
def create_session(
    background_tasks: BackgroundTasks,
    files: Annotated[list[UploadFile], File()],
    uncompress: bool = False,
    expiry: int = 0,
    user: User = USER,
) -> Any:
    """Keep one uploaded image for a while. An archive is not unpacked: it could name files anywhere."""
    if uncompress or len(files) != 1:
        raise HTTPException(400, "A session holds one NIfTI file: send it alone, as files, without uncompress.")
    checks.require_nifti(files[0], "The uploaded image")
    with remove_uploads_on_error(background_tasks):
        return session.create_session(background_tasks, False, expiry, files)


@router.get("/datastore/dataset")
def download_dataset(background_tasks: BackgroundTasks, limit_cases: int | None = None, user: User = ANNOTATOR) -> FileResponse:
    """All labelled studies as a ZIP archive, which is removed once it is sent."""
    store = app_instance().datastore()
    if not store.datalist():
        raise HTTPException(404, "There is no labelled study to pack yet: submit a label first.")
    path = store.get_dataset_archive(limit_cases)
    background_tasks.add_task(remove_file, path)
    return FileResponse(path, media_type="application/zip", filename="dataset.zip", background=background_tasks)


@contextmanager
def remove_uploads_on_error(background_tasks: BackgroundTasks) -> Iterator[None]:
    """Remove a request's temporary files when the block raises: MONAI Label removes them after a reply, and then there is none."""
    try:
        yield
    except BaseException:
        for task in background_tasks.tasks:
            task.func(*task.args, **task.kwargs)
        raise


class UploadSessions(Sessions):
    """MONAI Label's sessions, where one whose description was not written completely does not keep the server from starting."""

    def get_session(self, session_id: str, update_ts: bool = True, fetch_cache: bool = True) -> SessionInfo | None:
        """The session, or None where there is none that can be used."""
        try:
            return super().get_session(session_id, update_ts, fetch_cache)
        except (ValueError, OSError, AttributeError):
            return None

    def remove_expired(self) -> int:
        """Remove sessions not used within their time, and those that cannot be read after the longest time."""
        count, now = 0, time.time()
        for folder in [path for path in Path(self.store_path).glob("*") if path.is_dir()]:
            info = self.get_session(folder.name, update_ts=False, fetch_cache=False)
            last_access, expiry = (info.last_access_ts, info.expiry) if info else (folder.stat().st_mtime, self.expiry)
            if last_access + expiry < now:
                self.remove_session(folder.name)
                count += 1
        return count
