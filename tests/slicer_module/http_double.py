"""A double of the server for what the real one does not do when asked: bad answers, refusals of a proxy, silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HttpDouble(ThreadingHTTPServer):
    """Answers every request with ``status``, ``headers`` and ``body``, ``seconds`` after it came; ``seen`` holds their headers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.headers, self.body, self.seconds = 200, {"Content-Type": "application/json"}, b"{}", 0.0
        self.seen: list[dict[str, str]] = []
        self.began = threading.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HttpDouble

    def answer(self) -> None:
        double = self.server
        double.seen.append(dict(self.headers))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        double.began.set()
        time.sleep(double.seconds)
        with suppress(OSError):  # a client that has gone
            self.send_response(double.status)
            for name, value in {"Content-Length": str(len(double.body)), **double.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(double.body)
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def http_double() -> Iterator[HttpDouble]:
    """A running double on a free port of this machine."""
    double = HttpDouble()
    thread = threading.Thread(target=double.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield double
    finally:
        double.shutdown()
        double.server_close()
