"""The stock command with options and settings that MONAI Label's own documentation has people give."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from tests.app.live import copy_app, start_server, tiny_model, write_study
from tests.waiting import HANG_S


@pytest.fixture
def app(tmp_path: Path) -> Path:
    app = copy_app(tmp_path / "app")
    (app / "model").mkdir()
    tiny_model(app / "model" / "prato_unetr.safetensors", "unetr")
    tiny_model(app / "model" / "prato_overview_unet.safetensors", "overview_unet")
    (tmp_path / "studies").mkdir()
    write_study(tmp_path / "studies" / "heart.nii.gz")
    return app


def test_models_are_chosen_and_trainers_skipped(app: Path, tmp_path: Path) -> None:
    chosen = ["--conf", "models", "prato_unetr", "--conf", "skip_trainers", "true", "--conf", "preload", "true"]
    switched_off = {"MONAI_LABEL_TASKS_BATCH_INFER": "false"}
    with start_server(app, tmp_path / "studies", tmp_path / "server.log", switched_off, options=chosen) as server:
        info = requests.get(f"{server.url}/info/", timeout=HANG_S).json()
        assert (list(info["models"]), info["trainers"]) == (["prato_unetr"], {})
        assert server.infer("prato_overview_unet", "heart").status == 404
        named = {"image": "heart", "output": "json"}
        answer = requests.post(f"{server.url}/infer", params=named, data={"params": "{}"}, timeout=HANG_S)
        assert answer.ok and answer.json()["model_version"] == info_version(server.url, "prato_unetr"), "the default is one that is offered"
        assert server.post("/activelearning/entropy").status == 200
        for path, sentence in (
            ("/train/", "There is no trainable model here: the server was started without trainers."),
            ("/train/prato_unetr", "There is no trainable model here: the server was started without trainers."),
            ("/batch/infer", "Batches are switched off on this server (MONAI_LABEL_TASKS_BATCH_INFER)."),
        ):
            refused = server.post(path)
            assert (refused.status, refused.json["detail"]) == (404, sentence)
    assert server.log.read_text().count("--conf has no effect here on preload: only models and skip_trainers are read.") == 1


def info_version(url: str, model: str) -> str:
    """The first characters of the checksum of a model's file, which its version is."""
    return str(requests.get(f"{url}/model/info/{model}", timeout=HANG_S).json()["checksum"]).removeprefix("SHA256:")[:12]


@pytest.mark.parametrize(
    ("options", "settings", "words"),
    [
        (["--conf", "models", "segmentation"], {}, "There is no model 'segmentation' here: give --conf models all, or some of"),
        ([], {"MONAI_LABEL_DATASTORE_READ_ONLY": "true"}, "MONAI_LABEL_DATASTORE_READ_ONLY is set, but labels are stored in"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(
    app: Path, tmp_path: Path, options: list[str], settings: dict[str, str], words: str
) -> None:
    studies, log = tmp_path / "studies", tmp_path / "log"
    with (
        pytest.raises(AssertionError, match="the server ended with exit code 2"),
        start_server(app, studies, log, settings, options=options),
    ):
        pass  # it has started after all
    said = log.read_text()
    assert words in said and "Traceback" not in said
    assert [path.name for path in studies.iterdir()] == ["heart.nii.gz"]
