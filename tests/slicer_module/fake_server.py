"""A fake HTTP server for what the real one does not do on request: bad replies, refusals of a proxy, silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeServer(ThreadingHTTPServer):
    """Answers every request with ``status``, ``headers`` and ``body``, ``seconds`` after it came; ``received`` collects their headers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.headers, self.body, self.seconds = 200, {"Content-Type": "application/json"}, b"{}", 0.0
        self.received: list[dict[str, str]] = []
        self.was_called = threading.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def reply(self) -> None:
        fake = self.server
        fake.received.append(dict(self.headers))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fake.was_called.set()
        time.sleep(fake.seconds)
        with suppress(OSError):  # a client that has gone
            self.send_response(fake.status)
            for name, value in {"Content-Length": str(len(fake.body)), **fake.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(fake.body)
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = reply

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def run_fake_server() -> Iterator[FakeServer]:
    """A running fake on a free port of this machine."""
    fake = FakeServer()
    thread = threading.Thread(target=fake.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.shutdown()
        fake.server_close()
