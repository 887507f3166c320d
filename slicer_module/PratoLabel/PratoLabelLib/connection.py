"""HTTP connections that another thread can abort at any moment, and what goes wrong on them in one sentence for the user.

Works with urllib3 1.26 and 2 alike.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

#: How long each address of a host may take to accept a connection.
CONNECT_TIMEOUT_S = 5.0
#: How often a pending connect checks whether it was aborted.
_ABORT_CHECK_S = 0.05
#: What ``connect_ex`` returns while it is pending; the last is Windows' own.
_PENDING = (0, errno.EINPROGRESS, errno.EWOULDBLOCK, 10035)


class ConnectError(Exception):
    """No connection was made; ``reason`` says why (``socket.gaierror``: no such host; ``TimeoutError``: no address accepted it in time)."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class ServerError(Exception):
    """``str(error)`` is one sentence for the user; ``status`` is the HTTP status, None when there was no reply."""

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status

    @classmethod
    def from_exception(cls, error: Exception, address: str, timeout: float) -> ServerError:
        """Why a request to ``address``, which may stay silent for ``timeout`` s, got no reply."""
        if isinstance(error, ConnectError):
            return cls(_connect_sentence(address, error.reason))
        return cls(_broken_sentence(address, timeout, error))

    @classmethod
    def from_response(cls, response: requests.Response, address: str) -> ServerError | None:
        """Why ``response`` is a refusal or incomplete; None if it is neither."""
        status = response.status_code
        if status < 300:
            length = response.headers.get("content-length", "")
            # urllib3 1.26 returns a body that was cut short
            short = length.isdigit() and "content-encoding" not in response.headers and len(response.content) != int(length)
            return cls(f"The answer of {address} was cut short: try again.", status) if short else None
        return cls(_refusal_sentence(response, address), status)


class Cancelled(ServerError):
    """The request was cancelled."""

    def __init__(self) -> None:
        super().__init__("The request was cancelled.")


class Connection:
    """The sockets of one request. :meth:`abort` is for any thread, the rest for the one that makes the request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.is_aborted = False

    def abort(self) -> None:
        """End what is in flight at once: whoever waits for a reply finds the socket closed. A name lookup is not interrupted."""
        with self._lock:
            self.is_aborted = True
            for sock in self._sockets:
                with suppress(OSError):  # the other side was quicker
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """To be called when the request is over."""
        with self._lock:
            for sock in self._sockets:
                sock.close()
            self._sockets.clear()

    def open_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        """A socket that is connected to ``host`` and waits at most ``timeout`` seconds for data.

        Raises:
            ConnectError: nobody accepts it there, or the connection was aborted.
        """
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise ConnectError(error if isinstance(error, OSError) else socket.gaierror(str(error))) from error
        reason = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in addresses:
            sock = socket.socket(family, kind, protocol)
            try:
                self._connect(sock, address)
                self._register(sock)
                sock.settimeout(timeout)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                sock.close()
                reason = error
                if self.is_aborted:
                    break
            else:
                return sock
        raise ConnectError(reason)

    def _connect(self, sock: socket.socket, address: Any) -> None:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code in _PENDING:
            deadline = time.monotonic() + CONNECT_TIMEOUT_S
            with selectors.DefaultSelector() as selector:
                selector.register(sock, selectors.EVENT_WRITE)
                while not selector.select(_ABORT_CHECK_S) and not self.is_aborted:
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"no connection within {CONNECT_TIMEOUT_S:g} s")
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    def _register(self, sock: socket.socket) -> None:
        with self._lock:
            if self.is_aborted:
                raise ConnectionAbortedError("the connection was aborted")
            # a second handle on the same connection: TLS takes the first one over, and urllib3 closes it when it likes
            self._sockets.append(sock.dup())


class ConnectionAdapter(HTTPAdapter):
    """What a ``requests.Session`` sends with, so that its sockets belong to ``connection``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """requests' own hook, called by the constructor."""
        super().init_poolmanager(*args, **kwargs)
        pools = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}
        self.poolmanager.pool_classes_by_scheme = {scheme: _pool_class(base, self._connection) for scheme, base in pools.items()}


def _pool_class(base: type[HTTPConnectionPool], connection: Connection) -> type[HTTPConnectionPool]:
    """urllib3's connection pool ``base``, with sockets that ``connection`` opens."""

    def new_socket(http: Any) -> socket.socket:
        return connection.open_socket(http._dns_host, http.port, http.timeout)

    abortable = type("AbortableConnection", (base.ConnectionCls,), {"_new_conn": new_socket})
    return type(base.__name__, (base,), {"ConnectionCls": abortable})


def _connect_sentence(address: str, reason: OSError) -> str:
    if isinstance(reason, socket.gaierror):
        return f"There is no machine called {urlsplit(address).hostname}: correct the server's address."
    if isinstance(reason, ConnectionRefusedError):
        return f"No server runs at {address}: start it there, or correct the address."
    if isinstance(reason, TimeoutError):
        return f"{address} accepts no connection within {CONNECT_TIMEOUT_S:g} s: check the address, and whether a firewall blocks it."
    return f"{address} cannot be reached ({reason.strerror or reason}): check the network and the address."


def _broken_sentence(address: str, timeout: float, error: Exception) -> str:
    if isinstance(error, requests.Timeout):
        return f"The server gave no answer within {timeout:g} s: it may be busy, so try again later."
    if isinstance(error, requests.exceptions.SSLError):
        return f"{address} offers no connection that can be trusted: use http://, or name its certificate in REQUESTS_CA_BUNDLE."
    return f"The connection to {address} was lost: check that the server still runs, and try again."


def _refusal_sentence(response: requests.Response, address: str) -> str:
    status, reason = response.status_code, f"{response.status_code} {response.reason}"
    if status < 400:
        return f"{address} redirects to {response.headers.get('location')}: connect to that address."
    if status == 401:
        return "The server requires a valid access token: ask whoever runs it for one."
    if status == 403:
        return "This access token does not allow that: ask whoever runs the server for one that does."
    if status == 413:
        return "This is more than the server accepts at once: ask whoever runs it to raise its limit."
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = None
    if isinstance(detail, str) and detail:
        return detail if detail.endswith(".") else f"{detail}."
    if status < 500:
        return f"{address} refused the request ({reason}): check that a PrATo Label server runs there."
    return f"The server failed ({reason}): try again, or look at its log."
