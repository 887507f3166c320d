"""Whole heartbeats through the real server: studies with phases, masks of one and of all, and how far a long request is."""

from __future__ import annotations

import gzip
import io
import json
import threading
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests

from prato.data.cine import write_cine
from prato.data.studies.folder import Manifest, Study, save_manifest
from tests.app.live import LiveServer, Reply, write_study
from tests.app.test_bad_input_live import refused
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
MODEL = "prato_overview_unet"
BOX = [8, 32, 6, 30, 1, 4]


def read_mask(reply: Reply) -> nib.Nifti1Image:
    assert reply.status == 200 and reply.file is not None, reply.json
    return nib.Nifti1Image.from_bytes(gzip.decompress(reply.file))


def infer_file(server: LiveServer, path: Path, params: Any, **headers: str) -> Reply:
    """POST /infer with the image in the request."""
    with path.open("rb") as file:
        url, data = f"{server.url}/infer/{MODEL}", {"params": json.dumps(params)}
        return server.read(requests.post(url, data=data, files={"file": file}, headers=headers, timeout=200))


def test_an_upload_is_answered_though_a_study_is_named_and_a_mask_needs_propagate(live_server: LiveServer, tmp_path: Path) -> None:
    small = save(tmp_path / "small.nii.gz", (24, 20, 3))
    for params in ({"roi": [2, 20, 2, 18, 0, 3], "image": "cine"}, {"roi": [2, 20, 2, 18, 0, 3]}):
        with small.open("rb") as file:
            url, data = f"{live_server.url}/infer/{MODEL}", {"params": json.dumps(params)}
            sent = requests.post(url, params={"image": "heart_a"}, data=data, files={"file": file}, timeout=200)
        assert read_mask(live_server.read(sent)).shape == (24, 20, 3)
    with small.open("rb") as mask:
        sent = requests.post(url, params={"image": "cine"}, data={"params": "{}"}, files={"label": mask}, timeout=200)
    refused(live_server.read(sent), 400, "which only propagate uses")


def test_a_cine_is_a_study_with_its_phases(live_server: LiveServer) -> None:
    listed = requests.get(f"{live_server.url}/datastore/?output=all", timeout=200).json()["objects"]
    assert listed["cine"]["image"]["info"]["phases"] == 3 and listed["cine"]["image"]["info"]["times_ms"] is None
    assert "phases" not in listed["heart_a"]["image"]["info"]
    page = requests.get(f"{live_server.url}/prato/state", timeout=200).json()["studies"]["listed"]
    phases = {study["id"]: study["phases"] for study in page}
    assert (phases["cine"], phases["heart_a"]) == (3, 1)
    file = requests.get(f"{live_server.url}/datastore/image?image=cine", timeout=200).content
    assert file == (live_server.studies / "cine.nii.gz").read_bytes()


@pytest.mark.parametrize("model", [MODEL, "prato_unetr"])
def test_all_phases_are_one_mask(live_server: LiveServer, model: str) -> None:
    reply = live_server.infer(model, "cine", {"phases": "all", "roi": BOX})
    mask, image = read_mask(reply), nib.load(live_server.studies / "cine.nii.gz")
    assert mask.shape == image.shape
    for field in ("pixdim", "srow_x", "srow_y", "srow_z", "sform_code", "qform_code", "xyzt_units"):
        np.testing.assert_array_equal(mask.header[field], image.header[field])
    said, voxels = reply.json, np.asanyarray(mask.dataobj)
    assert said["phases"] == [0, 1, 2] and said["mask_phase"] is None and said["box"] == BOX and said["box_source"] == "roi"
    ml = abs(np.linalg.det(mask.affine[:3, :3])) / 1000
    for name, value in said["label_names"].items():
        np.testing.assert_allclose(said["volumes_ml"][name], [(voxels[..., t] == value).sum() * ml for t in range(3)], atol=0.01)
    assert "phase_times_unknown" in said["warnings"]


