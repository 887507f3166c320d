"""What clients upload, checked before it is stored.

Plain functions, so that they run in worker threads: MONAI Label's own unpack whole images and block every other request meanwhile. Their
temporary files have names that are free when they are chosen, and may be somebody else's when they are used.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, HTTPException, UploadFile
from monailabel.endpoints import datastore
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.sessions import SessionInfo, Sessions

from lib.datastore.studies import StudiesDatastore
from lib.server import checks
from lib.server.checks import ADMIN, ANNOTATOR, USER
from prato.data.atomic import remove_if_abandoned, temporary_folder, why_unwritable
from prato.data.studies.folder import ENDINGS

router = APIRouter()
#: Of the names of folders that uploads lie in for as long as they are read.
_PREFIX = "prato_upload_"


@router.put("/datastore/", include_in_schema=False)
@router.put("/datastore/image")
def add_image(
    file: Annotated[UploadFile, File()],
    image: str = "",
    params: Annotated[str, Form()] = "{}",
    user: User = ANNOTATOR,
) -> Any:
    """Add a study."""
    info = checks.parse_json_object(params)
    checks.require_info(info, "params")
    name = Path(file.filename or "").name
    ending = next((e for e in ENDINGS if name.lower().endswith(e)), "")
    checks.require_nifti(file, "The uploaded image")
    if user.username:
        info["user"] = user.username
    with stored_upload(file) as path:
        return {"image": app_instance().datastore().add_image(image or name[: len(name) - len(ending)] or "-", str(path), info)}


@router.delete("/datastore/", include_in_schema=False)
@router.delete("/datastore/image")
def remove_image(id: str, annotator: str = "", user: User = ADMIN) -> Any:
    """Remove a study; the versions of its labels stay, with who removed them."""
    store = app_instance().datastore()
    if not isinstance(store, StudiesDatastore):
        return datastore.remove_image(id, user.username)
    store.remove_image(id, checks.read_annotator({"annotator": annotator}))
    return {}


@router.put("/session/")
def create_session(
    files: Annotated[list[UploadFile], File()],
    uncompress: bool = False,
    expiry: int = 0,
    user: User = USER,
) -> Any:
    """Keep one uploaded image for a while. An archive is not unpacked: it could name files anywhere."""
    if uncompress or len(files) != 1:
        raise HTTPException(400, "A session holds one NIfTI file: send exactly one as files, without uncompress.")
    checks.require_nifti(files[0], "The uploaded image")
    sessions = app_instance().sessions()
    if sessions is None:
        raise HTTPException(406, "This server keeps no sessions: send the image as file with the inference request.")
    with stored_upload(files[0]) as path:
        try:
            session_id, info = sessions.add_session(str(path), expiry, False)
        except OSError as error:
            if reason := why_unwritable(error):  # by default it is in the home folder, and not everybody has one
                where = f"The folder {sessions.store_path} for sessions cannot be written to ({reason})"
                raise HTTPException(503, f"{where}: name another in MONAI_LABEL_SESSION_PATH, or send the image as file.") from error
            raise
    return {"session_id": session_id, "session_info": info.to_json()}


@contextmanager
def stored_upload(file: UploadFile) -> Iterator[Path]:
    """The content of ``file`` as a file of a plain name in a folder that is nobody else's and goes with the block."""
    with temporary_folder(tempfile.gettempdir(), _PREFIX) as folder:
        path = folder / (file.filename or "volume.nii.gz")
        with path.open("wb") as stored:
            shutil.copyfileobj(file.file, stored)
        yield path


def remove_abandoned_uploads() -> None:
    """Remove the folders of :func:`stored_upload` that servers which were killed have left: they hold patients' images."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if folder.is_dir():
            remove_if_abandoned(folder)


class UploadSessions(Sessions):
    """MONAI Label's sessions, where one whose description was not written completely does not keep the server from starting, and those of
    an earlier server end, too."""

    def __bool__(self) -> bool:
        """True: MONAI Label removes those that have expired where there are any, and knows only those that were used since it started."""
        return True

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
            try:
                last_access, expiry = (info.last_access_ts, info.expiry) if info else (folder.stat().st_mtime, self.expiry)
            except FileNotFoundError:  # somebody has ended it meanwhile
                continue
            if abs(now - last_access) > expiry:  # later than now was by a clock that has been set back since
                self.remove_session(folder.name)
                count += 1
        return count
