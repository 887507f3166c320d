"""How much one request may bring."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prato_server.answers import refusal

#: Bodies other than uploads are read into memory and parsed in one go.
SMALL = 2**20


class BodyLimit:
    """Refuses bodies of more than ``upload`` bytes, or ``SMALL`` where it is no upload, by what they say and by what they bring."""

    def __init__(self, app: ASGIApp, upload: int) -> None:
        self.app, self.upload = app, upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self.upload if headers.get("content-type", "").lower().startswith("multipart/") else SMALL
        sentence = f"The request holds more than {limit // 2**20} MiB, the most that this server takes: send less at once."
        said = headers.get("content-length", "0")
        if said.isdigit() and int(said) > limit:
            await refusal(scope, 413, sentence, {"Connection": "close"})(scope, receive, send)
            return
        brought = 0

        async def counted() -> Message:
            nonlocal brought
            message = await receive()
            brought += len(message.get("body", b""))
            if brought > limit:
                # passed on by FastAPI as it is, wherever it was reading
                raise HTTPException(413, sentence, {"Connection": "close"})
            return message

        await self.app(scope, counted, send)
