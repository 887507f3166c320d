"""scripts/research/train_queue.py and export_queue.py: every entry trains, a stopped run goes on, curves and weights come home."""

import json
import sys

import pytest
import torch
import yaml
from typer.testing import CliRunner

from prato.models.checkpoint import load_model
from prato.training.slice_bank import save_packed
from scripts.common.results import read_rows
from scripts.research import export_queue, train_queue
from tests.prato.training.test_stack_training import SMALL, case

pytestmark = pytest.mark.slow

UNET = {"filters": [4, 8, 8, 8, 8]}


@pytest.fixture
def material(tmp_path):
    """Two tiny hearts, a split, and the queue's own entries at toy size."""
    save_packed(tmp_path / "cases.zip", [case("a", 3, (120, 120), (60, 60)), case("b", 2, (120, 130), (60, 60))])
    (tmp_path / "split.json").write_text(json.dumps({"seed": 0, "train": ["a"], "validation": ["b"]}))
    queue = yaml.safe_load(train_queue.QUEUE.read_text())
    queue["defaults"] |= {"steps": 2, "stacks": 1, "depth": 2, "edge": 96, "precision": "float32"}
    for entry in queue["entries"]:
        entry["arguments"] = UNET if entry["network"] == "unet" else {**SMALL, "num_heads": list(SMALL["num_heads"])}
    (tmp_path / "queue.yaml").write_text(yaml.safe_dump(queue))
    return tmp_path


def run(material, monkeypatch, *more):
    flags = {"--packed": "cases.zip", "--split": "split.json", "--queue": "queue.yaml", "--out": "out"}
    monkeypatch.setattr(sys, "argv", ["train_queue.py", *(str(a) for f, n in flags.items() for a in (f, material / n)), *more])
    train_queue.main()


def test_every_entry_of_the_queue_trains_and_comes_home(material, monkeypatch):
    run(material, monkeypatch)
    names = [entry["name"] for entry in train_queue.entries(train_queue.QUEUE)]
    assert sorted(path.parent.name for path in material.glob("out/*/weights.pt")) == sorted(names)
    monkeypatch.setattr(export_queue, "MODELS", material)
    flags = ["--queue-out", str(material / "out"), "--commit", "c", "--device", "d", "--command", "x", "--ship", "overview_swin_unetr"]
    flags += ["--split", str(material / "split.json"), "--curves", str(material / "curves.csv")]
    app = export_queue.typer.Typer()
    app.command()(export_queue.main)
    found = CliRunner().invoke(app, flags)
    assert found.exit_code == 0, found.output
    rows = read_rows(material / "curves.csv")
    assert {row["training"] for row in rows} == set(names) and {row["commit"] for row in rows} == {"c"}
    assert all(0 <= row["dice tight"]["mean"] <= 1 for row in rows)
    network, spec, _ = load_model(material / "prato_overview_swin_unetr.safetensors")
    stored = torch.load(material / "out" / "overview_swin_unetr" / "weights.pt", weights_only=False)["weights"]
    assert spec.centre == "stack" and torch.equal(network.context.weight.half(), stored["context.weight"])


def test_a_run_out_of_time_goes_on_later(material, monkeypatch):
    run(material, monkeypatch, "--only", "unet", "--steps", "41", "--minutes", "0.0001")
    assert not list(material.glob("out/*/weights.pt"))
    state = material / "out" / "unet" / "state.pt"
    if state.exists():  # it may have had no time at all
        assert 0 < torch.load(state, weights_only=True)["step"] < 41
    run(material, monkeypatch, "--only", "unet", "--steps", "41")
    assert (material / "out" / "unet" / "weights.pt").exists() and not state.exists()


def test_without_a_training_there_is_nothing_to_take_home(tmp_path):
    app = export_queue.typer.Typer()
    app.command()(export_queue.main)
    found = CliRunner().invoke(app, ["--queue-out", str(tmp_path), "--commit", "c", "--device", "d", "--command", "x"])
    assert found.exit_code == 2 and "holds no training that has ended" in found.output
