"""The OHIF viewer that comes with MONAI Label, what it asks of a PACS behind this server, and what it calls a study."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import monailabel.endpoints
from fastapi import APIRouter, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.utils.app import app_instance

from lib.datastore.studies import StudiesDatastore
from lib.server.checks import USER

if TYPE_CHECKING:
    from lib.datastore.pacs import PacsDatastore

#: Without the other routes' check of query parameters: these are the viewer's own, or the PACS's.
router = APIRouter(include_in_schema=False)
_OHIF = Path(monailabel.endpoints.__file__).parent / "static" / "ohif"
#: The kinds of service that MONAI Label's viewer names first, which lie below one address of a PACS.
_KINDS = ("wado", "qido", "stow")
_RESOURCES = ("studies", "series", "instances")


@router.get("/ohif/{path:path}")
def ohif(path: str, user: User = USER) -> FileResponse:
    """The OHIF viewer."""
    file = _OHIF / path
    inside = os.path.isfile(file) and file.resolve().is_relative_to(_OHIF.resolve())  # pathlib's own would raise over a long name
    return FileResponse(file if inside else _OHIF / "index.html")


@router.api_route("/proxy/dicom/{path:path}", methods=["GET", "POST"])
async def dicomweb(request: Request, path: str, user: User = USER) -> Response:
    """What a viewer asks of the PACS behind this server: to find, read and store images, and nothing else that a PACS may offer there."""
    store = pacs_store(app_instance())
    if store is None:
        raise HTTPException(404, "The studies here are not on a DICOMweb server: there is no server to pass the request on to.")
    kind, _, rest = path.partition("/")
    asked = rest if kind in _KINDS else path
    parts = asked.split("/")
    if parts[0] not in _RESOURCES or (request.method == "POST" and (parts[0] != "studies" or len(parts) > 2)):
        raise HTTPException(404, f"{request.method} {asked:.80} is not passed on: find, read or store studies, series and instances.")
    headers = {name: request.headers[name] for name in ("accept", "content-type") if name in request.headers}
    answer = await run_in_threadpool(store.relay, request.method, asked, request.url.query, headers, await request.body())
    return Response(answer.content, answer.status, media_type=answer.content_type or None)


def pacs_store(app: MONAILabelApp) -> PacsDatastore | None:
    """The store of ``app`` where its studies are in a PACS."""
    if not app.studies.startswith(("http://", "https://")) or not isinstance(app.datastore(), StudiesDatastore):
        return None
    from lib.datastore.pacs import PacsDatastore  # with what reads and writes DICOM, a second that a server of a folder need not take

    store = app.datastore()
    return store if isinstance(store, PacsDatastore) else None


def name_study(app: MONAILabelApp, image: Any, options: dict[str, Any]) -> Any:
    """The study that ``image`` means: OHIF names a series. Of one that stands for a phase, ``options`` are made to ask for that phase."""
    store = pacs_store(app)
    found = store.study_of_series(image) if store is not None and isinstance(image, str) else None
    if found is None:
        return image
    study, phase = found
    if phase is not None:
        options.setdefault("phases", phase)
    return study
