"""Batch inference on the real server behind its guards: proposals on warm networks, beside labellers, that replace nobody's label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from prato.data.nifti import read_volume, write_volume
from tests.app.guarded import TOKEN, ask, refused
from tests.app.hearts import heart
from tests.app.live import LiveServer, copy_app, start_server, tiny_model, write_study
from tests.waiting import wait_until

MODEL = "prato_swin_unetr"
BATCH = f"/batch/infer/{MODEL}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """``serve.py`` over two studies, a torn one, and one that takes longer than any test waits; the first has somebody's label."""
    folder = tmp_path_factory.mktemp("batch")
    app, studies = copy_app(folder / "app"), folder / "studies"
    (app / "model").mkdir()
    tiny_model(app / "model" / "prato_unetr.safetensors", "unetr")
    tiny_model(app / "model" / f"{MODEL}.safetensors", "swin_unetr")
    tiny_model(app / "model" / "prato_overview_unet.safetensors", "overview_unet")
    studies.mkdir()
    for n, name in enumerate(("a_ED", "b_ED")):
        write_study(studies / f"{name}.nii.gz", seed=n)
    write_study(studies / "long.nii.gz", shape=(40, 36, 4000))
    (studies / "torn.nii.gz").write_bytes((studies / "a_ED.nii.gz").read_bytes()[:900])
    write_volume(folder / "label.nii.gz", heart(), read_volume(studies / "a_ED.nii.gz").affine)
    with start_server(app, studies, folder / "server.log", {"PRATO_LABEL_TOKEN": TOKEN}) as running:
        sent = {"params": {"image": "a_ED", "tag": "final"}, "data": {"params": '{"annotator": "Ada"}'}}
        assert ask(running, "PUT", "/datastore/label", files={"label": (folder / "label.nii.gz").read_bytes()}, **sent).ok
        yield running


def submitted(server: LiveServer) -> dict[str, bytes]:
    """All that people's labels are on the disk."""
    return {name: data for name, data in server.tree().items() if "/final/" in name}


def proposals(server: LiveServer) -> set[str]:
    return {path.name.removesuffix(".nii.gz") for path in (server.studies / "labels" / "original").glob("*.nii.gz")}


def latest(server: LiveServer) -> Any:
    return ask(server, "GET", "/batch/infer").json()


def test_before_the_first_there_is_nothing_to_tell(server: LiveServer) -> None:
    refused(ask(server, "GET", "/batch/infer"), 404, "No batch has run since the server started.")
    assert ask(server, "DELETE", "/batch/infer").json() is None


def test_it_proposes_what_inference_answers_and_leaves_labels_alone(server: LiveServer) -> None:
    before = submitted(server)
    assert len(before) >= 3  # the label, its version and what is known of it
    # as MONAI Label's own defaults have it
    params = {"device": "cuda", "multi_gpu": True, "gpus": "all", "logging": "WARNING", "save_label": True, "label_tag": "original"}
    params |= {"max_workers": 1, "max_batch_size": 0, "images": ["torn", "b_ED", "a_ED"]}
    begun = server.post(BATCH, params).json
    assert (begun["status"], begun["request"]["model"]) == ("RUNNING", MODEL)
    done = wait_until(lambda: (task := latest(server))["status"] != "RUNNING" and task)
    assert (done["id"], done["status"], done["state"], done["stored"]) == (begun["id"], "DONE", "done", 2)
    assert list(done["failed"]) == ["torn"]
    assert "torn.nii.gz is not readable NIfTI" in done["failed"]["torn"]
    assert done["details"][-1].endswith("3 of 3")
    assert proposals(server) == {"a_ED", "b_ED"}
    assert submitted(server) == before
    asked = server.infer(MODEL, "b_ED", output="all")
    path = server.log.with_name("asked.nii.gz")
    path.write_bytes(asked.file or b"")
    assert (read_volume(path).array == read_volume(server.studies / "labels" / "original" / "b_ED.nii.gz").array).all()
    kept = ask(server, "GET", "/datastore/label/info", params={"label": "b_ED", "tag": "original"}).json()
    assert (kept["model"], kept["params"]["model_version"]) == (MODEL, asked.json["model_version"])
    assert not list(server.scratch.glob("prato_*"))
    # no app was started anew for it
    commands = [child.cmdline() for child in psutil.Process(server.process.pid).children(recursive=True)]
    assert not [command for command in commands if "monailabel.interfaces.utils.app" in command]


