"""An id for every request: in its reply, in its refusal, and in the log beside the trace of what failed."""

from __future__ import annotations

import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prato_server.answers import refusal

logger = logging.getLogger(__name__)

HEADER = "X-Request-ID"
#: An id that a client chose stands in the log and in a header: nothing may break out of either.
_GOOD = re.compile(r"[A-Za-z0-9_-]{8,64}")


class RequestIds:
    """Gives each request an id, the client's own where it sent a usable one, and answers for what fails unforeseen."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        wished = Headers(scope=scope).get(HEADER, "")
        name = wished if _GOOD.fullmatch(wished) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = name
        started = False

        async def named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)[HEADER] = name
            await send(message)

        try:
            await self.app(scope, receive, named)
        except Exception:
            logger.exception("Request %s failed: %s %r", name, scope["method"], scope["path"])
            if not started:
                sentence = f"{scope['method']} {scope['path']:.80} failed on the server: its log has the details under this request_id."
                await refusal(scope, 500, sentence)(scope, receive, named)
