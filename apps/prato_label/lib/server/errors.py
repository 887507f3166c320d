"""Errors of MONAI Label and of the framework under it, turned into a status and one sentence."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException
from monailabel.interfaces.utils.app import app_instance
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from lib.datastore.studies import StudiesDatastore
from lib.infers.inference_queue import QueueFullError
from prato.data.atomic import first_line, is_disk_full, scratch_fault, why_unwritable
from prato.runtime.cancel_token import CancelledError
from prato.runtime.devices import is_out_of_memory
from prato_server.middleware import error_response

logger = logging.getLogger(__name__)

#: nginx's status for a request whose client has gone; the standard has none.
CLIENT_CLOSED_REQUEST = 499


def register(app: FastAPI) -> None:
    """Let ``app`` answer these exceptions with ``{"detail": sentence, "request_id": id}``."""
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(ImageNotFoundException, _handle_not_found)
    app.add_exception_handler(LabelNotFoundException, _handle_not_found)
    app.add_exception_handler(MONAILabelException, _handle_monailabel_exception)
    app.add_exception_handler(JSONDecodeError, _handle_invalid_json)
    app.add_exception_handler(RequestValidationError, _handle_invalid_request)
    app.add_exception_handler(QueueFullError, _handle_full_queue)
    app.add_exception_handler(CancelledError, _handle_cancelled)
    app.add_exception_handler(ClientDisconnect, _handle_cancelled)  # while its body was read
    app.add_exception_handler(OSError, _handle_os_error)
    app.add_exception_handler(MemoryError, _handle_lack_of_memory)
    app.add_exception_handler(RuntimeError, _handle_lack_of_memory)  # as torch says it


def _handle_http_exception(request: Request, error: Any) -> JSONResponse:
    if is_disk_full(error.__cause__):  # the framework calls a body that it cannot write to disk a bad request
        return _handle_full_disk(request)
    if isinstance(error.__context__, MultiPartException) and "exceeded maximum size" in str(error.detail):
        sentence = "A field of the request holds more than 1 MiB, the most that this server accepts: send less at once."
        return error_response(request.scope, 413, sentence)
    what = f"{request.method} {request.url.path:.80}"
    framework = {
        "Not Found": f"There is no route {what}: /docs lists the routes",
        "Method Not Allowed": f"{what} is not allowed: /docs lists the methods of each route",
    }
    sentence = framework.get(error.detail, str(error.detail))
    return error_response(request.scope, error.status_code, sentence if sentence.endswith(".") else f"{sentence}.", error.headers)


def _handle_os_error(request: Request, error: Any) -> JSONResponse:
    if is_disk_full(error):
        return _handle_full_disk(request)
    if error.errno in (errno.EMFILE, errno.ENFILE):  # whichever file it was that could not be opened any more
        sentence = (
            "The server has too many files and connections open: send the request again in a moment, or let it have more (ulimit -n)."
        )
        return error_response(request.scope, 503, sentence)
    app = app_instance()
    store = app.datastore()
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else None
    reason = (error.strerror or type(error).__name__).lower()
    if path is not None and path.is_relative_to(Path(app.app_dir) / "model"):
        if why_unwritable(error):
            return _handle_unwritable(request, error, "models folder")
        sentence = f"{path.name} in the models folder cannot be used ({reason}): check the file and its permissions."
        return error_response(request.scope, 503, sentence)
    if path is None or not isinstance(store, StudiesDatastore) or not path.is_relative_to(store.folder):
        if fault := scratch_fault(error):
            return error_response(request.scope, 503, fault)
        raise error
    if why_unwritable(error):
        where = path.parent.relative_to(store.folder) if error.errno != errno.EROFS and path != store.folder else Path()
        return _handle_unwritable(request, error, "studies folder" if where == Path() else f"folder {where} of the studies")
    if isinstance(error, FileNotFoundError):
        try:
            store.require_folder()
        except HTTPException as away:
            return _handle_http_exception(request, away)
        return error_response(request.scope, 404, f"{path.name} is gone: it was removed from the studies folder.")
    sentence = f"{path.name} in the studies folder cannot be used ({reason}): check the file and its permissions."
    return error_response(request.scope, 409, sentence)


def _handle_full_disk(request: Request) -> JSONResponse:
    return error_response(request.scope, 507, "The server's disk is full: free some space on it, then send the request again.")


def _handle_lack_of_memory(request: Request, error: Any) -> JSONResponse:
    if not is_out_of_memory(error):
        raise error
    logger.error("%s %s: %s", request.method, request.url.path[:80], first_line(error))
    sentence = (
        "The server has too little free memory for this: end other programs on it or use a smaller image, then send the request again."
    )
    return error_response(request.scope, 503, sentence)


def _handle_unwritable(request: Request, error: OSError, what: str) -> JSONResponse:
    why = f"The {what} cannot be written to ({why_unwritable(error)})"
    return error_response(request.scope, 503, f"{why}: give the server write permission there, then send the request again.")


def _handle_not_found(request: Request, error: Any) -> JSONResponse:
    return error_response(request.scope, 404, f"{error.msg}: GET /datastore/?output=all lists all studies and labels.")


def _handle_monailabel_exception(request: Request, error: Any) -> JSONResponse:
    return error_response(request.scope, 400, f"{error.msg}.")


def _handle_invalid_json(request: Request, error: Any) -> JSONResponse:
    return error_response(request.scope, 400, f"The request contains invalid JSON ({error}).")


def _handle_invalid_request(request: Request, error: Any) -> JSONResponse:
    faults: Sequence[Any] = error.errors()
    first = faults[0]
    return error_response(request.scope, 400, f"{'.'.join(map(str, first['loc'][1:])) or 'The request'}: {first['msg']}.")


def _handle_full_queue(request: Request, error: Any) -> JSONResponse:
    return error_response(request.scope, 429, str(error), {"Retry-After": str(error.seconds)})


def _handle_cancelled(request: Request, error: Any) -> JSONResponse:
    return error_response(request.scope, CLIENT_CLOSED_REQUEST, "The request was cancelled: send it again if you still want the answer.")