def test_labellers_are_answered_while_it_runs_and_stopped_it_stores_nothing_more(server: LiveServer) -> None:
    begun = server.post(f"{BATCH}?images=all", {"prune": "off"}).json
    progress = wait_until(lambda: (task := latest(server))["stored"] == 2 and task["progress"])
    assert (progress["step"], progress["total_steps"]) == (2, 4)
    assert progress["eta_seconds"] >= progress["seconds"] * 0.9  # as much is left as was done
    before = proposals(server)
    for _ in range(5):  # more often than it gives way to them
        assert server.infer("prato_unetr", "b_ED", {"roi": [8, 32, 6, 30, 1, 4]}).status == 200
    assert latest(server)["state"] == "running"  # the long study takes longer than all of that
    refused(ask(server, "POST", BATCH, json={}), 429, "A batch is running already")
    shown = ask(server, "GET", "/prato/state").json()["jobs"][0]
    assert (shown["kind"], shown["model"], shown["status"], shown["step"], shown["steps"]) == ("batch_infer", MODEL, "RUNNING", 2, 4)
    stopped = ask(server, "DELETE", "/batch/infer").json()
    assert (stopped["id"], stopped["status"]) == (begun["id"], "STOPPED")
    assert ask(server, "DELETE", "/batch/infer").json() is None
    refused(ask(server, "GET", "/batch/infer?check_if_running=true"), 404, "No batch is running.")
    assert ask(server, "POST", f"{BATCH}?run_sync=true&images=unlabeled", json={"max_batch_size": 1}).json()["stored"] == 1
    assert proposals(server) == before
    assert [task["status"] for task in ask(server, "GET", "/batch/infer?all=true").json()] == ["DONE", "STOPPED", "DONE"]


@pytest.mark.parametrize(
    ("params", "status", "words"),
    [
        ({"label_tag": "final"}, 400, "a batch never replaces submitted labels"),
        ({"roi": [0, 9, 0, 9, 0, 9]}, 400, "'roi' is not a parameter of a batch"),
        ({"max_batch_size": "all"}, 400, "max_batch_size must be a number of studies"),
        ({"max_batch_size": True}, 400, "max_batch_size must be a number of studies"),
        ({"prune": "60"}, 400, "prune must be one of off, 25, 50, 75"),
        ({"device": "tpu"}, 400, "device 'tpu' is not one of this server's"),
        ({"images": "some"}, 400, "images must be one of all, labeled, unlabeled"),
        ({"images": [1]}, 400, "images must be one of"),
        ({"images": []}, 404, "There is no study to segment"),
        ({"images": ["../a_ED"]}, 404, "There is no image '../a_ED' among the studies"),
        ({"model": "unet"}, 404, "There is no model 'unet' here"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_begins(server: LiveServer, params: dict[str, Any], status: int, words: str) -> None:
    before = server.tree()
    refused(ask(server, "POST", BATCH, json=params), status, words)
    assert server.tree() == before


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/"), ("POST", "/dice"), ("DELETE", "/")])
def test_nothing_is_scored_beforehand(server: LiveServer, method: str, path: str) -> None:
    before = server.tree()
    refused(ask(server, method, f"/scoring{path}"), 404, "here: POST /activelearning/jitter, phases, entropy or coverage scores studies")
    assert server.tree() == before
