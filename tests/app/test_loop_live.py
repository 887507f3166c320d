"""The labelling loop on the real server: mask, correction, training, better model; and what it refuses on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from lib.activelearning.acquisition_strategy import SECONDS
from prato.data.nifti import read_volume, write_volume
from prato.data.structures import STRUCTURES
from tests.app.hearts import app_that_learns, heart
from tests.app.live import LiveServer, Reply, start_server, write_study
from tests.waiting import wait_until

MODEL = "prato_unetr"
ROI = {"roi": [10, 30, 8, 28, 0, 5]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The stock command over four unlabelled studies of three patients; the tests of this file change it one after the other."""
    folder = tmp_path_factory.mktemp("loop")
    app, studies = app_that_learns(folder / "app"), folder / "studies"
    studies.mkdir()
    for n, name in enumerate(("a_ED", "a_ES", "b_ED", "c_ED")):
        write_study(studies / f"{name}.nii.gz", seed=n)
    with start_server(app, studies, folder / "server.log") as running:
        yield running


def submit(
    server: LiveServer, study: str, label: np.ndarray | bytes, affine: np.ndarray | None = None, params: Any = None, **query: str
) -> Reply:
    """PUT /datastore/label; ``label`` is an array, stored with the image's affine unless another is given, or bytes."""
    path = server.log.parent / "sent.nii.gz"
    if isinstance(label, bytes):
        path.write_bytes(label)
    else:
        write_volume(path, label, read_volume(server.studies / "a_ED.nii.gz").affine if affine is None else affine)
    text = params if isinstance(params, str) else json.dumps(params or {})
    files = {"label": (path.name, path.read_bytes())}
    return server.read(
        requests.put(f"{server.url}/datastore/label", params={"image": study, **query}, data={"params": text}, files=files, timeout=200)
    )


def job(server: LiveServer) -> dict[str, Any]:
    return requests.get(f"{server.url}/train/", timeout=200).json()


def stats(server: LiveServer) -> dict[str, Any]:
    return requests.get(f"{server.url}/info/", timeout=200).json()["train_stats"][MODEL]


def model_file(server: LiveServer) -> Path:
    return server.app / "model" / f"{MODEL}.safetensors"


def refused(reply: Reply, status: int, words: str) -> None:
    assert reply.status == status, reply.json
    assert words in reply.json["detail"]
    assert reply.json["detail"].endswith(".")


def test_no_labels_no_training(server: LiveServer) -> None:
    before = server.tree()
    for body in ({}, {"max_steps": 5}):
        refused(
            server.post(f"/train/{MODEL}", body),
            400,
            "final labels of at least 2 patients, one of them to compare models on: there are no labels",
        )
    refused(server.post("/train/prato_nothing", {}), 404, "no trainable model 'prato_nothing'")
    refused(server.post("/train/", {}), 400, "at least 2 patients")
    assert requests.get(f"{server.url}/train/", timeout=200).status_code == 404  # nothing was ever queued
    refused(server.read(requests.get(f"{server.url}/datastore/dataset", timeout=200)), 404, "no labelled study")
    assert server.tree() == before


def next_study(server: LiveServer, strategy: str) -> tuple[dict[str, Any], bool]:
    """The answer, and whether it came before a strategy stops looking at further studies."""
    start = time.monotonic()
    reply = server.post(f"/activelearning/{strategy}", {"seed": 1})
    assert reply.status == 200, reply.json
    return reply.json, time.monotonic() - start < SECONDS


@pytest.mark.parametrize("strategy", ["jitter", "phases", "entropy", "coverage"])
def test_the_next_study_has_a_score_and_a_reason(server: LiveServer, strategy: str) -> None:
    version = server.infer("prato_auto", "a_ED").json["model_version"]
    assert strategy in requests.get(f"{server.url}/info/", timeout=200).json()["strategies"]
    found, in_time = next_study(server, strategy)
    assert 0 <= found["score"] <= 1 and found["reason"].endswith(".")
    assert (found["unlabelled"], found["model_version"]) == (4, version)
    # fewer than all are looked at only when the time for an answer is up
    assert found["scored"] == 4 or not in_time
    # another labeller gets another one, which is not more useful
    other, other_in_time = next_study(server, strategy)
    assert other["id"] != found["id"]
    assert other["scored"] == 3 or not other_in_time
    assert other["score"] <= found["score"] or not in_time
    theirs = server.infer("prato_unetr", "a_ED").json["model_version"]
    assert server.post(f"/activelearning/{strategy}", {"seed": 1, "model": "prato_unetr"}).json["model_version"] == theirs != version
    unknown = server.post(f"/activelearning/{strategy}", {"model": "unet"})
    refused(unknown, 404, "There is no model 'unet' here: choose prato_overview_unet or")
    assert "prato_overview_unet_small" not in unknown.json["detail"]  # which is not installed


def test_two_studies_of_one_patient_are_one_patient(server: LiveServer) -> None:
    for study in ("a_ED", "a_ES"):
        assert server.post("/activelearning/first", {}).json["id"] == study
        reply = submit(server, study, heart())
        assert reply.status == 200
        assert reply.json["voxels"]["LV cavity"] == int((heart() == STRUCTURES["LV cavity"]).sum())
    before = server.tree()
    refused(server.post(f"/train/{MODEL}", {}), 400, "there are only labels of a")
    assert server.tree() == before


