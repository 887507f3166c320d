"""Downloads, opened at once: the client gets the whole file, however slowly it reads and whatever happens to the file meanwhile."""

from __future__ import annotations

import logging
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response, StreamingResponse
from monailabel.endpoints import datastore
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import get_mime_type
from starlette.types import Receive, Scope, Send

from lib.datastore.studies import StudiesDatastore
from lib.server.checks import ANNOTATOR, USER

router = APIRouter(prefix="/datastore")
logger = logging.getLogger(__name__)
_CHUNK = 2**18


@router.get("/image")
def download_image(image: str, user: User = USER) -> Response:
    """A study's file as it is now."""
    store = app_instance().datastore()
    if not isinstance(store, StudiesDatastore):
        return datastore.download_image(image)
    path = Path(store.get_image_uri(image))
    with name_errors(path):
        return Download(path.open("rb"), path.name)


@router.get("/dataset")
def download_dataset(limit_cases: int | None = None, user: User = ANNOTATOR) -> Response:
    """All labelled studies as a ZIP archive, without those removed while it is being packed."""
    store = app_instance().datastore()
    pairs = store.datalist()
    if not pairs:
        raise HTTPException(404, "There is no labelled study to pack yet: submit a label first.")
    if limit_cases is not None and limit_cases < 1:
        raise HTTPException(400, f"limit_cases must be a number of studies, at least 1, not {limit_cases}.")
    file = tempfile.TemporaryFile()  # noqa: SIM115 - it goes with the reply, and has no name that anybody could meet
    try:
        with zipfile.ZipFile(file, "x") as archive:
            for pair in pairs[:limit_cases]:
                _pack(archive, pair)
            archive.writestr("metadata.json", store._datastore.model_dump_json(exclude={"base_path"}))
    except BaseException:
        file.close()
        raise
    return Download(file, "dataset.zip")


def _pack(archive: zipfile.ZipFile, pair: dict[str, str]) -> None:
    """Add an image and its label, both or neither."""
    try:
        contents = {kind: Path(path).read_bytes() for kind, path in pair.items()}
    except FileNotFoundError:
        return
    except OSError as error:  # it costs itself alone
        logger.warning("%s is left out of the archive: it cannot be read (%s).", pair["image"], error.strerror)
        return
    for kind, data in contents.items():
        archive.writestr(f"{kind}/{os.path.basename(pair[kind])}", data)


@contextmanager
def name_errors(path: Path) -> Iterator[None]:
    """Errors of opening or reading the file at ``path`` get its name, which a disk's own have not, and are answered in a sentence."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


class Download(StreamingResponse):
    """The content of the open ``file`` as a download called ``name``.

    The file is closed when the reply ends, also where the client leaves in the middle: what was never read to its end would stay open until
    Python collects its garbage, and an archive would keep its place on the disk as long.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, size = file, file.seek(0, os.SEEK_END)
        file.seek(0)
        headers = {"content-length": str(size), "content-disposition": content_disposition(name)}
        super().__init__(_chunks(file, size), media_type=get_mime_type(name), headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def content_disposition(name: str) -> str:
    """The header for a download called ``name``, whatever characters it holds."""
    quoted = quote(name)
    return f'attachment; filename="{name}"' if quoted == name else f"attachment; filename*=utf-8''{quoted}"


def _chunks(file: IO[bytes], size: int) -> Iterator[bytes]:
    """``size`` bytes, as many as were announced: another program may write to the file."""
    while size > 0 and (chunk := file.read(min(_CHUNK, size))):
        size -= len(chunk)
        yield chunk
