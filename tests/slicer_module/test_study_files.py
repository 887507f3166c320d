"""A label on its way to the server: it arrives whatever that has forgotten."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
from PratoLabelLib.server.client import Client
from PratoLabelLib.server.connection import ServerError
from PratoLabelLib.studies.study_files import send_label

HERE = "http://here:8000"


class Server:
    """Takes labels, or refuses those with a ``base_version`` with a ``status``; ``sent`` has what came with each."""

    address = HERE

    def __init__(self, status: int | None = None, version: object = 5) -> None:
        self.status, self.version, self.sent = status, version, list[dict[str, Any]]()

    def is_same_image(self, study: str, checksum: str) -> bool:
        return checksum == "same"

    def submit(self, study: str, path: Path, info: dict[str, Any]) -> dict[str, Any]:
        self.sent.append(info)
        if self.status is not None and (self.status != 400 or "base_version" in info):
            raise ServerError("No.", self.status)
        return {"version": self.version}


def send(server: Server, base: tuple[str, int] | None, checksum: str | None = None) -> tuple[dict[str, Any], tuple[str, int] | None]:
    return send_label(cast(Client, server), "a", Path("a.nii.gz"), {"annotator": "Ada"}, base, checksum)


def test_a_label_says_which_version_it_was_made_from_to_the_server_that_has_it() -> None:
    for base, said in (((HERE, 3), {"base_version": 3}), ((HERE, 0), {"base_version": 0}), (("http://there:8000", 3), {}), (None, {})):
        server = Server()
        assert send(server, base) == ({"version": 5}, (HERE, 5))
        assert server.sent == [{"annotator": "Ada", **said}]
    assert send(Server(version=None), None) == ({"version": None}, None)  # a stock server keeps none


def test_a_server_that_lost_its_history_gets_the_label_all_the_same() -> None:
    server = Server(status=400)
    assert send(server, (HERE, 3))[1] == (HERE, 5)
    assert server.sent == [{"annotator": "Ada", "base_version": 3}, {"annotator": "Ada"}]


@pytest.mark.parametrize("status", [401, 409, 507])
def test_what_is_refused_for_another_reason_is_not_sent_again(status: int) -> None:
    server = Server(status)
    with pytest.raises(ServerError, match=r"No\."):
        send(server, (HERE, 3))
    assert len(server.sent) == 1


def test_a_label_of_another_image_of_the_same_name_is_not_sent() -> None:
    server = Server()
    assert send(server, (HERE, 3), "same") == ({"version": 5}, (HERE, 5))
    with pytest.raises(ServerError, match="not the one that this label was drawn on, so nothing was sent: delete the image and the"):
        send(server, (HERE, 3), "another")
    assert len(server.sent) == 1


def test_a_server_that_finds_no_image_to_be_the_same_is_asked_for_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(method: str, path: str, **parts: object) -> SimpleNamespace:
        if method == "HEAD":
            raise ServerError("No.", 404)
        return SimpleNamespace(content=b"image")

    client = Client(HERE)
    monkeypatch.setattr(client, "_request", answer)
    assert client.is_same_image("a", sha256(b"image").hexdigest())
    assert not client.is_same_image("a", sha256(b"another").hexdigest())
