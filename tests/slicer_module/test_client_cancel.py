"""Cancelling ends a request for good, whatever it waits for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from client_calls import CALLS, failure
from http_double import HttpDouble, http_double

from PratoLabelLib import connection
from PratoLabelLib.client import Client
from PratoLabelLib.errors import Cancelled, ServerError


@pytest.fixture
def double() -> Iterator[HttpDouble]:
    with http_double() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "image.nii.gz").write_bytes(b"\x1f\x8b" + bytes(range(256)))
    return tmp_path


@pytest.mark.parametrize("call", CALLS)
def test_cancel_ends_a_request_in_flight_at_once_and_the_next_one_works(double: HttpDouble, folder: Path, call: str) -> None:
    client, took, raised = Client(double.address), [], []
    double.seconds = 20

    def ask() -> None:
        try:
            CALLS[call](client, folder)
        except ServerError as error:
            took.append(time.monotonic())
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert double.began.wait(10)
    start = time.monotonic()
    client.cancel()
    thread.join(10)
    assert took[0] - start < 0.5
    assert isinstance(raised[0], Cancelled)
    double.seconds, double.body = 0, b'{"objects": {}}'
    assert client.studies() == []
    assert not client._lines


def test_cancel_without_a_request_does_nothing(double: HttpDouble) -> None:
    client = Client(double.address)
    client.cancel()
    double.body = b'{"objects": {}}'
    assert client.studies() == []


@pytest.fixture
def deaf() -> Iterator[str]:
    """The address of a port of this machine whose queue is full: whoever connects hears nothing."""
    with ExitStack() as open_sockets:
        port = open_sockets.enter_context(socket.socket())
        port.bind(("127.0.0.1", 0))
        port.listen(0)
        for _ in range(8):
            waiting = open_sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(port.getsockname())
        probe = open_sockets.enter_context(socket.socket())
        probe.settimeout(0.3)
        try:
            probe.connect(port.getsockname())
        except TimeoutError:
            yield f"127.0.0.1:{port.getsockname()[1]}"
        else:
            pytest.skip("this system takes connections beyond a port's queue")


def test_a_port_that_takes_no_connection(deaf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_S", 0.3)
    start = time.monotonic()
    assert "takes no connection" in str(failure(Client(deaf).info))
    assert time.monotonic() - start < 3


def test_cancel_while_connecting(deaf: str) -> None:
    client = Client(deaf)
    timer = threading.Timer(0.2, client.cancel)
    timer.start()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        client.info()
    assert time.monotonic() - start < 0.2 + 0.5


def test_cancel_during_an_upload(folder: Path) -> None:
    """Nobody reads: what does not fit into the buffers between the two waits to be sent."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        port.listen(1)
        client = Client(f"127.0.0.1:{port.getsockname()[1]}")
        (folder / "large.nii").write_bytes(bytes(50_000_000))
        timer = threading.Timer(1.5, client.cancel)
        timer.start()
        with pytest.raises(Cancelled):
            client.upload_image("heart", folder / "large.nii")
        assert not timer.is_alive()


def test_cancel_during_a_tls_handshake() -> None:
    """Somebody takes the connection and never says a word."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        port.listen(1)
        client = Client(f"https://127.0.0.1:{port.getsockname()[1]}")
        timer = threading.Timer(0.2, client.cancel)
        timer.start()
        start = time.monotonic()
        with pytest.raises(Cancelled):
            client.info()
        assert time.monotonic() - start < 0.2 + 0.5
