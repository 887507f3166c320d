"""The real server answers: masks on the image's own grid, the reply's parts, sessions, models replaced while it runs."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests

from prato.data.nifti import read_volume
from prato.data.structures import STRUCTURES
from tests.app.live import LiveServer, Reply, tiny_model
from tests.waiting import wait_until

ROI = [8, 32, 6, 30, 1, 4]
WINDOWED = ("prato_unetr", "prato_swin_unetr")
DEFAULT = "prato_overview_unet"
MODELS = (*WINDOWED, DEFAULT, "prato_auto")


def mask_of(reply: Reply, tmp_path: Path) -> Any:
    assert reply.status == 200, reply.json
    assert reply.file is not None
    path = tmp_path / reply.name
    path.write_bytes(reply.file)
    return nib.load(path)


def test_info_offers_the_models_as_stock_clients_expect_them(live_server: LiveServer) -> None:
    info = requests.get(f"{live_server.url}/info/", timeout=200).json()
    assert {name: model["type"] for name, model in info["models"].items()} == {
        "prato_overview_unet": "deepedit",
        "prato_swin_unetr": "deepedit",
        "prato_unetr": "deepedit",
        "prato_auto": "segmentation",
    }
    for model in info["models"].values():
        assert model["labels"] == dict(STRUCTURES)
        assert model["dimension"] == 3
        assert model["config"]["prune"] == ["default", "off", "25", "50", "75"]
        assert model["config"]["return_tokens"] is False
        assert "cpu" in model["config"]["device"]
    assert info["labels"] == list(STRUCTURES)


def costs(server: LiveServer, differ_from: dict[str, Any] | None = None) -> dict[str, Any]:
    """``cost_per_slice`` by model, once every model has one, and the Swin's differs from its own in ``differ_from``."""

    def found() -> dict[str, Any] | None:
        models = requests.get(f"{server.url}/info/", timeout=200).json()["models"]
        costs = {name: models[name]["cost_per_slice"] for name in MODELS}
        return costs if all(costs.values()) and costs["prato_swin_unetr"] != (differ_from or {}).get("prato_swin_unetr") else None

    return wait_until(found, every=0.2)


def test_info_says_what_a_slice_costs(live_server: LiveServer) -> None:
    measured = costs(live_server)
    for model in WINDOWED:
        assert list(measured[model]) == ["off", "25", "50", "75", "default"]
        assert all(cost["gflops"] > 0 and cost["ms"] > 0 for cost in measured[model].values())
        gflops = [measured[model][prune]["gflops"] for prune in ("75", "50", "25", "off")]
        assert gflops == sorted(gflops)
        assert gflops[0] < gflops[-1]
        dense = live_server.infer(model, "heart_a", {"roi": ROI, "prune": "off"}, output="json").json["gflops"]
        assert measured[model]["off"]["gflops"] == pytest.approx(dense / 3, abs=1e-3)
    assert measured["prato_auto"] == measured[DEFAULT]


def test_costs_stay_with_new_weights_and_are_measured_anew_for_another_network(live_server: LiveServer, tmp_path: Path) -> None:
    before, path = costs(live_server), live_server.app / "model" / "prato_swin_unetr.safetensors"
    old = path.read_bytes()
    try:
        tiny_model(path, "swin_unetr", seed=2)
        assert live_server.infer("prato_swin_unetr", "heart_a", {"roi": ROI}).status == 200
        assert costs(live_server) == before
        tiny_model(tmp_path / "other.safetensors", "unetr")
        other = (tmp_path / "other.safetensors").read_bytes()
        assert requests.put(f"{live_server.url}/model/prato_swin_unetr", files={"file": ("m.safetensors", other)}, timeout=200).ok
        after = costs(live_server, differ_from=before)
        for prune, cost in after["prato_swin_unetr"].items():
            assert cost["gflops"] == before["prato_unetr"][prune]["gflops"]
    finally:
        assert requests.put(f"{live_server.url}/model/prato_swin_unetr", files={"file": ("m.safetensors", old)}, timeout=200).ok
    assert costs(live_server, differ_from=after)["prato_swin_unetr"]["off"]["gflops"] == before["prato_swin_unetr"]["off"]["gflops"]


@pytest.mark.parametrize("model", MODELS)
def test_mask_lies_on_the_images_grid(live_server: LiveServer, model: str, tmp_path: Path) -> None:
    image: Any = nib.load(live_server.studies / "heart_a.nii.gz")
    reply = live_server.infer(model, "heart_a", {"roi": ROI})
    mask = mask_of(reply, tmp_path)
    assert reply.name.endswith(".nii.gz")
    assert mask.get_data_dtype() == np.uint8
    assert mask.shape == image.shape
    np.testing.assert_array_equal(mask.affine, image.affine)
    values = np.asarray(mask.dataobj)
    assert set(np.unique(values)) <= {0, *STRUCTURES.values()}
    assert values.any()  # a random network says something
    assert not values[:, :, [0, 4]].any()  # slices outside the box are background
    assert reply.json["box"] == ROI
    assert reply.json["box_source"] == "roi"
    assert reply.json["device"] in ("cpu", "cuda:0")


