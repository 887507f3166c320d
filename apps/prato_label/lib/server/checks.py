"""Checks that a request must pass before anything is computed, queued or written: roles, and functions that raise an HTTPException."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection
from typing import Any

from fastapi import Depends, HTTPException, Request, Response, UploadFile
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.app import MONAILabelApp

from lib.datastore.label_check import http_errors
from lib.datastore.plain_json import require_plain_json
from lib.datastore.studies import StudiesDatastore
from prato.data.nifti_head import check_size
from prato.labelling.records import annotator_from

logger = logging.getLogger(__name__)
#: MONAI Label's roles, as its own routes require them; they matter only where its authentication is switched on.
USER = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))
ANNOTATOR = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))
ADMIN = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))
#: A session's id becomes a folder's name.
_SESSION = re.compile(r"[A-Za-z0-9-]{1,64}")


def parse_json_object(text: str, name: str = "params") -> dict[str, Any]:
    """The JSON object in the form field ``name``; an empty field is an empty object.

    Raises:
        HTTPException: 400.
    """
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"{name} is not valid JSON ({error}): send an object such as {{}}.") from error
    if not isinstance(value, dict):
        raise HTTPException(400, f"{name} must be a JSON object such as {{}}, not {text[:60]}.")
    return value


def require_info(info: dict[str, Any], name: str) -> None:
    """Refuse an ``info`` for a study or label that cannot be stored, or that would overwrite what the server itself keeps there.

    Raises:
        HTTPException: 400.
    """
    own = [key for key in ("ts", "name", "strategy", "voxels", "review", "phases", "times_ms", "marked") if key in info]
    if own:
        raise HTTPException(400, f"{name} must not set {own[0]}, which only the server sets: use another key.")
    require_plain_json(info, name)


def read_annotator(params: dict[str, Any]) -> str:
    """Who sent ``params``; see ``annotator_from``.

    Raises:
        HTTPException: 400.
    """
    with http_errors():
        return annotator_from(params)


async def require_storable_body(request: Request) -> None:
    """For routes that read a JSON body, which is those of POST alone: refuse what ``require_plain_json`` refuses.

    MONAI Label's client announces with later requests the body that it sent with an earlier one: nobody may wait for that.

    Raises:
        HTTPException: 400.
    """
    if request.method == "POST" and "json" in request.headers.get("content-type", ""):
        try:
            require_plain_json(await request.json(), "The body")
        except ValueError:
            return  # the route itself reports a body that is not JSON


def read_query_names(request: Request) -> set[str]:
    """The names in the URL that the route of ``request`` reads."""
    names, dependants = set(), [request.scope["route"].dependant]
    while dependants:
        dependant = dependants.pop()
        names |= {field.alias for field in dependant.query_params}
        dependants += dependant.dependencies
    return names


def report_unread(request: Request, response: Response) -> None:
    """Log the query parameters that no route reads, and name them in the header ``X-Unread-Parameters``."""
    unread = [name for name in request.query_params if name not in read_query_names(request)]
    if unread:
        named = ", ".join(ascii(name)[1:-1] for name in unread)[:200]
        logger.warning("%s %s: ignored the unknown parameters %s", request.method, request.url.path[:80], named)
        response.headers["X-Unread-Parameters"] = named


async def require_params_in_place(request: Request) -> None:
    """For inference: refuse parameters in a place where they would be silently ignored, such as a box in the URL.

    Raises:
        HTTPException: 400.
    """
    names = ", ".join(sorted(read_query_names(request)))
    places = {"the URL": [name for name in request.query_params if name not in read_query_names(request)]}
    if "json" in request.headers.get("content-type", "") and (await request.body()).strip() not in (b"", b"{}", b"null"):
        places["a JSON body"] = ["params"]
    else:
        places["a form field of its own"] = [name for name in await request.form() if name not in ("params", "file", "label")]
    for place, unread in places.items():
        if unread:
            raise HTTPException(
                400,
                f"{unread[0]!r:.60} was sent in {place}, where it has no effect: send parameters as one JSON object in the form field "
                f"params, and {names} in the URL.",
            )


def require_nifti(file: UploadFile, name: str) -> None:
    """Refuse an uploaded ``file`` that is not NIfTI by its header, or whose header announces too many voxels.

    From here on it has a plain name: its own, which may be anything, would become part of a path.

    Raises:
        HTTPException: 400, or 413 where it is too large.
    """
    with http_errors():
        check_size(file.file, name)
    file.filename = "volume.nii.gz" if file.file.read(2) == b"\x1f\x8b" else "volume.nii"
    file.file.seek(0)


def require_known(kind: str, name: Any, names: Collection[str]) -> None:
    """Refuse a ``name`` that is not one of this server's ``names``.

    Raises:
        HTTPException: 404.
    """
    if not isinstance(name, str) or name not in names:
        raise HTTPException(404, f"There is no {kind} {str(name)[:60]!r} here: {_choice(names)}.")


def require_image(app: MONAILabelApp, image: Any) -> None:
    """Refuse an image id that is not in the studies folder (a path never is).

    Raises:
        HTTPException: 400 for none at all, 404 for an unknown one, 503 where the folder itself is away.
    """
    if not image:
        raise HTTPException(400, "The request names no image: give ?image=<study id> or ?session_id=<id>, or upload an image as file.")
    if not isinstance(image, str) or image not in app.datastore().list_images():
        raise HTTPException(404, f"There is no image {str(image)[:80]!r} among the studies: GET /datastore/?output=all lists their ids.")
    store = app.datastore()
    if isinstance(store, StudiesDatastore):
        store.require_folder()


def require_session(app: MONAILabelApp, session: str) -> None:
    """Refuse a session that is unknown or has expired.

    Raises:
        HTTPException: 404.
    """
    sessions = app.sessions()
    if sessions is None or not _SESSION.fullmatch(session) or sessions.get_session(session, update_ts=False) is None:
        raise HTTPException(
            404, f"There is no session {session[:60]!r} here (it may have expired): upload the image again with PUT /session/."
        )


def _choice(names: Collection[str]) -> str:
    return f"choose {' or '.join(names)}" if names else "none is available"
