"""The training and measuring commands, on two phantom patients and networks small enough for a test."""

import json

import pytest
import typer
from tests.prato.conftest import small_spec
from typer.testing import CliRunner

import evaluate
import train
import train_locator
from prato.checkpoint import load_model, save_model
from prato.data.phantom import make_phantoms
from prato.data.splits import Split, save_split


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    make_phantoms(folder, 2, 0)
    return folder


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    for name in ("unetr", "swin_unetr"):
        monkeypatch.setitem(train.PRESETS, name, small_spec(name))


def run(script, *arguments):
    app = typer.Typer()
    app.command()(script.main)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_train_then_evaluate(studies, tmp_path):
    out = tmp_path / "run"
    trained = run(train, "--studies", studies, "--out", out, "--epochs", "0.4", "--batch", "2", "--threads", "1")
    assert trained.exit_code == 0, trained.output
    _, spec, version = load_model(out / "model.safetensors")
    assert version in trained.output
    assert spec.training["steps"] > 0 and spec.training["seed"] == 0 and not spec.training["dense"]
    split = json.loads((out / "split.json").read_text())
    assert {len(split["train"]), len(split["validation"])} == {1}
    curve = json.loads((out / "curve.json").read_text())
    assert curve[-1]["step"] == spec.training["steps"] and 0 <= curve[-1]["dice"]["mean"] <= 1

    result = tmp_path / "result.json"
    measured = run(evaluate, "--studies", studies, "--model", out / "model.safetensors", "--split", out / "split.json", "--out", result)
    assert measured.exit_code == 0, measured.output
    found = json.loads(result.read_text())
    assert found["model_version"] == version and found["box"] == "tight"
    assert {case["patient"] for case in found["cases"]} == set(split["validation"])
    assert set(found["cases"][0]["scores"]) == {"RV cavity", "myocardium", "LV cavity"}
    assert found["summary"]["kept_fraction"] and found["summary"]["gflops"] < found["summary"]["gflops_dense"]
    assert {"commit", "device", "seed", "command"} <= found.keys()


def test_a_dense_run_says_so_and_has_no_plan(studies, tmp_path):
    done = run(train, "--studies", studies, "--out", tmp_path, "--network", "swin_unetr", "--dense", "--epochs", "0.1", "--batch", "2")
    assert done.exit_code == 0, done.output
    _, spec, _ = load_model(tmp_path / "model.safetensors")
    assert spec.plan is None and spec.training["dense"]


def test_the_locator_s_file_says_how_its_boxes_fit(studies, tmp_path, monkeypatch):
    monkeypatch.setattr("prato.locating.LOCATOR", small_spec("locator"))
    monkeypatch.setattr(train_locator, "LOCATOR", small_spec("locator"))
    save_split(tmp_path / "split.json", Split(seed=0, train=["phantom001"], validation=["phantom002"]))
    out = tmp_path / "locator.safetensors"
    done = run(train_locator, "--studies", studies, "--split", tmp_path / "split.json", "--out", out, "--steps", "3")
    assert done.exit_code == 0, done.output
    assert "2 studies of validation patients" in load_model(out)[1].training["validation"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "budget"),
        (["--epochs", "1", "--minutes", "1"], "budget"),
        (["--minutes", "-1"], "budget"),
        (["--epochs", "1", "--device", "tpu"], "device"),
        (["--epochs", "1", "--split", "nowhere.json"], "split file"),
    ],
)
def test_training_refuses_in_one_sentence(studies, tmp_path, arguments, word):
    done = run(train, "--studies", studies, "--out", tmp_path / "run", *arguments)
    assert done.exit_code == 2
    assert word in done.output and "Traceback" not in done.output
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_training_refuses_a_folder_without_labels(tmp_path):
    done = run(train, "--studies", tmp_path, "--out", tmp_path / "run", "--epochs", "1")
    assert done.exit_code == 2 and "two patients" in done.output


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--model", "prato_vgg"], "no model prato_vgg"),
        (["--model", "MODEL", "--prune", "60"], "off, 25, 50, 75"),
        (["--model", "BROKEN"], "not a model file"),
        (["--model", "LOCATOR"], "locator"),
        (["--model", "MODEL", "--studies", "EMPTY"], "no labelled studies"),
        (["--model", "MODEL", "--device", "tpu"], "device"),
    ],
)
def test_measuring_refuses_in_one_sentence(studies, tmp_path, arguments, word):
    paths = {name: tmp_path / f"{name.lower()}.safetensors" for name in ("MODEL", "LOCATOR", "BROKEN")} | {"EMPTY": tmp_path}
    save_model(paths["MODEL"], small_spec("unetr").build(), small_spec("unetr"))
    save_model(paths["LOCATOR"], small_spec("locator").build(), small_spec("locator"))
    paths["BROKEN"].write_bytes(b"no")
    given = [str(paths.get(a, a)) for a in arguments]
    studies_given = [] if "--studies" in given else ["--studies", studies]
    done = run(evaluate, *studies_given, *given, "--out", tmp_path / "result.json")
    assert done.exit_code == 2
    assert word in done.output and "Traceback" not in done.output
    assert not (tmp_path / "result.json").exists()