@pytest.mark.parametrize("model", WINDOWED)
def test_pruning_follows_the_request(live_server: LiveServer, model: str) -> None:
    kept, gflops = {}, {}
    for prune in ("off", "25", "50", "75"):
        reply = live_server.infer(model, "heart_a", {"roi": ROI, "prune": prune}, output="json")
        assert reply.status == 200, reply.json
        kept[prune], gflops[prune] = reply.json["kept_fraction"], reply.json["gflops"]
        assert reply.json["gflops"] <= reply.json["gflops_dense"]
    assert kept["off"] == {}
    last = [list(kept[prune].values())[-1] for prune in ("25", "50", "75")]
    assert last == sorted(last, reverse=True)
    assert last[-1] < 0.1
    assert gflops["75"] < gflops["50"] < gflops["25"] < gflops["off"]
    default = live_server.infer(model, "heart_a", {"roi": ROI, "prune": "default"}, output="json").json["kept_fraction"]
    assert default == live_server.infer(model, "heart_a", {"roi": ROI}, output="json").json["kept_fraction"] != {}
    untouched = {"roi": ROI, "prune": ["default", "off", "25", "50", "75"], "device": ["cpu"]}
    assert live_server.infer(model, "heart_a", untouched, output="json").json["kept_fraction"] == default


def test_token_map(live_server: LiveServer, tmp_path: Path) -> None:
    reply = live_server.infer("prato_unetr", "heart_a", {"roi": ROI, "return_tokens": True})
    tokens = reply.json["tokens"]
    levels = np.frombuffer(zlib.decompress(base64.b64decode(tokens["data"])), np.uint8).reshape(tokens["shape"])
    assert levels.shape == mask_of(reply, tmp_path).shape
    assert levels.max() == 255  # somewhere a token survived every stage
    assert 0 < (levels[:, :, 1:4] < 255).mean() < 1
    assert not levels[:, :, 0].any()
    assert "tokens" not in live_server.infer("prato_unetr", "heart_a", {"roi": ROI}).json


def test_latency_is_told_by_step(live_server: LiveServer) -> None:
    latency = live_server.infer("prato_unetr", "heart_a", {"roi": ROI}).json["latency_ms"]
    assert set(latency) == {"read", "locate", "preprocess", "network", "postprocess", "write", "total"}
    assert sum(latency.values()) - latency["total"] <= latency["total"] + 1


def test_same_request_same_mask_and_reversed_box_is_sorted(live_server: LiveServer, tmp_path: Path) -> None:
    first = live_server.infer("prato_unetr", "heart_a", {"roi": ROI})
    reversed_box = [32, 8, 6, 30, 4, 1]
    second = live_server.infer("prato_unetr", "heart_a", {"roi": reversed_box})
    assert second.json["box"] == ROI
    np.testing.assert_array_equal(mask_of(first, tmp_path).dataobj, mask_of(second, tmp_path).dataobj)


def test_several_boxes(live_server: LiveServer) -> None:
    reply = live_server.infer("prato_unetr", "heart_a", {"roi": [[8, 20, 6, 18, 1, 3], [15, 32, 10, 30, 2, 4]]})
    assert reply.status == 200, reply.json
    assert reply.json["box"] == ROI


def test_points_become_a_box_and_nothing_becomes_a_proposal(live_server: LiveServer) -> None:
    points = {"RV cavity": [[14, 14, 2]], "LV cavity": [[22, 20, 3]], "myocardium": []}
    reply = live_server.infer("prato_unetr", "heart_a", points)
    assert reply.json["box_source"] == "points"
    i0, i1, j0, j1, k0, k1 = reply.json["box"]
    assert i0 <= 14
    assert i1 > 22
    assert j0 <= 14
    assert j1 > 20
    assert (k0, k1) == (0, 5)  # clicks in a structure do not say how far the heart reaches
    for model in MODELS:
        assert live_server.infer(model, "heart_a").json["box_source"] == "proposed"


def test_session_and_uploaded_file(live_server: LiveServer) -> None:
    data = (live_server.studies / "heart_b.nii.gz").read_bytes()
    known = live_server.infer("prato_unetr", "heart_b", {"roi": ROI}).file
    made = requests.put(f"{live_server.url}/session/", files={"files": ("h.nii.gz", data)}, timeout=200).json()
    session = live_server.infer("prato_unetr", None, {"roi": ROI}, session_id=made["session_id"])
    assert session.status == 200, session.json
    assert session.file == known
    for name in ("h", "heart_a"):  # MONAI Label's client names an image in any case
        assert live_server.infer("prato_unetr", name, {"roi": ROI}, session_id=made["session_id"]).file == known
    about = f"{live_server.url}/session/{made['session_id']}"
    used = requests.get(about, timeout=200).json()["last_access_ts"]
    time.sleep(1.1)
    assert requests.get(about, timeout=200).json()["last_access_ts"] == used  # to look at it is no use of it
    response = requests.post(
        f"{live_server.url}/infer/prato_unetr",
        data={"params": f'{{"roi": {ROI}}}'},
        files={"file": ("h.nii.gz", data)},
        timeout=200,
    )
    assert live_server.read(response).file == known
    assert requests.delete(f"{live_server.url}/session/{made['session_id']}", timeout=200).ok


