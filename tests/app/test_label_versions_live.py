"""Versions of labels over HTTP, on the real server: nothing that anybody handed in is lost, and everybody learns of the others."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from prato.data.nifti import gzip_bytes, read_volume, volume_bytes
from prato.data.structures import STRUCTURES
from tests.app.hearts import heart
from tests.app.live import LiveServer, Reply, write_study

STUDY = "Herz 7 ü"


@pytest.fixture(scope="module")
def server(live_server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The tests of this file label one study of their own, one after the other."""
    add_image(live_server, tmp_path_factory.mktemp("image"))
    yield live_server
    requests.delete(f"{live_server.url}/datastore/image", params={"id": STUDY}, timeout=200)


def add_image(server: LiveServer, folder: Path) -> None:
    data = write_study(folder / "x.nii.gz", seed=3).read_bytes()
    sent = requests.put(f"{server.url}/datastore/image", params={"image": STUDY}, files={"file": ("x.nii.gz", data)}, timeout=200)
    assert sent.status_code == 200, sent.text


def file_of(mask: np.ndarray, server: LiveServer) -> bytes:
    return gzip_bytes(volume_bytes(read_volume(server.studies / "heart_a.nii.gz").with_array(mask)))


def smaller(slices: int) -> np.ndarray:
    """The heart without its first ``slices``."""
    mask = heart()
    mask[:, :, :slices] = 0
    return mask


def submit(server: LiveServer, mask: np.ndarray, **params: Any) -> Reply:
    query, data = {"image": STUDY, "tag": "final"}, {"params": json.dumps(params)}
    files = {"label": ("label.nii.gz", file_of(mask, server))}
    return server.read(requests.put(f"{server.url}/datastore/label", params=query, data=data, files=files, timeout=200))


def ask(server: LiveServer, path: str, method: str = "GET", data: Any = None, **query: Any) -> requests.Response:
    url = f"{server.url}/datastore/label{path}"
    return requests.request(method, url, params={"image": STUDY, **query}, data=data, timeout=200)


def versions(server: LiveServer) -> dict[str, Any]:
    return ask(server, "/versions").json()


def test_the_second_of_two_annotators_is_told(server: LiveServer) -> None:
    ada = submit(server, heart(), annotator="Ada", box=[10, 30, 8, 28, 0, 5], model="prato_unetr", model_version="0123456789ab")
    assert (ada.json["version"], ada.json["conflict"]) == (1, None)
    bob = submit(server, smaller(1), annotator="Bob", base_version=0)
    assert (bob.status, bob.json["version"]) == (200, 2)
    assert [(other["version"], other["annotator"]) for other in bob.json["conflict"]["versions"]] == [(1, "Ada")]
    assert "replaces version 1 by Ada, but was not made from it" in bob.json["conflict"]["message"]
    assert submit(server, smaller(2), annotator="Ada", base_version=2).json["conflict"] is None
    found = versions(server)
    assert found["current"] == 3
    assert [(v["version"], v["annotator"], v["base_version"]) for v in found["versions"]] == [
        (1, "Ada", None),
        (2, "Bob", 0),
        (3, "Ada", 2),
    ]
    assert found["versions"][0]["params"]["model_version"] == "0123456789ab"
    assert found["versions"][0]["params"]["box"] == [10, 30, 8, 28, 0, 5]
    assert found["versions"][0]["created"].endswith("Z")


def test_versions_are_downloaded_and_compared(server: LiveServer) -> None:
    reply = ask(server, "/version", version=1)
    assert reply.content == file_of(heart(), server)
    assert "filename*=utf-8''Herz%207%20%C3%BC_v1.nii.gz" in reply.headers["content-disposition"]
    found = ask(server, "/diff", **{"from": 1, "to": 3}).json()
    wall = int((heart()[:, :, :2] == STRUCTURES["myocardium"]).sum())
    assert found["structures"]["myocardium"]["changed_voxels"] == wall
    assert found["structures"]["myocardium"]["volume_change_ml"] == pytest.approx(-wall * 4 * 4 * 9 / 1000, abs=0.01)
    assert found["structures"]["myocardium"]["dice"] == pytest.approx(0.75)  # 3 slices of 5 left: 2 * 3 / (5 + 3)


def test_agreement(server: LiveServer) -> None:
    found = ask(server, "/agreement").json()
    assert found["annotators"] == {"Ada": 3, "Bob": 2}
    assert found["pairs"][0]["structures"]["LV cavity"]["dice"] == pytest.approx(6 / 7, abs=1e-4)
    assert found["pairs"][0]["structures"]["LV cavity"]["hd95"] == pytest.approx(9)  # a slice
    everywhere = requests.get(f"{server.url}/datastore/label/agreement", timeout=200).json()
    assert found in everywhere["images"]
    assert set(everywhere["structures"]) == set(STRUCTURES)


def test_restoring_makes_a_new_version(server: LiveServer) -> None:
    reply = ask(server, "/restore", "POST", {"params": '{"annotator": "Cy"}'}, version=1).json()
    assert (reply["version"], reply["voxels"]["LV cavity"]) == (4, int((heart() == STRUCTURES["LV cavity"]).sum()))
    assert reply["conflict"]["versions"][0]["version"] == 3
    last = versions(server)["versions"][-1]
    assert (last["origin"], last["restored_from"], last["annotator"]) == ("restored", 1, "Cy")
    stored = requests.get(f"{server.url}/datastore/label", params={"label": STUDY, "tag": "final"}, timeout=200)
    assert stored.content == file_of(heart(), server)


