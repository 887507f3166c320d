"""The form of every refusal: ``{"detail": one sentence, "request_id": ...}``."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse
from starlette.types import Scope


def request_id(scope: Scope) -> str:
    """The id that ``RequestIds`` gave the request."""
    return str(scope["state"]["request_id"])


def refusal(scope: Scope, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer to a request that is not served."""
    # what a client sent may stand in the sentence, and half a surrogate pair has no UTF-8
    sentence = sentence.encode("utf-8", "replace").decode()
    return JSONResponse({"detail": sentence, "request_id": request_id(scope)}, status, headers)
