"""Studies that are skipped or rejected, on the real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from PratoLabelLib.server.client import Client
from tests.app.live import LiveServer, write_study

NAMES = ("0 skipped", "1 rejected", "2 good")


@pytest.fixture(scope="module")
def server(live_server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Three studies that come before all others by name."""
    folder = tmp_path_factory.mktemp("images")
    for n, name in enumerate(NAMES):
        Client(live_server.url).upload_image(name, write_study(folder / f"{n}.nii.gz", seed=20 + n))
    yield live_server
    for name in NAMES:
        requests.delete(f"{live_server.url}/datastore/image", params={"id": name}, timeout=200)


def review(server: LiveServer, image: str, **params: Any) -> requests.Response:
    return requests.put(f"{server.url}/datastore/image/review", params={"image": image}, data={"params": json.dumps(params)}, timeout=200)


def reviews(server: LiveServer) -> dict[str, tuple[str, str]]:
    return {study.id: (study.review, study.reason) for study in Client(server.url).studies()}


def test_rejected_and_skipped_studies_are_not_handed_out_next(server: LiveServer) -> None:
    client = Client(server.url)
    assert client.next_study("first").id == NAMES[0]
    client.review(NAMES[0], "skipped", "unsure", "Ada")
    assert client.next_study("first").id == NAMES[1]
    client.review(NAMES[1], "rejected", "no heart", "Ada")
    assert client.next_study("first").id == NAMES[2]
    assert [reviews(server)[name] for name in NAMES] == [("skipped", "unsure"), ("rejected", "no heart"), ("open", "")]
    reply = review(server, NAMES[1], state="open", annotator="Bob")
    assert reply.json()["review"]["annotator"] == "Bob"
    assert client.next_study("first").id == NAMES[1]


@pytest.mark.parametrize(
    ("image", "params", "status", "sentence"),
    [
        (NAMES[2], {"state": "lost"}, 400, "state must be open, skipped or rejected, not 'lost'."),
        (NAMES[2], {"reason": "x"}, 400, "state must be open, skipped or rejected, not None."),
        (NAMES[2], {"state": "rejected"}, 400, "A study can be rejected only with a reason: send one as reason."),
        (NAMES[2], {"state": "skipped", "reason": " "}, 400, "A study can be skipped only with a reason: send one as reason."),
        (NAMES[2], {"state": "skipped", "reason": "x" * 501}, 400, "reason must be text of at most 500 characters."),
        (NAMES[2], {"state": ["open"]}, 400, "state must be open, skipped or rejected, not ['open']."),
        (NAMES[2], {"state": "open", "annotator": 7}, 400, "annotator must be a name, text of at most 150 characters in one line, not 7."),
        ("nobody", {"state": "open"}, 404, "There is no image 'nobody' among the studies"),
    ],
)
def test_what_is_no_review_is_refused_and_changes_nothing(
    server: LiveServer, image: str, params: dict[str, Any], status: int, sentence: str
) -> None:
    before = Path(server.studies / "datastore_v2.json").read_bytes()
    reply = review(server, image, **params)
    assert reply.status_code == status
    assert sentence in reply.json()["detail"]
    assert Path(server.studies / "datastore_v2.json").read_bytes() == before
    refused = requests.put(
        f"{server.url}/datastore/image/info", params={"image": NAMES[2]}, data={"info": json.dumps({"review": "mine"})}, timeout=200
    )
    assert refused.status_code == 400
