"""How the tests talk to the server that stands behind its guards."""

from __future__ import annotations

from typing import Any

import requests

from tests.app.live import LiveServer

TOKEN = "a-token-for-the-tests-0123456789"
WAITING = 2
ROI = [8, 32, 6, 30, 1, 4]


def ask(server: LiveServer, method: str, path: str, **parts: Any) -> requests.Response:
    parts.setdefault("headers", server.headers)
    return requests.request(method, server.url + path, timeout=200, **parts)


def refused(response: requests.Response, status: int, words: str = "") -> None:
    assert response.status_code == status, response.text
    said = response.json()
    assert set(said) == {"detail", "request_id"}
    assert said["request_id"] == response.headers["X-Request-ID"]
    assert said["detail"].endswith(".")
    assert words in said["detail"]
    assert "Traceback" not in said["detail"]


def state(server: LiveServer) -> Any:
    return ask(server, "GET", "/prato/state").json()
