"""What clients upload, checked before it is stored, and what is packed for them.

Plain functions, so that they run in worker threads: MONAI Label's own pack and unpack whole images while nobody else is answered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, File, Form, HTTPException, UploadFile
from fastapi.responses import FileResponse
from monailabel.endpoints import datastore, session
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import remove_file

from lib.datastore import StudiesDatastore
from lib.server import checks, roles
from lib.server.leftovers import removed_if_refused
from prato.labelling.version import annotator_of

router = APIRouter()
_ENDINGS = (".nii.gz", ".nii")


@router.put("/datastore/", include_in_schema=False)
@router.put("/datastore/image")
def add_image(
    background_tasks: BackgroundTasks,
    file: Annotated[UploadFile, File()],
    image: str = "",
    params: Annotated[str, Form()] = "{}",
    user: User = roles.ANNOTATOR,
) -> Any:
    """Add a study."""
    checks.storable(checks.json_object(params))
    name = Path(file.filename or "").name
    ending = next((e for e in _ENDINGS if name.lower().endswith(e)), "")
    checks.volume(file, "The uploaded image")
    with removed_if_refused(background_tasks):
        return datastore.add_image(background_tasks, image or name[: len(name) - len(ending)] or "-", params, file, user.username)


@router.delete("/datastore/", include_in_schema=False)
@router.delete("/datastore/image")
def remove_image(id: str, annotator: str = "", user: User = roles.ADMIN) -> Any:
    """Remove a study; the versions of its labels stay, and say who removed them."""
    store = app_instance().datastore()
    if not isinstance(store, StudiesDatastore):
        return datastore.remove_image(id, user.username)
    store.remove_image(id, annotator_of({"annotator": annotator}))
    return {}


@router.put("/session/")
def create_session(
    background_tasks: BackgroundTasks,
    files: Annotated[list[UploadFile], File()],
    uncompress: bool = False,
    expiry: int = 0,
    user: User = roles.USER,
) -> Any:
    """Keep one uploaded image for a while. An archive is not unpacked: it could name files anywhere."""
    if uncompress or len(files) != 1:
        raise HTTPException(400, "A session holds one NIfTI file: send it alone, as files, without uncompress.")
    checks.volume(files[0], "The uploaded image")
    with removed_if_refused(background_tasks):
        return session.create_session(background_tasks, False, expiry, files)


@router.get("/datastore/dataset")
def download_dataset(background_tasks: BackgroundTasks, limit_cases: int | None = None, user: User = roles.ANNOTATOR) -> FileResponse:
    """All labelled studies as a ZIP archive, which is removed once it is sent."""
    store = app_instance().datastore()
    if not store.datalist():
        raise HTTPException(404, "There is no labelled study to pack yet: submit a label first.")
    path = store.get_dataset_archive(limit_cases)
    background_tasks.add_task(remove_file, path)
    return FileResponse(path, media_type="application/zip", filename="dataset.zip", background=background_tasks)
