"""The client against the real server of this repository, with tiny models."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest
import requests

from prato.data.nifti import read_volume, write_volume
from prato.data.structures import STRUCTURES
from PratoLabelLib.server.client import Client
from PratoLabelLib.server.connection import Cancelled, ServerError
from PratoLabelLib.server.responses import Study, TrainingState
from tests.app.hearts import app_that_learns, heart
from tests.app.live import LiveServer, start_server, write_study
from tests.waiting import wait_until

MODEL = "prato_unetr"
ROI = [8, 32, 6, 30, 1, 4]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The stock command over three unlabelled studies; the tests of this file change it one after another."""
    folder = tmp_path_factory.mktemp("client")
    app, studies = app_that_learns(folder / "app"), folder / "studies"
    studies.mkdir()
    for n, name in enumerate(("b_ED", "a_ED", "a ES+1")):
        write_study(studies / f"{name}.nii.gz", seed=n)
    with start_server(app, studies, folder / "server.log") as running:
        yield running


@pytest.fixture
def client(server: LiveServer) -> Client:
    return Client(server.url)


def wait_for(request: Callable[[], Any], condition: Callable[[Any], Any]) -> Any:
    """What ``request`` returns once ``condition`` holds for it."""
    results = [request()]
    wait_until(lambda: condition(results[-1]), lambda: results.append(request()), every=0.2)
    return results[-1]


def submit(client: Client, study: str, folder: Path, **info: Any) -> dict[str, Any]:
    write_volume(folder / "label.nii.gz", heart(), read_volume(client.download_image(study, folder)).affine)
    return client.submit(study, folder / "label.nii.gz", info)


def refused(call: Callable[[], Any], status: int, words: str) -> None:
    with pytest.raises(ServerError) as caught:
        call()
    assert caught.value.status == status
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


def test_info(client: Client) -> None:
    info = wait_for(client.info, lambda info: all(model.cost for model in info.models))
    assert (info.name, info.version, info.takes_clicks) == ("PrATo Label", "0.1.0", True)
    page = Path(__file__).parents[2] / "docs" / "protocol" / "README.md"
    assert page.read_text(encoding="utf-8").startswith(f"# The wire contract, version {info.contract}\n")
    assert {"first", "random", "jitter", "phases", "entropy", "coverage"} <= set(info.strategies)
    assert info.round_trip_ms > 0
    models = {model.name: model for model in info.models}
    assert {name: (model.interactive, model.trainable) for name, model in models.items()} == {
        "prato_overview_unet": (True, True),
        "prato_swin_unetr": (True, True),
        "prato_unetr": (True, True),
        "prato_auto": (False, False),
    }
    for model in models.values():
        assert model.labels == dict(STRUCTURES)
        assert model.prune == ("default", "off", "25", "50", "75")
        assert set(model.cost) == set(model.prune)
        asking = 0.01 if "overview" in model.name or model.name == "prato_auto" else 0.0  # it sees hearts everywhere: nothing leaves
        assert model.cost["75"].gflops <= model.cost["off"].gflops + asking
        assert model.cost["off"].ms > 0


def test_studies_are_sorted_and_the_next_one_is_among_them(client: Client) -> None:
    assert client.studies() == [Study(name, False, "") for name in ("a ES+1", "a_ED", "b_ED")]
    assert client.next_study("first") == ("a ES+1", None)
    assert client.next_study("random").id in {"a ES+1", "a_ED", "b_ED"}
    assert client.next_study("entropy", "prato_swin_unetr").id in {"a ES+1", "a_ED", "b_ED"}
    refused(lambda: client.next_study("entropy", "unet"), 404, "There is no model 'unet' here")


