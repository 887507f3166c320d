"""Errors of MONAI Label and of the framework under it, turned into a status and one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from json import JSONDecodeError
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException
from starlette.exceptions import HTTPException

from lib.infers.turns import FullError
from prato.data.atomic import is_disk_full
from prato.runtime.cancel_token import CancelledError
from prato_server.middleware import error_response

#: What nginx, and so many a log, calls a request whose client has gone; the standard has no status for it.
CLIENT_CLOSED_REQUEST = 499


def register(app: FastAPI) -> None:
    """Let ``app`` answer these exceptions with ``{"detail": sentence, "request_id": id}``."""
    app.add_exception_handler(HTTPException, _refused_by_route)
    app.add_exception_handler(ImageNotFoundException, _not_found)
    app.add_exception_handler(LabelNotFoundException, _not_found)
    app.add_exception_handler(MONAILabelException, _refused)
    app.add_exception_handler(JSONDecodeError, _not_json)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(FullError, _full)
    app.add_exception_handler(CancelledError, _cancelled)
    app.add_exception_handler(OSError, _no_room)


def _refused_by_route(request: Request, error: Any) -> JSONResponse:
    if is_disk_full(error.__cause__):  # the framework calls a body that it cannot put down a bad one
        return _no_room(request, error.__cause__)
    what = f"{request.method} {request.url.path:.80}"
    framework = {"Not Found": f"There is nothing at {what}: /docs lists what there is", "Method Not Allowed": f"{what} is not offered"}
    sentence = framework.get(error.detail, str(error.detail))
    return error_response(request.scope, error.status_code, sentence if sentence.endswith(".") else f"{sentence}.", error.headers)


def _no_room(request: Request, error: Any) -> JSONResponse:
    if not is_disk_full(error):
        raise error
    return error_response(request.scope, 507, "The server's disk is full: free some space there, then send this again.")


def _not_found(request: Request, error: Any) -> JSONResponse:
    return error_response(request.scope, 404, f"{error.msg}: GET /datastore/?output=all lists what there is.")


def _refused(request: Request, error: Any) -> JSONResponse:
    return error_response(request.scope, 400, f"{error.msg}.")


def _not_json(request: Request, error: Any) -> JSONResponse:
    return error_response(request.scope, 400, f"The request holds text that is not valid JSON ({error}).")


def _not_valid(request: Request, error: Any) -> JSONResponse:
    faults: Sequence[Any] = error.errors()
    first = faults[0]
    return error_response(request.scope, 400, f"{'.'.join(map(str, first['loc'][1:])) or 'The request'}: {first['msg']}.")


def _full(request: Request, error: Any) -> JSONResponse:
    return error_response(request.scope, 429, str(error), {"Retry-After": str(error.seconds)})


def _cancelled(request: Request, error: Any) -> JSONResponse:
    return error_response(request.scope, CLIENT_CLOSED_REQUEST, "The request was cancelled: send it again if you still want the answer.")
