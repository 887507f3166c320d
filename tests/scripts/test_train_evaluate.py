"""The training and measuring commands, on two phantom patients and networks small enough for a test."""

import errno
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from filelock import FileLock

from prato.data.nifti import read_volume, write_volume
from prato.data.studies.splits import Split, save_split
from prato.models.checkpoint import ModelSpec, load_model, read_spec, save_model
from scripts import evaluate, train
from scripts.common import validation_curve
from scripts.common.results import read_rows
from scripts.research.baselines import unet  # noqa: F401 - registers its networks
from tests.phantoms import make_thin_phantoms
from tests.prato.conftest import small_spec
from tests.scripts.cli import run_script

#: Of a network that takes no prompts.
PLAIN = {"in_channels": 3, "out_channels": 4, "feature_size": 12, "spatial_dims": 2, "num_heads": [1, 2, 2, 4]}


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    make_thin_phantoms(folder, 2, slices=2)
    return folder


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    monkeypatch.setattr(train, "model_preset", small_spec)


@pytest.mark.slow
def test_train_then_evaluate(studies, tmp_path):
    out = tmp_path / "run"
    trained = run_script(train.main, "--studies", studies, "--out", out, "--epochs", "0.4", "--batch", "2", "--threads", "1")
    assert trained.exit_code == 0, trained.output
    _, spec, version = load_model(out / "model.safetensors")
    assert version in trained.output
    assert spec.training["steps"] > 0 and spec.training["seed"] == 0 and not spec.training["dense"]
    assert spec.training["started_from"] is None and spec.pruning_plan() == small_spec("unetr").pruning_plan()
    split = json.loads((out / "split.json").read_text())
    assert {len(split["train"]), len(split["validation"])} == {1}
    curve = read_rows(out / "curve.csv")
    assert curve[-1]["step"] == spec.training["steps"] and 0 <= curve[-1]["dice"]["mean"] <= 1

    result = tmp_path / "result.csv"
    measured = run_script(
        evaluate.main, "--studies", studies, "--model", out / "model.safetensors", "--split", out / "split.json", "--out", result
    )
    assert measured.exit_code == 0, measured.output
    rows = read_rows(result)
    assert {(row["model_version"], row["box"], row["prune"]) for row in rows} == {(version, "tight", "plan")}
    assert {row["patient"] for row in rows} == set(split["validation"])
    assert set(rows[0]["scores"]) == {"RV cavity", "myocardium", "LV cavity"} and len(rows[0]["roi"]) == 6
    assert rows[0]["kept_fraction"] and rows[0]["gflops"] < rows[0]["gflops_dense"]
    assert {"commit", "device", "seed", "command"} <= rows[0].keys()


@pytest.mark.slow
def test_a_run_that_ended_goes_on_with_a_larger_budget_and_so_does_its_curve(studies, tmp_path, monkeypatch):
    monkeypatch.setattr(validation_curve, "_CHECKS", 2)
    for epochs, steps in (("0.5", [1, 2]), ("1", [1, 2, 4])):
        given = ("--studies", studies, "--out", tmp_path, "--epochs", epochs, "--batch", "1")
        done = run_script(train.main, *given)
        assert done.exit_code == 0, done.output
        assert [row["step"] for row in read_rows(tmp_path / "curve.csv")] == steps


@pytest.mark.slow
def test_a_dense_run_says_so_and_has_no_plan(studies, tmp_path):
    done = run_script(
        train.main, "--studies", studies, "--out", tmp_path, "--network", "swin_unetr", "--dense", "--epochs", "0.1", "--batch", "2"
    )
    assert done.exit_code == 0, done.output
    _, spec, _ = load_model(tmp_path / "model.safetensors")
    assert spec.plan is None and spec.training["dense"]


