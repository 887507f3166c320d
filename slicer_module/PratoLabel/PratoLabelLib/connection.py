"""HTTP connections that another thread can end at any moment; the same for urllib3 1.26 and 2."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

#: How long each address of a host may take to accept a connection.
CONNECT_S = 5.0
#: How often a connection that is still being made looks whether it was cut.
_LOOK_S = 0.05
#: What a connection that is under way says; the last is Windows' own.
_UNDER_WAY = (0, errno.EINPROGRESS, errno.EWOULDBLOCK, 10035)


class UnreachableError(Exception):
    """No connection was made; ``reason`` says why (``socket.gaierror``: no such host; ``TimeoutError``: no address took it in time)."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Line:
    """The connections of one request. :meth:`cut` is for any thread, the rest for the one that makes the request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[socket.socket] = []
        self.is_cut = False

    def cut(self) -> None:
        """End what is in flight at once: whoever waits for an answer finds the connection closed. Looking up a name is not ended."""
        with self._lock:
            self.is_cut = True
            for held in self._held:
                with suppress(OSError):  # the other side was quicker
                    held.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """To be called when the request is over."""
        with self._lock:
            for held in self._held:
                held.close()
            self._held.clear()

    def connect(self, host: str, port: int, timeout: float) -> socket.socket:
        """A socket that is connected to ``host`` and waits at most ``timeout`` seconds for data.

        Raises:
            UnreachableError: nobody answers there, or the line is cut.
        """
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise UnreachableError(error if isinstance(error, OSError) else socket.gaierror(str(error))) from error
        reason = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in addresses:
            sock = socket.socket(family, kind, protocol)
            try:
                self._reach(sock, address)
                self._hold(sock)
                sock.settimeout(timeout)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                sock.close()
                reason = error
                if self.is_cut:
                    break
            else:
                return sock
        raise UnreachableError(reason)

    def _reach(self, sock: socket.socket, address: Any) -> None:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code in _UNDER_WAY:
            deadline = time.monotonic() + CONNECT_S
            with selectors.DefaultSelector() as selector:
                selector.register(sock, selectors.EVENT_WRITE)
                while not selector.select(_LOOK_S) and not self.is_cut:
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"no connection within {CONNECT_S:g} s")
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    def _hold(self, sock: socket.socket) -> None:
        with self._lock:
            if self.is_cut:
                raise ConnectionAbortedError("the line was cut")
            # a second handle on the same connection: TLS takes the first one over, and urllib3 closes it when it likes
            self._held.append(sock.dup())


class LineAdapter(HTTPAdapter):
    """What a ``requests.Session`` sends with, so that its connections belong to ``line``."""

    def __init__(self, line: Line) -> None:
        self._line = line
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """requests' own hook, called as it is made."""
        super().init_poolmanager(*args, **kwargs)
        pools = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}
        self.poolmanager.pool_classes_by_scheme = {scheme: _pool(kind, self._line) for scheme, kind in pools.items()}


def _pool(kind: type[HTTPConnectionPool], line: Line) -> type[HTTPConnectionPool]:
    def connect(connection: Any) -> socket.socket:
        return line.connect(connection._dns_host, connection.port, connection.timeout)

    connection = type("LineConnection", (kind.ConnectionCls,), {"_new_conn": connect})
    return type(kind.__name__, (kind,), {"ConnectionCls": connection})
