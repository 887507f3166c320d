"""Names in a query that become file names are checked before any route sees them."""

from __future__ import annotations

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from lib.server import checks


class Guard:
    """ASGI middleware that answers 400 where an image, label or tag in the query would leave the studies folder."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: ASGIApp = self.app
        if scope["type"] == "http" and "/datastore" in scope["path"]:
            try:
                for key, value in Request(scope).query_params.multi_items():
                    if key in ("image", "id", "label"):
                        checks.file_name(key, value)
                    elif key == "tag" and value:
                        checks.label_tag(value)
            except HTTPException as refusal:
                answer = JSONResponse({"detail": refusal.detail}, status_code=refusal.status_code)
        await answer(scope, receive, send)