@pytest.mark.slow
def test_a_run_from_a_model_s_weights_with_another_percentile(studies, tmp_path):
    start = tmp_path / "start.safetensors"
    torch.manual_seed(7)
    made = {"steps": 3, "command": "another"}
    version = save_model(start, small_spec("unetr").build(), small_spec("unetr").model_copy(update={"training": made}))
    given = ("--studies", studies, "--epochs", "0.01", "--batch", "2", "--percentile", "40")
    done = run_script(train.main, *given, "--start-from", start, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    trained, spec, _ = load_model(tmp_path / "run" / "model.safetensors")
    assert spec.training["started_from"] == version and spec.training["steps"] == 1 and spec.training["start"] == made
    assert spec.pruning_plan() == replace(small_spec("unetr").pruning_plan(), percentile=40.0)
    began, ended = (net.vit.patch_embedding.position_embeddings.detach() for net in (load_model(start)[0], trained))
    assert float((began - ended).abs().max()) < 1e-3  # one small step from there, not another draw

    # the run goes on as what it is, and as nothing else
    written = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    other = run_script(train.main, *given, "--out", tmp_path / "run")
    assert other.exit_code == 2 and "another started_from" in other.output
    other = run_script(train.main, *given, "--start-from", start, "--out", tmp_path / "run", "--seed", "1")
    assert other.exit_code == 2 and "another" in other.output and "seed" in other.output
    sides = json.loads(written["split.json"])
    save_split(tmp_path / "split.json", Split(seed=0, train=sides["validation"], validation=sides["train"]))
    other = run_script(train.main, *given, "--start-from", start, "--out", tmp_path / "run", "--split", tmp_path / "split.json")
    assert other.exit_code == 2 and "not the split" in other.output
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    same = run_script(train.main, *given, "--start-from", start, "--out", tmp_path / "run", "--split", tmp_path / "run" / "split.json")
    assert same.exit_code == 0, same.output
    assert read_spec(tmp_path / "run" / "model.safetensors").training["steps"] == 1


@pytest.fixture(scope="module")
def swin_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "swin.safetensors"
    save_model(path, small_spec("swin_unetr").build(), small_spec("swin_unetr"))
    return path


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "budget"),
        (["--epochs", "1", "--minutes", "1"], "budget"),
        (["--minutes", "-1"], "budget"),
        (["--minutes", "inf"], "budget"),
        (["--epochs", "nan"], "budget"),
        (["--epochs", "inf"], "budget"),
        (["--epochs", "0"], "budget"),
        (["--epochs", "1", "--batch", "0"], "batch"),
        (["--epochs", "1", "--seed", "-1"], "seed"),
        (["--epochs", "1", "--seed", str(2**64 - 1)], "seed"),
        (["--epochs", "1", "--threads", "-1"], "threads"),
        (["--epochs", "1", "--workers", "-1"], "workers"),
        (["--epochs", "1", "--device", "tpu"], "no device 'tpu' here"),
        (["--epochs", "1", "--device", "cuda:99"], "no device 'cuda:99' here"),
        (["--epochs", "1", "--after", "99"], "the encoder has 1 to 12"),
        (["--epochs", "1", "--after", "99", "--network", "swin_unetr"], "the encoder has 1 to 4"),
        (["--epochs", "1", "--split", "nowhere.json"], "split file"),
        (["--epochs", "1", "--percentile", "100"], "below 100"),
        (["--epochs", "1", "--percentile", "nan"], "below 100"),
        (["--epochs", "1", "--percentile", "30", "--dense"], "--percentile"),
        (["--epochs", "1", "--choose", "random", "--dense"], "--choose"),
        (["--epochs", "1", "--margin", "-1"], "margin"),
        (["--epochs", "1", "--whole-slices", "100"], "multiple of 32"),
        (["--epochs", "1", "--network", "abacus"], "unetr"),
        (["--epochs", "1", "--start-from", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--epochs", "1", "--start-from", "SWIN"], "not a unetr"),
    ],
)
def test_training_refuses_in_one_sentence(studies, swin_model, tmp_path, arguments, word):
    given = [swin_model if a == "SWIN" else a for a in arguments]
    done = run_script(train.main, "--studies", studies, "--out", tmp_path / "run", *given)
    assert done.exit_code == 2
    assert word in done.output and "Traceback" not in done.output
    assert not (tmp_path / "run").exists()


def test_a_network_may_have_stages_that_nobody_chooses(studies, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "model_class", lambda name: lambda in_channels, out_channels: None)
    done = run_script(train.main, "--studies", studies, "--out", tmp_path / "run", "--epochs", "1", "--after", "2")
    assert done.exit_code == 2 and done.output == "--after is not for unetr, whose constructor has no argument stages: leave it out.\n"


def test_training_refuses_a_folder_without_labels(tmp_path):
    done = run_script(train.main, "--studies", tmp_path, "--out", tmp_path / "run", "--epochs", "1")
    assert done.exit_code == 2 and "labels of no patient, in its folder labels/final" in done.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("out", ["file", "file/run"])
def test_a_folder_of_the_run_that_cannot_be_is_noticed_first(studies, tmp_path, monkeypatch, out):
    monkeypatch.setattr(train, "load_training_cases", lambda *_: pytest.fail("loaded before looking where to write"))
    (tmp_path / "file").write_text("")
    done = run_script(train.main, "--studies", studies, "--out", tmp_path / out, "--epochs", "1")
    assert done.exit_code == 2 and "cannot be written: name a folder" in done.output


