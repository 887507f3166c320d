"""The OHIF viewer that comes with MONAI Label, what it asks of a PACS behind this server, and what it calls a study."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import monailabel.endpoints
from fastapi import APIRouter, HTTPException, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.utils.app import app_instance

from lib.datastore.studies import StudiesDatastore
from lib.server.checks import ANNOTATOR, USER
from lib.server.label_routes import reply_to_submission
from lib.server.uploads import stored_upload
from prato.data.nifti import VolumeError, volume_bytes
from prato.data.structures import COLOURS_8BIT

if TYPE_CHECKING:
    from lib.datastore.pacs import PacsDatastore
    from prato.pacs.sent import SentSegmentation

#: Without the other routes' check of query parameters: these are the viewer's own, or the PACS's.
router = APIRouter(include_in_schema=False)
_HERE = Path(__file__).parent
_OHIF = Path(monailabel.endpoints.__file__).parent / "static" / "ohif"
#: The kinds of service that MONAI Label's viewer names first, which lie below one address of a PACS.
_KINDS = ("wado", "qido", "stow")
_RESOURCES = ("studies", "series", "instances")
#: Of the answer to what was stored (PS3.18, 10.5.3): the objects, and of each its class and UID.
_STORED, _SOP_CLASS, _SOP_INSTANCE = "00081199", "00081150", "00081155"


@router.get("/ohif/app-config.js")
def ohif_settings(user: User = USER) -> Response:
    """The viewer's settings, with what it lacks to draw and to submit."""
    settings, added = ((folder / name).read_text(encoding="utf-8") for folder, name in ((_OHIF, "app-config.js"), (_HERE, "ohif.js")))
    colours = json.dumps({name: [*colour, 255] for name, colour in COLOURS_8BIT.items()})
    return Response(
        "\n".join((settings, f"const structureColours = {colours};", added)),
        media_type="text/javascript",
        headers={"Cache-Control": "no-cache"},
    )


@router.get("/ohif/{path:path}")
def ohif(path: str, user: User = USER) -> FileResponse:
    """The OHIF viewer."""
    file = _OHIF / path
    inside = os.path.isfile(file) and file.resolve().is_relative_to(_OHIF.resolve())  # pathlib's own would raise over a long name
    return FileResponse(file if inside else _OHIF / "index.html")


@router.get("/proxy/dicom/{path:path}")
def find_images(request: Request, path: str, user: User = USER) -> Response:
    """What a viewer asks of the PACS behind this server: to find and read images, and nothing else that a PACS may offer there."""
    store, asked = _asked(request, path)
    return _relay(store, request, asked, b"")


@router.post("/proxy/dicom/{path:path}")
async def store_images(request: Request, path: str, user: User = ANNOTATOR) -> Response:
    """What a viewer sends to the PACS behind this server; a segmentation of a phase is submitted as its label instead."""
    store, asked = _asked(request, path)
    return await run_in_threadpool(_store_sent, store, request, asked, await request.body())


def _asked(request: Request, path: str) -> tuple[PacsDatastore, str]:
    """The PACS, and the address there that ``path`` means."""
    store = pacs_store(app_instance())
    if store is None:
        raise HTTPException(404, "The studies here are not on a DICOMweb server: there is no server to pass the request on to.")
    kind, _, rest = path.partition("/")
    asked = rest if kind in _KINDS else path
    parts = asked.split("/")
    if parts[0] not in _RESOURCES or (request.method == "POST" and (parts[0] != "studies" or len(parts) > 2)):
        raise HTTPException(404, f"{request.method} {asked:.80} is not passed on: find, read or store studies, series and instances.")
    return store, asked


def _relay(store: PacsDatastore, request: Request, asked: str, body: bytes) -> Response:
    headers = {name: request.headers[name] for name in ("accept", "content-type") if name in request.headers}
    answer = store.relay(request.method, asked, request.url.query, headers, body)
    return Response(answer.content, answer.status, media_type=answer.content_type or None)


def _store_sent(store: PacsDatastore, request: Request, asked: str, body: bytes) -> Response:
    try:
        sent = store.find_segmentation(request.headers.get("content-type", ""), body)
        if sent is None:
            return _relay(store, request, asked, body)
        reply = _submit(store, sent)
    except VolumeError as error:
        raise HTTPException(400, f"The segmentation cannot be stored. {error}") from error
    stored = {tag: {"vr": "UI", "Value": [uid]} for tag, uid in ((_SOP_CLASS, sent.sop_class), (_SOP_INSTANCE, sent.uid))}
    answer = Response(json.dumps({_STORED: {"vr": "SQ", "Value": [stored]}}), media_type="application/dicom+json")
    doubts = [*([reply["conflict"]["message"]] if reply["conflict"] else []), *reply["warnings"]]
    if doubts:
        answer.headers["Warning"] = f'299 - "{" ".join(doubts)}"'.encode("latin-1", "replace").decode("latin-1")
    return answer


def _submit(store: PacsDatastore, sent: SentSegmentation) -> dict[str, Any]:
    """Submit ``sent`` as the label of the phases that it was drawn on; the reply is that to any submission."""
    from prato.dicom.labels.importing import read_dicom_mask  # with what reads DICOM, see pacs_store

    study = sent.phase.cine.study
    image = Path(store.get_image_uri(study))
    # where it leaves open which phase it is of, its name says that
    with stored_upload(UploadFile(io.BytesIO(sent.content), filename=f"{study}_frame{sent.phase.phase + 1:02d}.dcm")) as path:
        label, phases = read_dicom_mask(path, image, study)
        file = path.with_name("label.nii")
        file.write_bytes(volume_bytes(label))
        saved = store.submit_label(study, str(file), DefaultLabelTag.FINAL.value, {"annotator": sent.annotator, "phases": phases})
    assert saved is not None  # it is no proposal
    return reply_to_submission(study, saved)


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