def test_download_and_upload_an_image(client: Client, server: LiveServer, tmp_path: Path) -> None:
    path = client.download_image("a ES+1", tmp_path)
    assert path == tmp_path / "a ES+1.nii.gz"
    assert path.read_bytes() == (server.studies / "a ES+1.nii.gz").read_bytes()
    assert list(tmp_path.iterdir()) == [path]
    # a name of its own for the file, and one that no form field can carry
    path = write_study(tmp_path / "Übung 1.nii.gz", seed=7)
    assert client.upload_image("c_ED", path) == "c_ED"
    assert "c_ED" in [study.id for study in client.studies()]
    assert (server.studies / "c_ED.nii.gz").read_bytes() == path.read_bytes()
    refused(lambda: client.upload_image("../c", path), 400, "name may hold only letters")
    refused(lambda: client.upload_image("b_ED", path), 409, "under another name")


def test_infer_with_a_box(client: Client, server: LiveServer) -> None:
    answer = client.infer("prato_swin_unetr", "a ES+1", {"roi": ROI, "prune": "50", "return_tokens": True})
    file = BytesIO(answer.mask)
    header = nrrd.read_header(file)
    mask = nrrd.read_data(header, file)
    assert mask.shape == (40, 36, 5)
    assert header["space"] == "left-posterior-superior"
    assert set(np.unique(mask)) <= {0, *STRUCTURES.values()}
    assert mask.any()
    assert answer.reply["box"] == ROI
    assert answer.reply["tokens"]["shape"] == [40, 36, 5]
    assert answer.reply["kept_fraction"]
    assert client.infer("prato_auto", "b_ED", {}).reply["box_source"] == "proposed"


def test_refusals_are_reported_in_the_server_s_words(client: Client, tmp_path: Path) -> None:
    refused(lambda: client.infer(MODEL, "a_ED", {"roi": [1, 2, 3]}), 400, "roi must be 6 voxel bounds")
    refused(lambda: client.infer(MODEL, "a_ED", {"prune": "99"}), 400, "prune must be one of")
    refused(lambda: client.infer(MODEL, "nobody", {}), 404, "no image 'nobody'")
    refused(lambda: client.infer("no/such model", "a_ED", {}), 404, "")
    refused(lambda: client.next_study("psychic"), 404, "no strategy 'psychic'")
    refused(lambda: client.download_image("nobody", tmp_path), 404, "no image of nobody: refresh")
    refused(lambda: client.download_label("a_ED", tmp_path), 404, "no final label of a_ED: refresh")
    refused(lambda: client.train(MODEL, {}), 400, "final labels of at least 2 patients")
    refused(lambda: client.train("prato_auto", {}), 404, "no trainable model 'prato_auto'")
    assert list(tmp_path.iterdir()) == []


def test_nothing_was_trained_yet(client: Client) -> None:
    assert client.training(MODEL) == TrainingState(False, 0, 0, 0, 0, None, "", {})
    with pytest.raises(ServerError, match="nothing to stop"):
        client.stop_training()


def test_submit_with_where_it_comes_from(client: Client, server: LiveServer, tmp_path: Path) -> None:
    reply = client.infer(MODEL, "a_ED", {"roi": ROI}).reply
    origin = {key: reply[key] for key in ("box", "box_source", "model_version")} | {"model": MODEL, "annotator": "Dr. Ärztin"}
    assert submit(client, "a_ED", tmp_path, **origin)["voxels"]["LV cavity"] == int((heart() == STRUCTURES["LV cavity"]).sum())
    assert Study("a_ED", True, "Dr. Ärztin") in client.studies()

    def stored() -> dict[str, Any]:
        datastore = json.loads((server.studies / "datastore_v2.json").read_text(encoding="utf-8"))
        info: dict[str, Any] = datastore["objects"]["a_ED"]["labels"]["final"]["info"]
        return info

    assert {key: stored()[key] for key in origin} == origin
    assert stored()["client_id"].startswith("prato-slicer-")
    query = {"label": "a_ED", "tag": "final"}
    assert requests.get(f"{server.url}/datastore/label/info", params=query, timeout=200).json() == stored()
    assert stored()["voxels"]["LV cavity"] > 0
    # another label, and the folder read anew because a file came by another way, leave it as it is
    submit(client, "b_ED", tmp_path)
    write_study(server.studies / "d_ED.nii.gz", seed=9)
    wait_for(client.studies, lambda studies: "d_ED" in [study.id for study in studies])
    assert {key: stored()[key] for key in origin} == origin
    [other] = [study for study in client.studies() if study.id == "b_ED"]  # who gives no name is known by the client
    assert other == Study("b_ED", True, stored()["client_id"])
    path = client.download_label("a_ED", tmp_path)
    assert path == tmp_path / "a_ED_final.nii.gz"
    np.testing.assert_array_equal(read_volume(path).array, heart())