@pytest.mark.slow
def test_training_refuses_a_split_with_an_empty_side(studies, tmp_path):
    save_split(tmp_path / "split.json", Split(seed=0, train=["phantom001"], validation=["nobody"]))
    done = run_script(train.main, "--studies", studies, "--out", tmp_path / "run", "--epochs", "1", "--split", tmp_path / "split.json")
    assert done.exit_code == 2 and "one side of the split" in done.output
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_trainings_do_not_share_a_folder(studies, tmp_path):
    given = ("--studies", studies, "--out", tmp_path / "run", "--epochs", "0.01", "--batch", "2")
    assert run_script(train.main, *given).exit_code == 0
    half = tmp_path / "run" / ".state.pt.x7.tmp"
    half.write_bytes(b"half of a state, which the other one writes")
    written = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with FileLock(tmp_path / "run" / ".lock"):
        done = run_script(train.main, *given)
    assert done.exit_code == 2 and f"Another process is training into {tmp_path / 'run'}: wait for it" in done.output
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert run_script(train.main, *given).exit_code == 0 and not half.exists()


@pytest.mark.slow
def test_patients_who_were_labelled_after_the_run_began_are_named(tmp_path):
    make_thin_phantoms(tmp_path / "studies", 3, slices=2)
    save_split(tmp_path / "split.json", Split(seed=0, train=["phantom001"], validation=["phantom002"]))
    given = ("--studies", tmp_path / "studies", "--out", tmp_path / "run", "--epochs", "0.01", "--batch", "2")
    for split in (("--split", tmp_path / "split.json"), ()):  # without one, the run has its own
        done = run_script(train.main, *given, *split)
        assert done.exit_code == 0, done.output
        assert "Labelled patients who are on neither side of the split are not used (1): phantom003." in done.output


@pytest.mark.slow
def test_patients_of_the_split_who_are_not_there_are_named_and_not_counted(studies, tmp_path):
    save_split(tmp_path / "split.json", Split(seed=0, train=["phantom001", "nobody", "no one"], validation=["phantom002"]))
    given = ("--studies", studies, "--out", tmp_path / "run", "--epochs", "0.01", "--batch", "2", "--split", tmp_path / "split.json")
    done = run_script(train.main, *given)
    assert done.exit_code == 0, done.output
    assert "no usable label of 2 of the split's 3 training patients: nobody, no one." in done.output
    assert "validation patients" not in done.output
    assert read_spec(tmp_path / "run" / "model.safetensors").training["patients"] == {"train": 1, "validation": 1}


@pytest.mark.slow
@pytest.mark.parametrize("full", ["state.pt", "model.safetensors", "curve.csv"])
def test_a_disk_that_fills_up_in_the_middle_is_told_in_a_sentence(studies, tmp_path, monkeypatch, full):
    whole = os.fsync

    def fsync(handle):
        if full in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    given = ("--studies", studies, "--out", tmp_path / "run", "--epochs", "0.01", "--batch", "2")
    done = run_script(train.main, *given)
    assert done.exit_code == 1 and "Traceback" not in done.output
    assert f"{tmp_path / 'run' / full}: No space left on device; when that is fixed, the same command resumes" in done.output
    monkeypatch.undo()
    monkeypatch.setattr(train, "model_preset", small_spec)
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.endswith(".tmp")]
    done = run_script(train.main, *given)
    assert done.exit_code == 0, done.output
    assert read_rows(tmp_path / "run" / "curve.csv")[-1]["step"] == 1


@pytest.fixture
def dense_model(tmp_path):
    path = tmp_path / "dense.safetensors"
    save_model(path, small_spec("unetr").build(), small_spec("unetr").with_plan(None))
    return path


@pytest.mark.slow
def test_a_model_without_a_plan_is_measured_dense(studies, tmp_path, dense_model):
    save_split(tmp_path / "split.json", Split(seed=0, train=["phantom001"], validation=["phantom002"]))
    given = ("--studies", studies, "--model", dense_model, "--out", tmp_path / "made" / "result.csv", "--split", tmp_path / "split.json")
    done = run_script(evaluate.main, *given, "--prune", "50")
    assert done.exit_code == 2 and "no plan" in done.output
    assert not (tmp_path / "made").exists()
    done = run_script(evaluate.main, *given)
    assert done.exit_code == 0, done.output
    assert {row["prune"] for row in read_rows(tmp_path / "made" / "result.csv")} == {"off"}


