"""The access token."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from prato_server.answers import refusal

#: The status page's own files, which say nothing of this server: the page asks for the token, and needs it for all it shows.
OPEN_PATHS = frozenset({"/prato/", "/prato/page.js", "/prato/page.css"})


class TokenGate:
    """Lets through what brings ``Authorization: Bearer <token>``, on every route; compared in constant time."""

    def __init__(self, app: ASGIApp, token: bytes) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._opens(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
        else:
            sentence = "The server wants its access token: send it as 'Authorization: Bearer <token>'."
            await refusal(scope, 401, sentence, {"WWW-Authenticate": 'Bearer realm="PrATo Label"'})(scope, receive, send)

    def _opens(self, scope: Scope) -> bool:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"] in OPEN_PATHS:
            return True
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode("latin-1"), self.token)
        return right and scheme.lower() == "bearer"
