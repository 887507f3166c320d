"""The server as ``make serve`` starts it: who gets in, and what is told to whom."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException

from PratoLabelLib.server.client import Client
from PratoLabelLib.server.connection import ServerError
from tests.app.guarded import ROI, TOKEN, ask, refused
from tests.app.live import APP, LiveServer
from tests.waiting import HANG_S, wait_until


def test_every_route_wants_the_token(guarded_server: LiveServer) -> None:
    paths = ask(guarded_server, "GET", "/openapi.json").json()["paths"]
    routes = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    assert len(routes) > 25
    hidden = ("/", "/docs", "/openapi.json", "/favicon.ico", "/static/favicon.ico", "/ohif/", "/proxy/dicom/x", "/nowhere")
    hidden += ("/prato/state", "/prato/study/state", "/prato/study/pictures")
    routes += [("GET", path) for path in hidden] + [("POST", "/reload"), ("POST", "/infer/wsi/prato_unetr"), ("OPTIONS", "/info/")]
    with requests.Session() as session:
        for method, path in routes:
            response = session.request(method, guarded_server.url + path.replace("{", "").replace("}", ""), timeout=200)
            if method == "HEAD":
                assert response.status_code == 401, path
            else:
                refused(response, 401, "access token")
    assert ask(guarded_server, "GET", "/info/", headers={"Authorization": f"Bearer {TOKEN}x"}).status_code == 401
    assert TOKEN not in guarded_server.log.read_text() + (guarded_server.app / "logs" / "app.log").read_text()
    assert TOKEN not in " ".join(psutil.Process(guarded_server.process.pid).cmdline())


def test_the_slicer_client_with_and_without_the_token(guarded_server: LiveServer) -> None:
    assert Client(guarded_server.url, TOKEN).infer("prato_unetr", "a_ED", {"roi": ROI}).reply["box"] == ROI
    for token in ("", TOKEN[:-1]):
        with pytest.raises(ServerError, match="requires a valid access token") as caught:
            Client(guarded_server.url, token).info()
        assert caught.value.status == 401


def test_what_monai_labels_client_announces_and_does_not_send_is_not_waited_for(guarded_server: LiveServer) -> None:
    """With a token it repeats the headers of a body with each later request, which have none."""
    client = MONAILabelClient(guarded_server.url)
    client.update_auth({"token_type": "Bearer", "access_token": TOKEN})
    with pytest.raises(MONAILabelClientException, match="no trainable model"):
        client.train_start("nobody", {})
    socket.setdefaulttimeout(HANG_S)
    try:
        assert client.train_stop() is None
        assert client.train_status(check_if_running=True) is False
    finally:
        socket.setdefaulttimeout(None)


@pytest.mark.parametrize("path", ["/infer/prato_unetr?image=a_ED", "/activelearning/first", "/datastore/label/approve?image=a_ED"])
def test_whoever_hangs_up_while_sending_is_no_fault_of_the_server(guarded_server: LiveServer, path: str) -> None:
    name = f"hangs-up-{path.split('/')[1]}"
    head = f"POST {path} HTTP/1.1\r\nHost: {urlsplit(guarded_server.url).netloc}\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += f"X-Request-ID: {name}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{{"
    host, port = urlsplit(guarded_server.url).hostname, urlsplit(guarded_server.url).port
    with socket.create_connection((host, port or 0)) as line:
        line.sendall(head.encode())
    wait_until(lambda: ask(guarded_server, "GET", "/info/").ok)
    assert f"Request {name} failed" not in guarded_server.log.read_text()


def test_no_other_web_page_gets_an_answer(guarded_server: LiveServer) -> None:
    for method, extra in (("GET", {}), ("POST", {}), ("OPTIONS", {"Access-Control-Request-Method": "GET"})):
        response = ask(guarded_server, method, "/info/", headers={**guarded_server.headers, "Origin": "https://evil.example", **extra})
        refused(response, 403, "https://evil.example may not use")
        assert not [name for name in response.headers if name.lower().startswith("access-control")]
    assert ask(guarded_server, "GET", "/info/", headers={**guarded_server.headers, "Origin": guarded_server.url}).ok


def test_what_is_not_offered_is_told_in_one_sentence(guarded_server: LiveServer) -> None:
    before = guarded_server.tree()
    refused(ask(guarded_server, "GET", "/nowhere"), 404, "There is no route GET /nowhere")
    refused(ask(guarded_server, "PATCH", "/info/"), 405, "PATCH /info/ is not allowed")
    refused(ask(guarded_server, "POST", "/reload"), 404, "does not offer /reload")
    refused(
        ask(guarded_server, "POST", "/train/prato_unetr", data="{", headers={**guarded_server.headers, "Content-Type": "application/json"}),
        400,
    )
    refused(ask(guarded_server, "GET", "/logs/?lines=-1"), 400, "lines: ")
    refused(ask(guarded_server, "GET", "/proxy/dicom/wado/x"), 404, "not on a DICOMweb server")
    assert guarded_server.tree() == before


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--host", "0.0.0.0"], {}, "Without an access token the server binds to 127.0.0.1 only, not 0.0.0.0"),
        (["--host", "0.0.0.0"], {"PRATO_LABEL_TOKEN": "short"}, "at least 16"),
        (["--host", "::"], {}, "not ::"),
        ([], {"PRATO_LABEL_TOKEN_FILE": "/nowhere/token"}, "cannot be read"),
        ([], {"PRATO_LABEL_MAX_WAITING": "many"}, "PRATO_LABEL_MAX_WAITING cannot be used"),
        (["--studies", "/nowhere"], {}, "/nowhere is not a folder"),
    ],
)
def test_a_start_that_would_leave_it_open_is_refused(tmp_path: Path, arguments: list[str], environment: dict[str, str], words: str) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PRATO_LABEL_")} | environment
    command = [sys.executable, str(APP / "serve.py"), "--studies", str(tmp_path), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
