"""Connections that another thread can abort at any moment, and the error that tells the user in one sentence what went wrong."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from PratoLabelLib.errors import UserError
from PratoLabelLib.translation import translator

_ = translator(__file__)

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


class ServerError(UserError):
    """The server refused, or did not reply; ``status`` is the HTTP status, None when there was no reply."""

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


class Cancelled(ServerError):
    """The request was cancelled."""

    def __init__(self) -> None:
        super().__init__(_("The request was cancelled."))


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
        reason = OSError(_("{host} has no address").format(host=host))
        for family, kind, protocol, _name, address in addresses:
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