def test_phases_that_are_not_asked_for_are_empty(live_server: LiveServer) -> None:
    every = np.asanyarray(read_mask(live_server.infer(MODEL, "cine", {"phases": "all"})).dataobj)
    some = np.asanyarray(read_mask(live_server.infer(MODEL, "cine", {"phases": [2, 0, 2]})).dataobj)
    assert not some[..., 1].any() and every[..., 1].any()
    assert (some[..., [0, 2]] != every[..., [0, 2]]).mean() < 1e-3  # but for rounding, which the size of a batch changes


def test_a_client_that_names_no_phase_gets_end_diastole(live_server: LiveServer) -> None:
    found = live_server.infer(MODEL, "cine", {})
    assert read_mask(found).shape == (40, 36, 5)
    assert found.json["mask_phase"] == (found.json["ed"] or 0)
    wanted = {"image": "cine"}
    marked = requests.put(f"{live_server.url}/datastore/image/phases", params=wanted, data={"params": '{"ed": 2, "es": 1}'}, timeout=200)
    assert marked.status_code == 200, marked.text
    again = live_server.infer(MODEL, "cine", {})
    assert read_mask(again).shape == (40, 36, 5)
    assert (again.json["mask_phase"], again.json["ed"], again.json["es"], again.json["phases"]) == (2, 2, 1, [2])
    assert again.json["ed_es_source"] == "marked"
    reply = live_server.infer(MODEL, "cine", {"return_tokens": True}).json
    ignored = "parameter_ignored: return_tokens"
    assert reply["warnings"].count(ignored) == 1 and {*reply["warnings"]} - {*reply["warned_phases"]} == {ignored}
    assert live_server.infer(MODEL, "cine", {"phases": "all"}).json["function"]["ed"] == 2
    refusal = requests.put(f"{live_server.url}/datastore/image/phases", params=wanted, data={"params": '{"ed": 3, "es": 1}'}, timeout=200)
    refused(live_server.read(refusal), 400, "two different phases from 0 to 2 of cine")
    volume = requests.put(f"{live_server.url}/datastore/image/phases?image=heart_a", data={"params": '{"ed": 0, "es": 1}'}, timeout=200)
    refused(live_server.read(volume), 400, "heart_a has only one phase")
    for misspelt in ('{"ED": 0, "ES": 1, "annotator": "Bob"}', '{"annotator": "Bob"}', '{"ed": 0}', "{}"):
        refusal = requests.put(f"{live_server.url}/datastore/image/phases", params=wanted, data={"params": misspelt}, timeout=200)
        refused(live_server.read(refusal), 400, "must name both phases")
    assert live_server.infer(MODEL, "cine", {"phases": 0}).json["ed_es_source"] == "marked"
    requests.put(f"{live_server.url}/datastore/image/phases", params=wanted, data={"params": '{"ed": null, "es": null}'}, timeout=200)
    assert live_server.infer(MODEL, "cine", {"phases": "all"}).json["ed_es_source"] != "marked"


def test_a_cine_without_a_beat_is_looked_at_as_a_whole_once(live_server: LiveServer, tmp_path: Path) -> None:
    path = save(tmp_path / "still.nii.gz", (40, 36, 5, 3))
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.repeat(np.asanyarray(image.dataobj)[..., :1], 3, axis=3), image.affine, image.header), path)
    wanted = {"image": "still"}
    with path.open("rb") as file:
        assert requests.put(f"{live_server.url}/datastore/", params=wanted, files={"file": file}, timeout=200).status_code == 200
    try:
        first, again = (live_server.infer(MODEL, "still", {}) for _ in range(2))
        assert [(each.json["phases"], each.json["mask_phase"], each.json["ed"]) for each in (first, again)] == [
            ([0, 1, 2], 0, None),
            ([0], 0, None),
        ]
        assert np.array_equal(read_mask(first).dataobj, read_mask(again).dataobj)
    finally:
        requests.delete(f"{live_server.url}/datastore/", params={"id": "still"}, timeout=200)


