"""Cancelling ends a request for good, whatever it waits for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from PratoLabelLib.server import connection
from PratoLabelLib.server.client import Client
from PratoLabelLib.server.connection import Cancelled, ServerError
from tests.slicer_module.client_calls import CALLS, failure
from tests.slicer_module.fake_server import FakeServer

PATIENCE_S = 60


@pytest.mark.parametrize("call", CALLS)
def test_cancel_ends_a_request_in_flight_at_once_and_the_next_one_works(fake_server: FakeServer, folder: Path, call: str) -> None:
    client, raised = Client(fake_server.address), []
    fake_server.seconds = 10 * PATIENCE_S  # no answer ends it

    def ask() -> None:
        try:
            CALLS[call](client, folder)
        except ServerError as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert fake_server.was_called.wait(PATIENCE_S)
    client.cancel()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert isinstance(raised[0], Cancelled)
    fake_server.seconds, fake_server.body = 0, b'{"objects": {}}'
    assert client.studies() == []
    assert not client._connections


def test_cancel_without_a_request_does_nothing(fake_server: FakeServer) -> None:
    client = Client(fake_server.address)
    client.cancel()
    fake_server.body = b'{"objects": {}}'
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


@pytest.mark.slow
def test_a_port_that_takes_no_connection(deaf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 0.3)
    assert "accepts no connection" in str(failure(Client(deaf).info))


@contextmanager
def cancelling(client: Client, once: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Cancel again and again after ``once`` has returned, until the block ends: what has not begun yet cannot be cancelled."""
    over = threading.Event()

    def cancel() -> None:
        once()
        while not over.wait(0.05):
            client.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_cancel_while_connecting(deaf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 10 * PATIENCE_S)
    client = Client(deaf)
    with cancelling(client), pytest.raises(Cancelled):
        client.info()


def wait_for_request(port: socket.socket, connections: ExitStack) -> None:
    """Return when the first byte of a request has come."""
    connections.enter_context(port.accept()[0]).recv(1, socket.MSG_PEEK)


def test_cancel_during_an_upload(folder: Path) -> None:
    """Nobody reads: what does not fit into the buffers between the two waits to be sent."""
    with socket.socket() as port, ExitStack() as connections:
        port.bind(("127.0.0.1", 0))
        port.listen(1)
        client = Client(f"127.0.0.1:{port.getsockname()[1]}", timeout=10 * PATIENCE_S)
        (folder / "large.nii").write_bytes(bytes(50_000_000))
        with cancelling(client, lambda: wait_for_request(port, connections)), pytest.raises(Cancelled):
            client.upload_image("heart", folder / "large.nii")


@pytest.mark.slow
def test_cancel_during_a_tls_handshake() -> None:
    """Somebody takes the connection and never says a word."""
    with socket.socket() as port, ExitStack() as connections:
        port.bind(("127.0.0.1", 0))
        port.listen(1)
        client = Client(f"https://127.0.0.1:{port.getsockname()[1]}", timeout=10 * PATIENCE_S)
        with cancelling(client, lambda: wait_for_request(port, connections)), pytest.raises(Cancelled):
            client.info()