def test_everyone_submits_and_downloads_at_once(server: LiveServer) -> None:
    sent = {file_of(smaller(n), server) for n in range(5)}
    before, done, seen = len(versions(server)["versions"]), threading.Event(), []

    def watch() -> None:
        while not done.is_set():
            seen.append(requests.get(f"{server.url}/datastore/label", params={"label": STUDY, "tag": "final"}, timeout=200).content)

    with ThreadPoolExecutor(6) as pool:
        watching = [pool.submit(watch) for _ in range(2)]
        replies = list(pool.map(lambda n: submit(server, smaller(n % 5), annotator=str(n)), range(12)))
        done.set()
        [each.result() for each in watching]
    assert {reply.status for reply in replies} == {200}
    assert sorted(reply.json["version"] for reply in replies) == list(range(before + 1, before + 13))
    found = versions(server)["versions"]
    assert {found[reply.json["version"] - 1]["annotator"]: reply.json["sha256"] for reply in replies} == {
        str(n): replies[n].json["sha256"] for n in range(12)
    }
    assert seen
    assert set(seen) <= sent


REFUSED: list[tuple[str, str, int, dict[str, Any], str]] = [
    ("GET", "/versions", 404, {"image": "nobody"}, "no study called 'nobody'"),
    ("GET", "/versions", 404, {"image": "../studies"}, "no labels under the name '../studies'"),
    ("GET", "/versions", 404, {"image": ".."}, "no labels under the name '..'"),
    ("GET", "/versions", 400, {"tag": "../final"}, "tag may hold only letters"),
    ("GET", "/versions", 400, {"tag": "original"}, "have no versions"),
    ("GET", "/version", 404, {"version": 99}, "has no version 99"),
    ("GET", "/version", 404, {"version": -1}, "has no version -1"),
    ("GET", "/version", 400, {"version": "../1"}, "version: "),
    ("GET", "/version", 404, {"image": "/etc/passwd", "version": 1}, "no labels under the name"),
    ("GET", "/diff", 404, {"from": 1, "to": 99}, "has no version 99"),
    ("GET", "/diff", 400, {"from": 1}, "to: "),
    ("GET", "/agreement", 404, {"image": "x" * 400}, "no labels under the name"),
    ("POST", "/restore", 404, {"version": 99}, "has no version 99"),
    ("POST", "/restore", 400, {"version": 1, "params": "[1]"}, "must be a JSON object"),
    ("POST", "/restore", 400, {"version": 1, "params": '{"base_version": 99}'}, "base_version must be 0, for no label"),
    ("POST", "/restore", 400, {"version": 1, "params": '{"score": NaN}'}, "finite"),
]


@pytest.mark.parametrize(("method", "path", "status", "query", "words"), REFUSED)
def test_what_is_refused_changes_nothing(
    server: LiveServer, method: str, path: str, status: int, query: dict[str, Any], words: str
) -> None:
    before = server.tree()
    data = {"params": query["params"]} if "params" in query else None
    reply = ask(server, path, method, data, **{key: value for key, value in query.items() if key != "params"})
    assert reply.status_code == status, reply.text
    assert words in reply.json()["detail"]
    assert "Exception in ASGI application" not in server.log.read_text()
    assert server.tree() == before


def test_what_is_deleted_can_be_restored(server: LiveServer, tmp_path: Path) -> None:
    kept = len(versions(server)["versions"])
    query = {"id": STUDY, "tag": "final", "annotator": "Dr. Ärztin"}
    assert requests.delete(f"{server.url}/datastore/label", params=query, timeout=200).status_code == 200
    assert requests.delete(f"{server.url}/datastore/label", params=query, timeout=200).status_code == 404
    assert requests.get(f"{server.url}/datastore/label", params={"label": STUDY, "tag": "final"}, timeout=200).status_code == 404
    assert (versions(server)["current"], len(versions(server)["versions"])) == (None, kept)
    assert ask(server, "/restore", "POST", version=2).json()["version"] == kept + 1
    assert versions(server)["current"] == kept + 1
    assert requests.delete(f"{server.url}/datastore/image", params={"id": STUDY}, timeout=200).status_code == 200
    found = versions(server)["versions"]
    assert len(found) == kept + 1
    removals = [[removal["annotator"] for removal in version["removals"]] for version in found]
    assert removals == [[]] * (kept - 1) + [["Dr. Ärztin"], ["unknown"]]  # with the image, its label
    assert found[-2]["removals"][0]["removed"] < found[-1]["removals"][0]["removed"]
    assert ask(server, "/version", version=1).content == file_of(heart(), server)
    refused = ask(server, "/restore", "POST", version=1)
    assert (refused.status_code, "add it again" in refused.json()["detail"]) == (409, True)
    add_image(server, tmp_path)
    assert ask(server, "/restore", "POST", version=1).json()["version"] == kept + 2
    assert (server.studies / "labels" / "final" / f"{STUDY}.nii.gz").read_bytes() == file_of(heart(), server)