def test_function_is_by_body_surface_where_the_manifest_has_height_and_weight(live_server: LiveServer) -> None:
    def mark(ed: int | None, es: int | None) -> None:
        params = {"params": json.dumps({"ed": ed, "es": es})}
        assert requests.put(f"{live_server.url}/datastore/image/phases?image=cine", data=params, timeout=200).ok

    mark(0, 2)
    try:
        save_manifest(live_server.studies, Manifest(source="test", studies={"cine": Study(patient="p", height_cm=180, weight_kg=80)}))
        reply = live_server.infer(MODEL, "cine", {"phases": "all"}).json
        page = requests.get(f"{live_server.url}/prato/study/state?image=cine", timeout=200).json()
        (live_server.studies / "manifest.json").unlink()
        without = live_server.infer(MODEL, "cine", {"phases": "all"}).json["function"]
    finally:
        (live_server.studies / "manifest.json").unlink(missing_ok=True)
        mark(None, None)
    assert (reply["ed"], reply["es"], page["ed"], page["es"], page["ed_es_source"]) == (0, 2, 0, 2, "marked")
    function = reply["function"]
    assert function["bsa_m2"] == 2.0
    assert function["indexed"]["lv_edv_ml_per_m2"] == pytest.approx(function["lv"]["edv_ml"] / 2, abs=0.01)
    assert without["bsa_m2"] is None and without["indexed"] == {}


def test_phases_that_the_manifest_names_are_nobodys_mark_wherever_it_is_said(live_server: LiveServer) -> None:
    write_cine(live_server.studies / "named.nii.gz", np.random.default_rng(1).integers(0, 99, (40, 36, 5, 3)).astype(np.int16), np.eye(4))
    wait_until(lambda: "named" in requests.get(f"{live_server.url}/datastore/?output=all", timeout=200).json()["objects"])
    save_manifest(live_server.studies, Manifest(source="DICOM", studies={"named": Study(patient="p", ed=0, es=2)}))
    try:
        reply = live_server.infer(MODEL, "named", {"phases": "all"}).json
        page = requests.get(f"{live_server.url}/prato/study/state?image=named", timeout=200).json()
    finally:
        (live_server.studies / "manifest.json").unlink()
        requests.delete(f"{live_server.url}/datastore/image", params={"id": "named"}, timeout=200)
    for said in (reply, page):
        assert (said["ed"], said["es"], said["ed_es_source"]) == (0, 2, "manifest")


def test_one_phase_is_a_volume_and_boxes_move_from_phase_to_phase(live_server: LiveServer) -> None:
    one = live_server.infer(MODEL, "cine", {"phases": 1, "roi": {"0": BOX, "2": [10, 34, 8, 32, 1, 4]}})
    assert read_mask(one).shape == (40, 36, 5)
    assert one.json["phases"] == [1] and one.json["mask_phase"] == 1
    assert one.json["box"] == [9, 33, 7, 31, 1, 4]


def test_phases_of_a_volume_are_one(live_server: LiveServer) -> None:
    reply = live_server.infer(MODEL, "heart_a", {"phases": "all", "roi": BOX})
    assert read_mask(reply).shape == (40, 36, 5) and reply.json["phases"] == [0] and "one_phase" in reply.json["warnings"]


def save(path: Path, shape: tuple[int, ...], step: float = 0.05) -> Path:
    write_study(path, shape=shape)
    image = nib.load(path)
    array = np.asanyarray(image.dataobj)
    image.header["pixdim"][4] = step
    nib.save(nib.Nifti1Image(array, image.affine, image.header), path)
    return path


def cut_short(path: Path) -> Path:
    raw = gzip.decompress(save(path, (40, 36, 5, 4)).read_bytes())
    path.write_bytes(gzip.compress(raw[: -40 * 36 * 5]))
    return path