STRANGE = np.where(heart() == STRUCTURES["LV cavity"], 7, heart()).astype(np.uint8)
BAD_LABELS: list[tuple[str, int, str, dict[str, Any]]] = [
    ("another shape", 400, "has 36x40x5 voxels and its image 40x36x5", {"label": heart((36, 40, 5))}),
    ("another affine", 400, "mm off its image (another affine)", {"affine": np.diag([4.0, 4.0, 9.0, 1.0])}),
    (
        "unknown value",
        400,
        "holds the value 7, which names no structure: the values are 0 background, 1 RV cavity",
        {"label": np.where(heart() == 3, 7, heart()).astype(np.uint8)},
    ),
    ("empty", 400, "is empty: draw at least one structure", {"label": heart() * 0}),
    ("no NIfTI", 400, "The label for a_ED is not readable NIfTI", {"label": b"a label, honestly"}),
    ("cine", 400, "is not readable NIfTI", {"label": b""}),
    (
        "unknown name",
        400,
        "names the segment 'liver'",
        {"label": (heart() > 0).astype(np.uint8), "params": {"label_info": [{"name": "liver", "idx": 1}]}},
    ),
    ("params not JSON", 400, "JSON", {"params": "{"}),
    ("params no object", 400, "params must be a JSON object", {"params": "[1]"}),
    ("unknown study", 404, "no study called 'nobody'", {"study": "nobody"}),
    ("study by a path", 404, "no study called", {"study": "../a_ED"}),
    ("tag by a path", 400, "tag may hold only letters", {"tag": "../../model"}),
]


@pytest.mark.parametrize(("status", "words", "sent"), [case[1:] for case in BAD_LABELS], ids=[case[0] for case in BAD_LABELS])
def test_bad_labels_change_nothing(server: LiveServer, status: int, words: str, sent: dict[str, Any]) -> None:
    before = server.tree()
    refused(submit(server, **{"study": "a_ED", "label": heart(), **sent}), status, words)
    assert server.tree() == before


def test_a_correction_replaces_and_keeps_what_was_there(server: LiveServer) -> None:
    stored = server.studies / "labels" / "final" / "a_ED.nii.gz"
    first = stored.read_bytes()
    # segments in the order of the scene, as the stock 3D Slicer module numbers them
    swapped = np.choose(heart(), [0, 3, 2, 1]).astype(np.uint8)
    names = [{"name": name, "idx": n} for n, name in enumerate(("LV cavity", "myocardium", "RV cavity"), 1)]
    corrected = swapped.copy()
    corrected[:, :, 4] = 0
    assert submit(server, "a_ED", corrected, params={"label_info": names}).status == 200
    expected = heart()
    expected[:, :, 4] = 0
    assert np.array_equal(read_volume(stored).array, expected)
    assert np.array_equal(read_volume(stored).affine, read_volume(server.studies / "a_ED.nii.gz").affine)
    assert (server.studies / "label_history" / "final" / "a_ED" / "0001.nii.gz").read_bytes() == first


BAD_PARAMETERS: list[tuple[dict[str, Any], str]] = [
    ({"max_epochs": 0}, "max_epochs must be a whole number from 1"),
    ({"max_steps": "lots"}, "max_steps must be a whole number"),
    ({"val_split": 1.5}, "val_split must be a number from 0.05 to 0.5"),
    ({"seed": -1}, "seed must be a whole number"),
    ({"device": "abacus"}, "device 'abacus'"),
    ({"name": "../../../elsewhere/x"}, "'name' is not a parameter of training"),
]


def test_bad_training_parameters_queue_nothing(server: LiveServer) -> None:
    assert submit(server, "b_ED", heart()).status == 200
    before = server.tree()
    for params, words in BAD_PARAMETERS:
        refused(server.post(f"/train/{MODEL}", params), 400, words)
    assert requests.get(f"{server.url}/train/", timeout=200).status_code == 404
    assert server.tree() == before


def test_the_loop(server: LiveServer) -> None:
    asked = server.infer(MODEL, "c_ED", ROI)
    old = model_file(server).read_bytes()
    assert server.post(f"/train/{MODEL}", {"max_steps": 10, "seed": 3}).json["status"] in ("SUBMITTED", "RUNNING")
    wait_until(lambda: job(server)["status"] not in ("SUBMITTED", "RUNNING"), every=0.2)
    assert job(server)["status"] == "DONE", job(server)
    found = stats(server)
    assert found["published"]
    assert found["dice_after"] >= found["dice_before"]
    assert found["model_version_before"] == asked.json["model_version"]
    assert sorted(found["patients"]["train"] + found["patients"]["validation"]) == ["a", "b"]
    assert set(found["validation"]) == {*STRUCTURES, "mean"}
    better = server.infer(MODEL, "c_ED", ROI)
    assert better.json["model_version"] == found["model_version_after"] != asked.json["model_version"]
    assert (server.app / "model" / "versions" / MODEL / f"{asked.json['model_version']}.safetensors").read_bytes() == old


def test_when_all_are_labelled_there_is_no_next(server: LiveServer) -> None:
    assert server.post("/activelearning/random", {}).json["id"] == "c_ED"
    assert submit(server, "c_ED", heart()).status == 200
    for strategy in ("first", "random", "jitter"):
        refused(server.post(f"/activelearning/{strategy}", {}), 404, "Every study here has a final label")