@pytest.mark.slow
def test_a_structure_that_labels_lack_is_named_and_not_scored(tmp_path, dense_model):
    folder = tmp_path / "studies"
    make_thin_phantoms(folder, 1)
    for label in (folder / "labels" / "final").iterdir():
        drawn = read_volume(label)
        write_volume(label, np.where(drawn.array == 3, 3, 0).astype(np.uint8), drawn.affine)
    done = run_script(evaluate.main, "--studies", folder, "--model", dense_model, "--out", tmp_path / "result.csv")
    assert done.exit_code == 0, done.output
    assert "The RV cavity is missing in 2 of 2 labels, and not scored there." in done.output and "The LV cavity" not in done.output
    assert [list(row["scores"]) for row in read_rows(tmp_path / "result.csv")] == [["LV cavity"]] * 2


@pytest.mark.slow
def test_trained_models_are_told_apart_by_the_folders_of_their_runs(studies, tmp_path):
    for name in ("one", "other", "one"):
        path = tmp_path / name / "model.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_model(path, small_spec("unetr").build(), small_spec("unetr"))
        done = run_script(evaluate.main, "--studies", studies, "--model", path, "--out", tmp_path / "both.csv")
        assert done.exit_code == 0, done.output
    assert {row["model"] for row in read_rows(tmp_path / "both.csv")} == {"one", "other"}
    assert len(read_rows(tmp_path / "both.csv")) == 2 * 4  # two patients, in two phases each


@pytest.mark.parametrize("out", ["folder", "file/result.csv", "file/deeper/result.csv"])
def test_a_result_that_cannot_be_written_is_noticed_first(studies, tmp_path, monkeypatch, dense_model, out):
    monkeypatch.setattr(evaluate, "evaluate_cases", lambda *_: pytest.fail("measured before looking where to write"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    done = run_script(evaluate.main, "--studies", studies, "--model", dense_model, "--out", tmp_path / out)
    assert done.exit_code == 2 and "cannot be written" in done.output


@pytest.mark.parametrize("text", ["# Notes\n\nof mine, and more\n", ""])
def test_a_file_that_holds_no_results_is_noticed_first(studies, tmp_path, monkeypatch, dense_model, text):
    monkeypatch.setattr(evaluate, "evaluate_cases", lambda *_: pytest.fail("measured before reading what is there"))
    (tmp_path / "notes.md").write_text(text)
    done = run_script(evaluate.main, "--studies", studies, "--model", dense_model, "--out", tmp_path / "notes.md")
    assert done.exit_code == 2 and "notes.md is not a CSV file of results" in done.output and "NoneType" not in done.output
    assert (tmp_path / "notes.md").read_text() == text


def test_the_split_of_another_folder_is_named(studies, tmp_path, dense_model):
    save_split(tmp_path / "split.json", Split(seed=0, train=["patient001"], validation=["patient002"]))
    done = run_script(
        evaluate.main, "--studies", studies, "--model", dense_model, "--split", tmp_path / "split.json", "--out", tmp_path / "r.csv"
    )
    assert done.exit_code == 2 and "no labelled study of the validation patients" in done.output


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--model", "prato_vgg"], "no model prato_vgg"),
        (["--model", "MODEL", "--prune", "60"], "off, 25, 50, 75"),
        (["--model", "BROKEN"], "not a model file"),
        (["--model", "PLAIN"], "takes no prompts"),
        (["--model", "MODEL", "--studies", "EMPTY"], "no labelled studies"),
        (["--model", "MODEL", "--studies", "nowhere"], "nowhere is not a folder"),
        (["--model", "MODEL", "--device", "tpu"], "no device 'tpu' here"),
        (["--model", "MODEL", "--device", "cuda:99"], "no device 'cuda:99' here"),
    ],
)
def test_measuring_refuses_in_one_sentence(studies, tmp_path, arguments, word):
    paths = {name: tmp_path / f"{name.lower()}.safetensors" for name in ("MODEL", "PLAIN", "BROKEN")} | {"EMPTY": tmp_path}
    save_model(paths["MODEL"], small_spec("unetr").build(), small_spec("unetr"))
    plain = ModelSpec(network="window_swin_unetr", arguments=PLAIN, window=64, pixel=1.5, plan=None)
    save_model(paths["PLAIN"], plain.build(), plain)
    paths["BROKEN"].write_bytes(b"no")
    given = [str(paths.get(a, a)) for a in arguments]
    studies_given = [] if "--studies" in given else ["--studies", studies]
    done = run_script(evaluate.main, *studies_given, *given, "--out", tmp_path / "result.csv")
    assert done.exit_code == 2
    assert word in done.output and "Traceback" not in done.output
    assert not (tmp_path / "result.csv").exists()
