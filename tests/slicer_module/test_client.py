"""The client when the server is absent, silent, wrong or refuses: one sentence each."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from PratoLabelLib.server import client as client_module
from PratoLabelLib.server.client import Client
from PratoLabelLib.server.connection import Cancelled
from tests.slicer_module.client_calls import CALLS, failure
from tests.slicer_module.fake_server import FakeServer

GARBAGE = [
    b"",
    b"<html>It works!</html>",
    b"[]",
    b"17",
    b"null",
    b'{"models": 3}',
    b'{"models": {"m": null}, "trainers": {}}',
    b'{"objects": []}',
    b'{"id": 4, "image": []}',
    b"\xff\xfe",
]


@pytest.mark.parametrize(
    "address",
    [
        "",
        "   ",
        "ftp://host:80",
        "http://",
        "host:port",
        "host:99999",
        "host:0",
        "two words:8000",
        "http://a:b@host",
        "http://h/?x=1",
        "://",
        "http://[::1",
    ],
)
def test_what_is_no_address(address: str) -> None:
    assert "127.0.0.1:8000" in str(failure(lambda: Client(address)))


@pytest.mark.parametrize(
    "address", ["127.0.0.1:{}", "http://127.0.0.1:{}/", " http://127.0.0.1:{} ", "localhost:{}", "HTTP://LocalHost:{}"]
)
def test_what_is_an_address(fake_server: FakeServer, address: str) -> None:
    fake_server.body = b'{"objects": {}}'
    assert Client(address.format(fake_server.server_port)).studies() == []


def test_no_server(fake_server: FakeServer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        error = failure(Client(f"127.0.0.1:{free.getsockname()[1]}").info)
    assert "No server runs at http://127.0.0.1" in str(error)
    assert error.status is None


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b"])
def test_no_such_host(host: str) -> None:
    assert f"no machine called {host}" in str(failure(Client(f"{host}:8000").info))


def test_a_token_that_is_none() -> None:
    for token in ("ab\ncd", "schlüssel"):
        assert "token" in str(failure(lambda token=token: Client("127.0.0.1:1", token)))


def test_the_token_goes_along_when_there_is_one(fake_server: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fake_server.body = b'{"objects": {}}'
    Client(fake_server.address, " abc.def ").studies()
    Client(fake_server.address).studies()
    assert [headers.get("Authorization") for headers in fake_server.received] == ["Bearer abc.def", None]


@pytest.mark.parametrize(
    ("call", "body"),
    [(call, body) for call in CALLS for body in GARBAGE if (call, body) != ("stop", b"null")],  # null: none runs
)
def test_garbage_is_no_answer(fake_server: FakeServer, folder: Path, call: str, body: bytes) -> None:
    fake_server.body = body
    assert "is not a PrATo Label server" in str(failure(lambda: CALLS[call](Client(fake_server.address), folder)))


@pytest.mark.parametrize(
    "body",
    [
        b"--b\r\n\r\nno name\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="params"\r\n\r\n{}\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="params"\r\n\r\n{}\r\n--b\r\nX: form-data; name="image"\r\n\r\nNRRD0004\r\n--b--\r\n',
        b'--b\r\nX: form-data; name="params"\r\n\r\n{\r\n--b\r\nX: form-data; name="image"\r\n\r\nNRRD0004\r\n--b--\r\n',
    ],
    ids=["no parts", "no mask", "no label names", "no JSON"],
)
def test_a_segmentation_that_lacks_something(fake_server: FakeServer, body: bytes) -> None:
    fake_server.headers, fake_server.body = {"Content-Type": "multipart/form-data; boundary=b"}, body
    assert "is not a PrATo Label server" in str(failure(lambda: Client(fake_server.address).infer("prato_unetr", "heart", {})))


def test_a_mask_arrives_byte_by_byte_as_it_was(fake_server: FakeServer) -> None:
    mask = b"NRRD0004\n" + bytes(range(256)) * 3 + b"\r\n\r\n--\r\n\r"
    reply = {"label_names": {"LV cavity": 3}, "box": [0] * 6, "warnings": [], "model_version": "abc"}
    fake_server.headers = {"Content-Type": 'multipart/form-data; boundary="4f"'}
    parts = (b'name="params"\r\n\r\n' + json.dumps(reply).encode(), b'name="image"; filename="name=.nrrd"\r\n\r\n' + mask)
    fake_server.body = b"".join(b"--4f\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--4f--\r\n"
    answer = Client(fake_server.address).infer("prato_unetr", "heart", {})
    assert (answer.mask, answer.reply) == (mask, reply)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"{}", "access token"),
        (403, b'{"detail": "Role missing"}', "token does not allow"),
        (413, b"<html>Request Entity Too Large</html>", "more than the server accepts"),
        (400, b'{"detail": "prune must be one of off."}', "prune must be one of off."),
        (404, b'{"detail": "Image NOT Found"}', "Image NOT Found."),
        (422, b'{"detail": [{"loc": ["query"]}]}', "refused the request (422"),
        (404, b"<html>", "refused the request (404"),
        (500, b"Internal Server Error", "The server failed (500"),
        (503, b'{"detail": "x.safetensors is damaged."}', "x.safetensors is damaged."),
        (307, b"", "connect to that address"),
    ],
)
def test_refusals(fake_server: FakeServer, folder: Path, status: int, body: bytes, words: str) -> None:
    fake_server.status, fake_server.body = status, body
    for call in CALLS.values():
        if status == 404 and call is CALLS["training"]:
            continue  # where nothing was ever trained, that is the answer
        error = failure(lambda call=call: call(Client(fake_server.address), folder))
        assert words in str(error)
        assert error.status == status


def test_a_training_that_runs_already(fake_server: FakeServer) -> None:
    fake_server.status, fake_server.body = 429, b'{"detail": "++++++++++ Train Task is Already Running"}'
    error = failure(lambda: Client(fake_server.address).train("prato_unetr", {}))
    assert (str(error)[:29], error.status) == ("A training is already running", 429)


@pytest.mark.parametrize("ends_after", range(4))
def test_a_training_that_ends_between_two_requests(ends_after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it ends while the client asks, what the client calls over has its result."""
    stats = {"step": 6, "total_steps": 6, "dice_before": 0.1}
    result = {"published": True, "dice_after": 0.2, "model_version_before": "a", "model_version_after": "b"}
    requested: list[str] = []

    def reply(self: Client, method: str, path: str, **parts: object) -> requests.Response:
        has_ended = len(requested) >= ends_after
        requested.append(path)
        task = {"status": "DONE" if has_ended else "RUNNING", "request": {"model": "m"}, "details": ["step 6/6"]}
        info = {"train_stats": {"m": stats | (result if has_ended else {})}}
        response = requests.Response()
        response.status_code, response.encoding = 200, "utf-8"
        response._content = json.dumps([task] if path.startswith("/train") else info).encode()
        return response

    monkeypatch.setattr(Client, "_request", reply)
    state = Client("127.0.0.1:1").training("m")
    assert state.running == (ends_after > 0)
    assert state.running or state.result["published"]
    assert len(requested) == 2


