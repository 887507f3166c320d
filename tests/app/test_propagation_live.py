"""Corrections of some phases, carried to the others by the real server: what is answered, and that nothing is stored."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests

from prato.data.cine import read_cine, write_cine
from prato.data.nifti import gzip_bytes, volume_bytes
from tests.app.hearts import heart
from tests.app.live import LiveServer, Reply, oblique
from tests.app.test_bad_input_live import refused
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
MODEL, STUDY, PHASES = "prato_overview_unet", "beat to follow", 4


@pytest.fixture(scope="module")
def server(live_server: LiveServer) -> Iterator[LiveServer]:
    path = live_server.studies / f"{STUDY}.nii.gz"
    grey = np.array([40, 200, 90, 220], np.float32)[heart()][..., None] + np.random.default_rng(1).normal(0, 5, (40, 36, 5, PHASES))
    write_cine(path, grey.astype(np.int16), oblique((4.0, 4.0, 9.0)), 200)
    index = live_server.studies / "datastore_v2.json"
    # written a moment after it is known; a test that compares what lies in the folder must not begin before
    wait_until(lambda: STUDY in (known := objects(live_server)) and json.loads(index.read_text(encoding="utf-8"))["objects"] == known)
    yield live_server
    requests.delete(f"{live_server.url}/datastore/image", params={"id": STUDY}, timeout=200)


def objects(server: LiveServer) -> dict[str, Any]:
    """All studies, as the server knows them at the moment."""
    found: dict[str, Any] = requests.get(f"{server.url}/datastore/?output=all", timeout=200).json()["objects"]
    return found


def label_file(server: LiveServer, mask: np.ndarray) -> dict[str, Any]:
    cine = read_cine(server.studies / f"{STUDY}.nii.gz")
    volume = (cine.grid() if mask.ndim == 4 else cine.phase(0)).with_array(mask)
    return {"label": ("label.nii.gz", gzip_bytes(volume_bytes(volume)))}


def infer(server: LiveServer, params: Any, mask: np.ndarray | None = None, image: str = STUDY, **headers: str) -> Reply:
    files = None if mask is None else label_file(server, mask)
    url, data = f"{server.url}/infer/{MODEL}", {"params": json.dumps(params)}
    return server.read(requests.post(url, params={"image": image}, data=data, files=files, headers=headers, timeout=200))


def put(server: LiveServer, mask: np.ndarray, **params: Any) -> None:
    query, data = {"image": STUDY, "tag": "final"}, {"params": json.dumps(params)}
    done = requests.put(f"{server.url}/datastore/label", params=query, data=data, files=label_file(server, mask), timeout=200)
    assert done.status_code == 200, done.text


def voxels(reply: Reply) -> np.ndarray:
    assert reply.status == 200 and reply.file is not None, reply.json
    return np.asanyarray(nib.Nifti1Image.from_bytes(gzip.decompress(reply.file)).dataobj)


def drawing(size: int) -> np.ndarray:
    mask = heart()
    mask[:, :, : 4 - size] = 0
    return mask


def test_requests_that_cannot_be_answered_are_refused_and_nothing_is_stored(server: LiveServer) -> None:
    before, whole = server.tree(), np.zeros((40, 36, 5, PHASES), np.uint8)
    whole[..., 0] = heart()
    cases: list[tuple[str, Any, np.ndarray | None, str]] = [
        ("No phase of beat to follow is corrected or final", {"propagate": True}, None, STUDY),
        ("heart_a has only one phase", {"propagate": True}, None, "heart_a"),
        ("propagate lists phases, but no label was sent", {"propagate": [0]}, None, STUDY),
        ("propagate is true, but a label was sent", {"propagate": True}, whole, STUDY),
        ("has the phases 0 to 3: propagate cannot name 4", {"propagate": [0, 4]}, whole, STUDY),
        ("Phase 2 of the label for beat to follow is empty", {"propagate": [0, 2]}, whole, STUDY),
        ("propagate fills every phase of a cine", {"propagate": [0], "phases": [1]}, whole, STUDY),
        ("propagate must be true, or a list of phases", {"propagate": "ED"}, None, STUDY),
        ("has one phase and its image 4 phases", {"propagate": [0, 1]}, heart(), STUDY),
    ]
    with server.leaves_no_file():
        for words, params, mask, image in cases:
            refused(infer(server, params, mask, image), 400, words)
    after = server.tree()
    assert [name for name in {**before, **after} if before.get(name) != after.get(name)] == []


def test_a_key_whose_cavities_are_swapped_is_warned_of(server: LiveServer) -> None:
    whole = np.stack([np.zeros_like(heart()), np.array([0, 3, 2, 1], np.uint8)[heart()], heart(), np.zeros_like(heart())], -1)
    said = infer(server, {"propagate": [1, 2]}, whole).json
    told = [warning for warning in said["warnings"] if "RV and LV cavity seem to be swapped" in warning]
    assert len(told) == 1 and told[0].startswith("Phase 1: ") and said["warned_phases"][told[0]] == [1]


def test_stored_phases_are_followed_and_stay_as_they_are(server: LiveServer) -> None:
    put(server, drawing(4), annotator="Ada", phases=1)
    put(server, drawing(3), annotator="Ada", phases=2)
    back = {"image": STUDY}
    data = {"params": json.dumps({"annotator": "Bob", "phases": 2, "reason": "the apex"})}
    assert requests.post(f"{server.url}/datastore/label/send_back", params=back, data=data, timeout=200).ok
    before = server.tree()
    reply = infer(server, {"propagate": True})
    mask, said = voxels(reply), reply.json
    assert mask.shape == (40, 36, 5, PHASES) and said["mask_phase"] is None
    assert (said["keys"], said["filled"], said["kept"], said["label_version"]) == ([1], [0, 3], [2], 2)
    np.testing.assert_array_equal(mask[..., 1], drawing(4))
    np.testing.assert_array_equal(mask[..., 2], drawing(3))
    assert said["phases"] == [0, 1, 2, 3] and said["latency_ms"]["propagate"] > 0
    ml = 4 * 4 * 9 / 1000
    for name, value in said["label_names"].items():
        np.testing.assert_allclose(said["volumes_ml"][name], [(mask[..., t] == value).sum() * ml for t in range(PHASES)], atol=0.01)
    assert server.tree() == before


def test_a_mask_that_is_sent_is_followed_with_what_is_stored(server: LiveServer) -> None:
    before, sent = server.tree(), drawing(2)
    reply = infer(server, {"propagate": [3], "phases": "all"}, sent)
    mask = voxels(reply)
    assert (reply.json["keys"], reply.json["filled"], reply.json["kept"]) == ([1, 3], [0], [2])
    np.testing.assert_array_equal(mask[..., 3], sent)
    np.testing.assert_array_equal(mask[..., 1], drawing(4))
    assert server.tree() == before
