"""Labels of a cine over HTTP: several people submit phases, and a second person approves them or sends them back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import requests

from prato.data.cine import read_cine, write_cine
from prato.data.nifti import gzip_bytes, read_image, volume_bytes
from prato.function.hearts import find_hearts
from tests.app.hearts import heart
from tests.app.live import LiveServer, Reply, oblique
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
STUDY, PHASES = "beat 1", 4


@pytest.fixture(scope="module")
def server(live_server: LiveServer) -> Iterator[LiveServer]:
    """The tests of this file label one cine of their own, one after the other."""
    path = live_server.studies / f"{STUDY}.nii.gz"
    write_cine(path, np.random.default_rng(1).integers(0, 99, (40, 36, 5, PHASES)).astype(np.int16), oblique((4.0, 4.0, 9.0)), 200)
    wait_until(lambda: requests.get(f"{live_server.url}/datastore/?output=all", timeout=200).json()["objects"].get(STUDY))
    yield live_server
    requests.delete(f"{live_server.url}/datastore/image", params={"id": STUDY}, timeout=200)


def drawing(size: int) -> np.ndarray:
    """A heart in one phase: every size is another one."""
    mask = heart()
    mask[:, :, : 4 - size] = 0
    return mask


def whole(**phases: int) -> np.ndarray:
    mask = np.zeros((40, 36, 5, PHASES), np.uint8)
    for name, size in phases.items():
        mask[..., int(name[1:])] = drawing(size)
    return mask


def submit(server: LiveServer, mask: np.ndarray, image: str = STUDY, **params: Any) -> Reply:
    grid = read_cine(server.studies / f"{image}.nii.gz").grid()
    volume = grid.with_array(mask) if mask.shape == grid.array.shape else read_cine(server.studies / f"{STUDY}.nii.gz").phase(0)
    volume = volume if volume.array.shape == mask.shape else read_cine(server.studies / "cine.nii.gz").grid()
    files = {"label": ("label.nii.gz", gzip_bytes(volume_bytes(volume.with_array(mask))))}
    query, data = {"image": image, "tag": "final"}, {"params": json.dumps(params)}
    return server.read(requests.put(f"{server.url}/datastore/label", params=query, data=data, files=files, timeout=200))


def ask(server: LiveServer, path: str, method: str = "GET", params: Any = None, **query: Any) -> requests.Response:
    data = None if params is None else {"params": json.dumps(params)}
    return requests.request(method, f"{server.url}/datastore/label{path}", params={"image": STUDY, **query}, data=data, timeout=200)


def stored(server: LiveServer) -> np.ndarray:
    return np.asanyarray(read_image(server.studies / "labels" / "final" / f"{STUDY}.nii.gz").dataobj)


def next_study(server: LiveServer, strategy: str) -> dict[str, Any]:
    reply = server.post(f"/activelearning/{strategy}", {"seed": 1})
    assert reply.status == 200, reply.json
    return reply.json


def test_the_next_study_comes_with_its_phase(server: LiveServer) -> None:
    def mark(ed: int | None, es: int | None) -> None:
        data = {"params": json.dumps({"ed": ed, "es": es, "annotator": "Ada"})}
        assert requests.put(f"{server.url}/datastore/image/phases", params={"image": "beat 0"}, data=data, timeout=200).ok

    (server.studies / "beat 0.nii.gz").write_bytes((server.studies / f"{STUDY}.nii.gz").read_bytes())
    wait_until(lambda: next_study(server, "first")["id"] == "beat 0")
    assert next_study(server, "first")["phase"] == 0
    mark(2, 1)
    assert next_study(server, "first")["phase"] == 2
    submit(server, drawing(1), "beat 0", annotator="Ada", phases=2)
    assert next_study(server, "first")["phase"] == 1
    submit(server, drawing(1), "beat 0", annotator="Ada", phases=1)
    assert next_study(server, "first")["id"] != "beat 0"
    for strategy in ("jitter", "phases", "entropy"):
        found = next_study(server, strategy)
        assert found["scored"] >= 1
        assert ("phase" in found) == (found.get("phases", 1) > 1)
    requests.delete(f"{server.url}/datastore/image", params={"id": "beat 0"}, timeout=200)


def test_two_people_submit_phases_at_once_and_all_are_kept(server: LiveServer) -> None:
    # Ada sends the whole cine and names two phases, Ben and Cy one volume each
    sent = [(whole(p0=1, p2=2), "Ada", [0, 2]), (drawing(3), "Ben", {"3": "corrected"}), (drawing(4), "Cy", 1)]
    with ThreadPoolExecutor(3) as pool:
        replies = list(pool.map(lambda s: submit(server, s[0], annotator=s[1], phases=s[2], base_version=0), sent))
    assert [(reply.status, reply.json["conflict"], reply.json["replaced"]) for reply in replies] == [
        (200, None, [0, 2]),
        (200, None, [3]),
        (200, None, [1]),
    ]
    assert np.array_equal(stored(server), whole(p0=1, p1=4, p2=2, p3=3))
    found = requests.get(f"{server.url}/datastore/label/info", params={"label": STUDY, "tag": "final"}, timeout=200).json()["phases"]
    assert {n: (phase["state"], phase["editor"]) for n, phase in found.items()} == {
        "0": ("corrected", "Ada"),
        "1": ("corrected", "Cy"),
        "2": ("corrected", "Ada"),
        "3": ("corrected", "Ben"),
    }


def test_the_second_of_two_in_one_phase_is_told_which(server: LiveServer) -> None:
    reply = submit(server, drawing(2), annotator="Ben", phases=[1], base_version=0).json
    assert [(other["annotator"], other["phases"]) for other in reply["conflict"]["versions"]] == [("Cy", [1])]
    found = ask(server, "/diff", **{"from": reply["version"] - 1, "to": reply["version"]}).json()
    assert list(found["phases"]) == ["1"]
    agreement = ask(server, "/agreement").json()
    assert [(pair["annotators"], pair["phase"]) for pair in agreement["pairs"]] == [(["Ben", "Cy"], 1)]
    back = ask(server, "/restore", "POST", {"annotator": "Cy", "phases": [1]}, version=reply["version"] - 1).json()
    assert back["replaced"] == [1]


def test_proposals_leave_what_labellers_drew(server: LiveServer) -> None:
    before = ask(server, "/versions").json()["current"]
    reply = submit(server, whole(p0=4, p1=1, p2=1, p3=1), phases=dict.fromkeys("0123", "proposed"), model_version="0123456789ab").json
    assert (reply["kept"], reply["replaced"], reply["version"]) == ([0, 1, 2, 3], [], before)


def test_somebody_else_approves_or_sends_back(server: LiveServer) -> None:
    assert ask(server, "/approve", "POST", {"annotator": "Ben", "phases": [0, 2]}).json()["phases"]["2"]["state"] == "final"
    reply = ask(server, "/send_back", "POST", {"annotator": "Ada", "phases": [3], "reason": "the apex is missing"}).json()
    assert reply["phases"]["3"] == {"state": "proposed", "editor": "Ben", "version": 2, "reason": "the apex is missing"} | {
        "version": reply["phases"]["3"]["version"]
    }
    listed = requests.get(f"{server.url}/datastore/label/info", params={"label": STUDY, "tag": "final"}, timeout=200).json()
    assert listed["phases"] == reply["phases"]
    reviews = ask(server, "/versions").json()["versions"][-1]["reviews"]
    assert [(review["reviewer"], review["decision"], review["phases"]) for review in reviews] == [
        ("Ben", "approved", [0, 2]),
        ("Ada", "sent back", [3]),
    ]
    # a volume has one phase
    assert submit(server, heart(), "heart_b", annotator="Ada").json["phases"]["0"]["state"] == "corrected"
    assert ask(server, "/approve", "POST", {"annotator": "Ben"}, image="heart_b").json()["phases"]["0"]["approved_by"] == "Ben"
    requests.delete(f"{server.url}/datastore/label", params={"id": "heart_b", "tag": "final"}, timeout=200)


@pytest.mark.parametrize(
    ("path", "params", "status", "words"),
    [
        ("/approve", {}, 400, "A review needs the reviewer's name"),
        ("/approve", {"annotator": "Ada", "phases": [0]}, 400, "Phase 0 was drawn by Ada: somebody else has to approve it"),
        ("/approve", {"annotator": "Dee", "phases": [9]}, 400, "Phase 9 has no label"),
        ("/approve", {"annotator": "Dee", "phases": ["x"]}, 400, "A phase is a number, counted from 0"),
        ("/approve", {"annotator": "Dee", "phases": [1], "base_version": 1}, 409, "look at that before you decide"),
        ("/approve", {"annotator": "Dee", "base_version": "1"}, 400, "base_version must be the number"),
        ("/send_back", {"annotator": "Ada", "phases": [0]}, 400, "Phases can be sent back only with a reason"),
        ("/send_back", {"annotator": "Ada", "phases": [3], "reason": "again"}, 400, "Phase 3 is only proposed"),
        ("/send_back", {"annotator": "Ada", "phases": [9], "reason": "again"}, 400, "Phase 9 has no label"),
    ],
)
def test_reviews_that_are_refused_change_nothing(server: LiveServer, path: str, params: Any, status: int, words: str) -> None:
    before = server.tree()
    reply = ask(server, path, "POST", params)
    assert (reply.status_code, words in reply.json()["detail"]) == (status, True), reply.text
    assert server.tree() == before


@pytest.mark.parametrize(
    ("mask", "params", "words"),
    [
        (heart(), {}, "has one phase and its image 4 phases: send one mask of all phases, or a volume for one phase"),
        (heart(), {"phases": 4}, "The image has phases 0 to 3: there is no phase 4."),
        (heart(), {"phases": [0, 1]}, "has one phase and its image 4 phases"),
        (np.repeat(heart()[..., None], 3, axis=3), {}, "has 3 phases and its image 4 phases"),
        (whole(p0=1), {"phases": {"0": "final"}}, "to make it final, approve it"),
        (whole(p0=1), {"phases": [0, 1]}, "Phase 1 of the label for beat 1 is empty"),
        (whole(p0=1), {"phases": []}, "phases names no phase"),
    ],
)
def test_labels_that_are_refused_change_nothing(server: LiveServer, mask: np.ndarray, params: Any, words: str) -> None:
    before = server.tree()
    reply = submit(server, mask, **params)
    assert (reply.status, words in reply.json["detail"]) == (400, True), reply.json
    assert server.tree() == before


def test_whoever_approves_is_told_what_the_labeller_was_told(server: LiveServer) -> None:
    mask = whole(p0=4, p2=2)
    mask[..., 2] = np.array([0, 3, 2, 1], np.uint8)[mask[..., 2]]
    [told] = submit(server, mask, annotator="Ada", phases=[0, 2]).json["warnings"]
    assert told.startswith("Phase 2: RV and LV cavity seem to be swapped") and "training leaves the phase out" in told
    for phases, warnings in (([0], []), ([2], [told]), ([0, 2], [told])):
        reply = ask(server, "/approve", "POST", {"annotator": "Bob", "phases": phases})
        assert reply.status_code == 200 and reply.json()["warnings"] == warnings
    page = requests.get(f"{server.url}/prato/study/state", params={"image": STUDY}, timeout=200).json()
    assert told in page["function"]["warnings"] and told in page["label"]["warnings"]
    [measured] = [one for one in find_hearts(server.studies).hearts if one.name == STUDY]
    assert told in measured.function.warnings
