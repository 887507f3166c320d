"""What a request passes before the MONAI Label server sees it: an id, plain addresses, hosts and origins, the token, sizes."""

from __future__ import annotations

import hmac
import logging
import re
import uuid
from collections.abc import Collection, Mapping
from urllib.parse import unquote_plus, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from prato_server.settings import is_loopback

logger = logging.getLogger(__name__)


def request_id(scope: Scope) -> str:
    """The id that ``RequestIds`` gave the request."""
    return str(scope["state"]["request_id"])


def refusal(scope: Scope, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer to a request that is not served."""
    # what a client sent may stand in the sentence, and half a surrogate pair has no UTF-8
    sentence = sentence.encode("utf-8", "replace").decode()
    return JSONResponse({"detail": sentence, "request_id": request_id(scope)}, status, headers)


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


class Hosts:
    """Refuses web pages of other origins than ``origins`` and, where the server has no token, whatever is not this machine itself.

    A page that a browser on this machine shows can send requests here, and by a name that suddenly means 127.0.0.1 (DNS rebinding) even
    read the replies: the first is told by ``Origin``, the second by ``Host``.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str], open_to_others: bool) -> None:
        self.app, self.origins, self.open_to_others = app, frozenset(origins), open_to_others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._refusal(scope) if scope["type"] == "http" else None
        await (answer or self.app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if not self.open_to_others:
            if scope.get("server") and not is_loopback(scope["server"][0]):
                return refusal(scope, 403, "This server has no access token, so it answers this machine alone: start it with one.")
            if len(hosts) != 1 or not is_loopback(_name(hosts[0])):
                named = ", ".join(hosts)[:60]
                return refusal(scope, 403, f"The request is for the host {named!r}: without an access token the server is 127.0.0.1 alone.")
        for origin in headers.getlist("origin"):
            if origin not in self.origins and [urlsplit(origin).netloc] != hosts:
                return refusal(scope, 403, f"Web pages of {origin[:80]} may not use this server: PRATO_LABEL_ORIGINS lists those that may.")
        return None


def _name(host: str) -> str:
    """``host`` without its port; empty where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


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