def test_a_label_that_does_not_fit(client: Client, tmp_path: Path) -> None:
    before = client.studies()
    write_volume(tmp_path / "label.nii.gz", heart()[:-1], np.eye(4))
    refused(lambda: client.submit("c_ED", tmp_path / "label.nii.gz", {}), 400, "export it on the image's own grid")
    (tmp_path / "label.nii").write_bytes(b"no label")
    refused(lambda: client.submit("c_ED", tmp_path / "label.nii", {}), 400, "not readable NIfTI")
    assert client.studies() == before


def test_a_training_runs_and_is_stopped(client: Client) -> None:
    client.train(MODEL, {"max_steps": 5_000, "max_epochs": 10_000})
    first = client.training(MODEL)
    assert (first.running, first.result) == (True, {})
    under_way = wait_for(lambda: client.training(MODEL), lambda state: state.step)
    assert under_way.running
    refused(lambda: client.train(MODEL, {}), 429, "A training is already running")
    assert 0 < under_way.step < under_way.steps == 5_000
    assert 1 <= under_way.epoch <= under_way.epochs
    assert under_way.dice == 0.0  # of a model that calls everything background
    assert under_way.message == f"Step {under_way.step} of 5000."
    assert not client.training("prato_swin_unetr").running
    client.stop_training()
    stopped = client.training(MODEL)
    assert not stopped.running
    assert "stopped" in stopped.message
    assert stopped.result == {}


def test_a_training_ends_with_a_result(client: Client) -> None:
    before = client.infer(MODEL, "a_ED", {"roi": ROI}).reply["model_version"]
    client.train(MODEL, {"max_steps": 6, "seed": 3})
    first = client.training(MODEL)
    assert (first.step, first.dice) == (0, None) or first.steps == 6  # nothing of the one that was stopped
    state = wait_for(lambda: client.training(MODEL), lambda state: not state.running)
    assert (state.step, state.steps, state.message) == (6, 6, "The training has ended.")
    assert state.result["published"]
    assert state.result["dice_after"] >= state.result["dice_before"]
    assert state.result["model_version_before"] == before
    assert client.infer(MODEL, "a_ED", {"roi": ROI}).reply["model_version"] == state.result["model_version_after"] != before


def test_cancel_a_real_request(client: Client) -> None:
    caught: list[ServerError] = []

    def many() -> None:
        try:
            while True:
                client.infer("prato_swin_unetr", "a_ED", {"prune": "off"})
        except ServerError as error:
            caught.append(error)

    thread = threading.Thread(target=many)
    thread.start()
    while thread.is_alive():  # between two requests there is nothing to cancel
        client.cancel()
        time.sleep(0.02)
    assert isinstance(caught[0], Cancelled)
    assert client.infer("prato_swin_unetr", "a_ED", {"roi": ROI}).reply["box"] == ROI


def test_a_training_that_fails_says_why(client: Client, server: LiveServer) -> None:
    for study in ("a_ED", "b_ED"):
        (server.studies / "labels" / "final" / f"{study}.nii.gz").write_bytes(b"overwritten by hand")
    client.train(MODEL, {"max_steps": 5})
    state = wait_for(lambda: client.training(MODEL), lambda state: not state.running)
    assert state.message.startswith("None of the final labels can be used")
    assert state.message.endswith(".")
    assert state.result["published"]  # the last one that ended