def test_silence_is_a_time_out(fake_server: FakeServer) -> None:
    fake_server.seconds = 600
    assert "no answer within 0.3 s" in str(failure(Client(fake_server.address, timeout=0.3).info))


def test_an_answer_cut_short_leaves_no_file(fake_server: FakeServer, folder: Path) -> None:
    fake_server.headers, fake_server.body = {"Content-Length": "1000"}, b"\x1f\x8b half of it"
    before = sorted(folder.iterdir())
    sentence = str(failure(lambda: Client(fake_server.address).download_image("heart", folder)))
    assert "was incomplete" in sentence or "was lost" in sentence  # as the versions of urllib3 have it
    assert sorted(folder.iterdir()) == before


def test_names_from_the_server_stay_in_the_folder(fake_server: FakeServer, folder: Path) -> None:
    fake_server.body = b"not zipped"
    assert Client(fake_server.address).download_image("../../heart", folder / ".") == folder / "heart.nii"
    assert Client(fake_server.address).download_label("/etc/heart", folder).parent == folder


def test_a_folder_that_is_not_there_is_the_caller_s(fake_server: FakeServer, folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Client(fake_server.address).download_image("heart", folder / "none")
    with pytest.raises(FileNotFoundError):
        Client(fake_server.address).upload_image("heart", folder / "none.nii.gz")


def test_a_server_that_knows_no_tls(fake_server: FakeServer) -> None:
    assert "http://" in str(failure(Client(f"https://{fake_server.address}").info))


def test_a_proxy_of_the_environment_is_used_but_not_for_this_machine(fake_server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_server.body = b'{"objects": {}}'
    monkeypatch.setenv("http_proxy", f"http://{fake_server.address}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert Client("heart.invalid:8000", "abc").studies() == []
    assert fake_server.received[-1]["Host"] == "heart.invalid:8000"
    assert fake_server.received[-1]["Authorization"] == "Bearer abc"
    fake_server.status = 407
    assert "requires a name and password" in str(failure(Client("heart.invalid:8000").info))
    monkeypatch.setenv("no_proxy", "heart.invalid")
    assert "no machine called heart.invalid" in str(failure(Client("heart.invalid:8000").info))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy")
    sentence = str(failure(Client("heart.invalid:8000").info))
    assert "The proxy 127.0.0.1:9 lets nothing through" in sentence and "no_proxy" in sentence
    fake_server.status = 200
    for name in ("127.0.0.1", "localhost"):
        assert Client(f"{name}:{fake_server.server_port}").studies() == []


def test_a_request_through_a_proxy_can_be_cancelled(fake_server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{fake_server.address}")
    fake_server.seconds = 600
    client = Client("heart.invalid:8000")
    thread = threading.Thread(target=lambda: fake_server.was_called.wait(60) and client.cancel())
    thread.start()
    assert isinstance(failure(client.info), Cancelled)
    thread.join()


@pytest.fixture
def private_server(fake_server: FakeServer, tmp_path: Path) -> tuple[str, Path]:
    """The address of a server with a certificate of its own, and that certificate."""
    name, key = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "heart")]), ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "own.pem").write_bytes(signed.public_bytes(pem))
    (tmp_path / "both.pem").write_bytes(private + signed.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    fake_server.socket = context.wrap_socket(fake_server.socket, server_side=True)
    fake_server.body = b'{"objects": {}}'
    return f"https://{fake_server.address}", tmp_path / "own.pem"


def test_a_private_certificate_is_named_in_the_environment_or_the_settings(
    private_server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, certificate = private_server
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    sentence = str(failure(Client(address).studies))
    assert "can be trusted" in sentence and "REQUESTS_CA_BUNDLE" in sentence and "PratoLabel/certificate" in sentence
    assert Client(address, certificate=str(certificate)).studies() == []
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):  # 3D Slicer sets the former
        with monkeypatch.context() as environment:
            environment.setenv(name, str(certificate))
            assert Client(address).studies() == []
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    assert "There is no file /nowhere.pem" in str(failure(Client(address).studies))


def test_requests_is_imported_with_the_first_request() -> None:
    code = "import sys; from PratoLabelLib.server import client, server_logic; assert not {'requests', 'urllib3'} & set(sys.modules)"
    folder = Path(client_module.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(folder)}, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("status", [400, 404, 405])
def test_a_server_that_keeps_no_versions_has_none(fake_server: FakeServer, status: int) -> None:
    client, fake_server.status = Client(fake_server.address), status
    assert client.current_version("a") is None and client.versions("a") == []
    fake_server.status = 500
    assert failure(lambda: client.current_version("a")).status == failure(lambda: client.versions("a")).status == 500
    fake_server.status, fake_server.body = 200, b'{"current": null, "versions": []}'
    assert client.current_version("a") == 0 and client.versions("a") == []