def test_concurrent_requests_get_their_own_masks(live_server: LiveServer) -> None:
    expected = {name: live_server.infer("prato_unetr", name, {"roi": ROI}).file for name in ("heart_a", "heart_b", "heart_c")}
    assert len(set(expected.values())) == 3
    got: list[tuple[str, Reply]] = []
    threads = [
        threading.Thread(target=lambda n=name: got.append((n, live_server.infer("prato_unetr", n, {"roi": ROI}))))
        for name in [*expected, *expected]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [reply.file == expected[name] for name, reply in got] == [True] * 6


def test_the_server_answers_others_during_an_inference(live_server: LiveServer) -> None:
    """Three times during one: of a server that stands still meanwhile, the first and the last could be answered."""

    def answered_meanwhile() -> int:
        inference = threading.Thread(target=lambda: live_server.infer("prato_swin_unetr", "heart_a", {"prune": "off"}))
        inference.start()
        answered = 0
        while inference.is_alive():
            answered += requests.get(f"{live_server.url}/datastore/", timeout=200).ok and inference.is_alive()
        return answered

    answered: list[int] = []
    wait_until(lambda: answered.append(answered_meanwhile()) or answered[-1] >= 3)  # an inference may be over sooner
    assert answered[-1] >= 3


def test_a_replaced_model_file_answers_the_next_request(live_server: LiveServer, tmp_path: Path) -> None:
    path = live_server.app / "model" / "prato_swin_unetr.safetensors"
    before, old = live_server.infer("prato_swin_unetr", "heart_a", {"roi": ROI}), path.read_bytes()
    version = tiny_model(tmp_path / "new.safetensors", "swin_unetr", seed=1)
    try:
        os.replace(tmp_path / "new.safetensors", path)
        after = live_server.infer("prato_swin_unetr", "heart_a", {"roi": ROI})
        assert after.json["model_version"] == version != before.json["model_version"]
        assert after.file != before.file
    finally:
        uploaded = requests.put(f"{live_server.url}/model/prato_swin_unetr", files={"file": ("m.safetensors", old)}, timeout=200)
    assert uploaded.ok, uploaded.text
    again = live_server.infer("prato_swin_unetr", "heart_a", {"roi": ROI})
    assert again.file == before.file
    assert again.json["model_version"] == before.json["model_version"]


def test_where_no_model_is_named_the_default_network_answers(live_server: LiveServer) -> None:
    form = {"params": json.dumps({"roi": ROI})}
    reply = live_server.read(requests.post(f"{live_server.url}/infer?image=heart_a", data=form, timeout=200))
    named = live_server.infer(DEFAULT, "heart_a", {"roi": ROI})
    assert reply.status == 200 and reply.file == named.file and reply.json["model_version"] == named.json["model_version"]
    named_in_params = {"params": json.dumps({"roi": ROI, "model": "prato_unetr"})}
    other = live_server.read(requests.post(f"{live_server.url}/infer?image=heart_a", data=named_in_params, timeout=200))
    assert "block 4" in other.json["kept_fraction"]


def test_a_model_without_weights_is_not_offered(live_server: LiveServer) -> None:
    default = live_server.app / "model" / "prato_overview_unet.safetensors"
    away = default.with_suffix(".away")
    default.rename(away)
    try:
        assert set(requests.get(f"{live_server.url}/info/", timeout=200).json()["models"]) == {"prato_unetr", "prato_swin_unetr"}
        refused = live_server.infer("prato_auto", "heart_a")
        assert refused.status == 404
        assert "prato_unetr" in refused.json["detail"]
        assert live_server.infer("prato_unetr", "heart_a").json["box_source"] == "whole_image"
    finally:
        away.rename(default)
    assert live_server.infer("prato_auto", "heart_a").json["box_source"] == "proposed"


def test_the_mask_reads_back_as_a_volume(live_server: LiveServer, tmp_path: Path) -> None:
    path = tmp_path / "mask.nii.gz"
    path.write_bytes(live_server.infer("prato_unetr", "heart_a", {"roi": ROI}).file or b"")
    np.testing.assert_allclose(read_volume(path).spacing, (4.0, 4.0, 9.0), rtol=1e-6)


def test_replies_leave_no_files_behind(live_server: LiveServer) -> None:
    with live_server.leaves_no_file():
        data = (live_server.studies / "heart_b.nii.gz").read_bytes()
        response = requests.post(
            f"{live_server.url}/infer/prato_unetr", data={"params": "{}"}, files={"file": ("h.nii.gz", data)}, timeout=200
        )
        assert response.ok
