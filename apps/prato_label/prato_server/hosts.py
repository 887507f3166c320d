"""Who may ask from where: other web pages never, and other machines only with a token."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from prato_server.answers import refusal
from prato_server.settings import is_loopback


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
