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
    """The id that ``RequestIdMiddleware`` gave the request."""
    return str(scope["state"]["request_id"])


def error_response(scope: Scope, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The reply to a request that is refused: ``{"detail": sentence, "request_id": id}``."""
    # what a client sent may stand in the sentence, and half a surrogate pair has no UTF-8
    sentence = sentence.encode("utf-8", "replace").decode()
    return JSONResponse({"detail": sentence, "request_id": request_id(scope)}, status, headers)


HEADER = "X-Request-ID"
#: An id that a client chose appears in the log and in a header: nothing may break out of either.
_USABLE = re.compile(r"[A-Za-z0-9_-]{8,64}")


class RequestIdMiddleware:
    """Gives each request an id, the client's own where it sent a usable one, and answers when a request fails unexpectedly."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        requested = Headers(scope=scope).get(HEADER, "")
        name = requested if _USABLE.fullmatch(requested) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = name
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)[HEADER] = name
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            logger.exception("Request %s failed: %s %r", name, scope["method"], scope["path"])
            if not started:
                sentence = f"{scope['method']} {scope['path']:.80} failed on the server: its log has the details under this request_id."
                await error_response(scope, 500, sentence)(scope, receive, send_with_id)


_MAX_ADDRESS = 8192
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SEPARATORS = re.compile(r"[/\\]")


class AddressMiddleware:
    """Refuses paths that climb (``..``), control characters (NUL above all) and addresses that are too long; redirects stay beside them.

    The framework redirects from a path to the same with, or without, its last slash. It names the whole address as this server
    sees it, and a proxy may have changed the scheme, the host, the port and the path.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = None
        if scope["type"] == "http":
            path, query = scope["path"], scope.get("query_string", b"").decode("latin-1")
            if len(path) + len(query) > _MAX_ADDRESS:
                answer = error_response(scope, 414, f"The address is longer than {_MAX_ADDRESS} characters: send long values in the body.")
            elif _CONTROL.search(path) or _CONTROL.search(unquote_plus(query)):
                answer = error_response(scope, 400, "The address contains control characters: use printable characters only.")
            elif any(part in (".", "..") for part in _SEPARATORS.split(path)):
                answer = error_response(scope, 400, "The path must not contain '..': name studies and labels by their ids.")

        async def send_beside(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 307:
                headers = MutableHeaders(scope=message)
                headers["location"] = _beside(headers["location"])
            await send(message)

        await (answer or self.app)(scope, receive, send_beside)


def _beside(address: str) -> str:
    """``address``, relative to itself with, or without, its last slash."""
    to = urlsplit(address)
    name = to.path.rstrip("/").rpartition("/")[2]
    return (f"./{name}/" if to.path.endswith("/") else f"../{name}") + (f"?{to.query}" if to.query else "")


class HostMiddleware:
    """Refuses web pages of other origins than ``origins`` and, where the server has no token, every other machine.

    A page that a browser on this machine shows can send requests here, and by a name that suddenly means 127.0.0.1 (DNS rebinding) even
    read the replies: ``Origin`` shows the first, ``Host`` the second.
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
                return error_response(
                    scope, 403, "This server has no access token, so it answers only this machine: start it with a token."
                )
            if len(hosts) != 1 or not is_loopback(_name(hosts[0])):
                named = ", ".join(hosts)[:60]
                return error_response(
                    scope, 403, f"The request is for the host {named!r}: without an access token the server answers 127.0.0.1 only."
                )
        for origin in headers.getlist("origin"):
            if origin not in self.origins and [origin.partition("://")[2]] != hosts:
                return error_response(
                    scope, 403, f"Web pages of {origin[:80]} may not use this server: PRATO_LABEL_ORIGINS lists those that may."
                )
        return None


def _name(host: str) -> str:
    """``host`` without its port; empty where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


#: The web pages' own files, which reveal nothing of this server: the pages ask for the token, and need it for all that they show.
PUBLIC_PATHS = frozenset(f"/prato/{name}" for name in ("", "study", "page.css", "page.js", "study.js", "beat.js", "shared.js"))


class TokenMiddleware:
    """Lets requests with ``Authorization: Bearer <token>`` through, on every route; compared in constant time."""

    def __init__(self, app: ASGIApp, token: bytes) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_authorised(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
        else:
            sentence = "The server requires its access token: send it as 'Authorization: Bearer <token>'."
            await error_response(scope, 401, sentence, {"WWW-Authenticate": 'Bearer realm="PrATo Label"'})(scope, receive, send)

    def _is_authorised(self, scope: Scope) -> bool:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            path = scope["path"].removeprefix(scope.get("root_path", ""))  # uvicorn puts --root_path before it, whatever the proxy cut off
            if path in PUBLIC_PATHS:
                return True
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode("latin-1"), self.token)
        return right and scheme.lower() == "bearer"


#: Largest body other than an upload: those are read into memory and parsed at once.
MAX_BODY_BYTES = 2**20


class BodyLimitMiddleware:
    """Refuses bodies of more than ``upload`` bytes, or ``MAX_BODY_BYTES`` where it is no upload, by declared and actual length."""

    def __init__(self, app: ASGIApp, upload: int) -> None:
        self.app, self.upload = app, upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self.upload if headers.get("content-type", "").lower().startswith("multipart/") else MAX_BODY_BYTES
        sentence = f"The request holds more than {limit // 2**20} MiB, the most that this server accepts: send less at once."
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            await error_response(scope, 413, sentence, {"Connection": "close"})(scope, receive, send)
            return
        received = 0

        async def receive_within_limit() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                # FastAPI passes it on unchanged, wherever it was reading
                raise HTTPException(413, sentence, {"Connection": "close"})
            return message

        await self.app(scope, receive_within_limit, send)
