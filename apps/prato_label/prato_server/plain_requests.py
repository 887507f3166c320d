"""Addresses that no client of ours sends, refused before any route reads them."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

from starlette.types import ASGIApp, Receive, Scope, Send

from prato_server.answers import refusal

_LONGEST = 8192
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_STEPS = re.compile(r"[/\\]")


class PlainRequests:
    """Refuses paths that climb (``..``), control characters (NUL above all) and addresses of absurd length."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = None
        if scope["type"] == "http":
            path, query = scope["path"], scope.get("query_string", b"").decode("latin-1")
            if len(path) + len(query) > _LONGEST:
                answer = refusal(scope, 414, f"The address is longer than {_LONGEST} characters: send what is long in the body.")
            elif _CONTROL.search(path) or _CONTROL.search(unquote_plus(query)):
                answer = refusal(scope, 400, "The address holds control characters: names here are letters, digits and signs.")
            elif any(step in (".", "..") for step in _STEPS.split(path)):
                answer = refusal(scope, 400, "The path climbs with '..': name what you want by its id.")
        await (answer or self.app)(scope, receive, send)
