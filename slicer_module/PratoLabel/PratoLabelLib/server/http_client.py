"""Requests to one server and their replies, whatever they are about; every failure is one sentence for the user."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from PratoLabelLib.server.connection import Connection, ServerError
from PratoLabelLib.translation import translator

if TYPE_CHECKING:
    import requests

_ = translator(__file__)

_T = TypeVar("_T")


class HttpClient:
    """Sends requests to one server; every method waits for the reply, and any thread may call any of them at any time.

    Each request has a ``requests.Session`` of its own, because a session is not thread-safe and the server may have closed a connection
    that is kept alive. Proxies and certificates: see transport.py.
    All methods but :meth:`cancel` raise ServerError, and its subclass Cancelled when they were cancelled.

    Args:
        address: "127.0.0.1:8000", or "http://host:port/".
        token: access token, for servers that require one.
        timeout: seconds of silence after which a request fails.
        certificate: file that the server's certificate is checked against, for servers with one of their own; "" for the environment's.

    Raises:
        ServerError: the address or the token is malformed.
    """

    def __init__(self, address: str, token: str = "", timeout: float = 120.0, certificate: str = "") -> None:
        self.address, self.timeout, self._certificate = _parse_address(address), timeout, certificate
        self._client_id = f"prato-slicer-{uuid.uuid4().hex[:12]}"
        self._token = token.strip()
        if not (self._token.isascii() and self._token.isprintable()):
            raise ServerError(_("The access token contains characters that a token cannot have: copy it again."))
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()

    def cancel(self) -> None:
        """Abort the requests in flight, from any thread: they raise Cancelled at once; later requests are not affected.

        The server may go on computing for a while; its result is discarded.
        """
        with self._lock:
            for connection in self._connections:
                connection.abort()

    def _params(self, params: dict[str, Any]) -> str:
        return json.dumps({**params, "client_id": self._client_id})

    def _request(self, method: str, path: str, **parts: Any) -> requests.Response:
        from PratoLabelLib.server.transport import send  # with requests, which is imported when it is needed

        connection = Connection()
        with self._lock:
            self._connections.add(connection)
        try:
            return send(connection, method, self.address, path, self._token, self._certificate, self.timeout, **parts)
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _parse(self, response: requests.Response, parse: Callable[[], _T]) -> _T:
        try:
            return parse()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            sentence = _("{address} answers, but is not a PrATo Label server that fits this module: check the address.").format(
                address=self.address
            )
            raise ServerError(sentence, response.status_code) from error

    def _download(self, path: str, query: dict[str, str], missing: str) -> requests.Response:
        """What the server has there; ``missing`` is said where it has nothing."""
        try:
            return self._request("GET", path, params=query)
        except ServerError as error:
            if error.status == 404:
                raise ServerError(missing, 404) from error
            raise

    def _save(self, response: requests.Response, stem: Path) -> Path:
        zipped = response.content[:2] == b"\x1f\x8b"
        path = stem.with_name(f"{stem.name}.nii.gz" if zipped else f"{stem.name}.nii")
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with open(handle, "wb") as file:
                file.write(response.content)
            os.replace(partial, path)
        except OSError:
            os.unlink(partial)
            raise
        return path


def _parse_address(address: str) -> str:
    """``address`` with its scheme and without a slash at its end, one text for one server: whatever is kept of a server is kept by that."""
    text = "".join(filter(str.isprintable, address)).strip()  # what is copied from a message may have characters that nobody sees
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        has_more = url.query or url.fragment or "@" in url.netloc
        is_valid = url.scheme in ("http", "https") and url.hostname and url.port != 0 and not has_more
    except ValueError:
        is_valid = False
    if not is_valid or any(c.isspace() for c in text):
        raise ServerError(
            _("{address!r:.80} is not a server address: enter one like 127.0.0.1:8000 or http://host:8000.").format(address=address)
        )
    host, percent, zone = url.netloc.partition("%")  # the zone names an interface of this machine, in capitals or not
    usual = {"http": ":80", "https": ":443"}[url.scheme]
    return f"{url.scheme}://{host.lower()}{percent}{zone}".removesuffix(usual).removesuffix(":") + url.path.rstrip("/")