def with_time_for_slices(path: Path) -> Path:
    """Neighbouring "slices" are phases of one slice, which differ by noise, and "phases" are slices, on which the heart lies elsewhere."""
    image = nib.load(write_study(path, shape=(40, 36, 4, 5)))
    array = np.asanyarray(image.dataobj)
    moved = np.stack([np.roll(array[..., t], (8 * t, 5 * t), (0, 1)) for t in range(5)], -1)
    nib.save(nib.Nifti1Image(moved, image.affine), path)
    return path


BAD = {
    "a phase cut short": (cut_short, {}, "is cut short"),
    "five axes": (lambda p: save(p, (40, 36, 5, 3, 2)), {}, "is 5D (40x36x5x3x2), and only one grey value per voxel can be read"),
    "time on the fifth axis": (lambda p: save(p, (40, 36, 5, 1, 3)), {}, "its time axis is the fifth"),
    "time on the third axis": (with_time_for_slices, {}, "has slices, not phases, on its fourth axis"),
    "too many phases": (lambda p: save(p, (4, 4, 2, 257)), {}, "more phases (4x4x2x257) than the 256 accepted here"),
    "a phase beyond the last": (lambda p: save(p, (40, 36, 5, 3)), {"phases": 3}, "has the phases 0 to 2: phases cannot name 3"),
    "a box for such a phase": (
        lambda p: save(p, (40, 36, 5, 3)),
        {"phases": "all", "roi": {"0": BOX, "3": BOX}},
        "roi has a box for phase 3, but the image has phases 0 to 2",
    ),
    "two boxes and one": (
        lambda p: save(p, (40, 36, 5, 3)),
        {"roi": {"0": BOX, "2": [BOX, BOX]}},
        "the same number of boxes for each phase",
    ),
    "half a box": (lambda p: save(p, (40, 36, 5, 3)), {"roi": {"0": [1, 2]}}, "roi must be 6 voxel bounds"),
}


@pytest.mark.parametrize("fault", BAD)
def test_cines_and_requests_that_cannot_be_used(live_server: LiveServer, tmp_path: Path, fault: str) -> None:
    make, params, words = BAD[fault]
    before = live_server.tree()
    with live_server.leaves_no_file():
        reply = infer_file(live_server, make(tmp_path / "cine.nii.gz"), params)
    refused(reply, 413 if fault == "too many phases" else 400, words)
    assert live_server.tree() == before


def test_odd_cines_are_segmented_and_warned_of(live_server: LiveServer, tmp_path: Path) -> None:
    slow = infer_file(live_server, save(tmp_path / "slow.nii.gz", (40, 36, 5, 3), step=5.0), {"phases": "all"})
    assert "phase_times_unknown" in slow.json["warnings"]
    thin = infer_file(live_server, save(tmp_path / "thin.nii.gz", (40, 36, 1, 3)), {"phases": "all"})
    assert read_mask(thin).shape == (40, 36, 1, 3)


def test_how_far_a_request_is_can_be_followed_and_it_can_be_cancelled(live_server: LiveServer, tmp_path: Path) -> None:
    long, replies = save(tmp_path / "long.nii.gz", (40, 36, 5, 200)), []
    name = {"X-Request-ID": "a-long-cine-1"}
    thread = threading.Thread(target=lambda: replies.append(infer_file(live_server, long, {"phases": "all"}, **name)))
    thread.start()
    url = f"{live_server.url}/infer/a-long-cine-1"
    wait_until(lambda: requests.get(url, timeout=200).json().get("done", 0) > 0)
    with requests.get(f"{url}?follow=true", stream=True, timeout=200) as events:
        assert events.headers["X-Accel-Buffering"] == "no"  # or nginx would gather them
        lines = (json.loads(line.removeprefix("data: ")) for line in io.TextIOWrapper(events.raw, "utf-8") if line.startswith("data: "))
        first = next(lines)
        assert first["state"] == "computing" and first["phases"] == 200
        assert next(lines)["done"] > first["done"]
        assert requests.delete(url, timeout=200).status_code == 200
        assert list(lines) is not None  # the events end with the request
    thread.join(200)
    assert replies[0].status == 499
    refused(live_server.read(requests.get(url, timeout=200)), 404, "is waiting or running")
