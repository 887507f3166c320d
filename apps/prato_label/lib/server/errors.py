"""Errors that MONAI Label raises without an answer for the client, turned into a status and one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from json import JSONDecodeError
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException


def register(app: FastAPI) -> None:
    """Let ``app`` answer these exceptions with ``{"detail": sentence}``."""
    app.add_exception_handler(ImageNotFoundException, _not_found)
    app.add_exception_handler(LabelNotFoundException, _not_found)
    app.add_exception_handler(MONAILabelException, _refused)
    app.add_exception_handler(JSONDecodeError, _not_json)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(Exception, _failed)


def _answer(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status_code=status)


def _not_found(request: Request, error: Any) -> JSONResponse:
    return _answer(404, f"{error.msg}: GET /datastore/?output=all lists what there is.")


def _refused(request: Request, error: Any) -> JSONResponse:
    return _answer(400, f"{error.msg}.")


def _not_json(request: Request, error: Any) -> JSONResponse:
    return _answer(400, f"The request holds text that is not valid JSON ({error}).")


def _not_valid(request: Request, error: Any) -> JSONResponse:
    faults: Sequence[Any] = error.errors()
    first = faults[0]
    return _answer(400, f"{'.'.join(map(str, first['loc'][1:])) or 'The request'}: {first['msg']}.")


def _failed(request: Request, error: Exception) -> JSONResponse:
    return _answer(
        500, f"{request.method} {request.url.path} failed on the server ({type(error).__name__}: {error}): its log has the details."
    )
