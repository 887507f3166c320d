"""What the training queue begins with and leaves: packed slices of a studies folder, weights in its folder or in the app."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from prato.data.nifti import write_volume
from prato.models.checkpoint import load_model, save_model
from prato.training.slice_bank import load_packed
from scripts.research import pack_stacks, queue_weights
from tests.app.hearts import heart
from tests.app.live import tiny_model
from tests.scripts.cli import run_script

CPU = torch.device("cpu")


def test_the_patients_of_both_sides_are_packed_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "labels" / "final").mkdir(parents=True)
    label, affine = heart(), np.diag([1.375, 1.375, 8.0, 1.0])
    for name in ("a_ED", "b_ED", "c_ED"):
        write_volume(tmp_path / f"{name}.nii.gz", (label * 50).astype(np.int16), affine)
        write_volume(tmp_path / "labels" / "final" / f"{name}.nii.gz", label, affine)
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"seed": 0, "train": ["a"], "validation": ["c"]}))
    done = run_script(pack_stacks.main, "--studies", tmp_path, "--out", tmp_path / "packed.zip", "--split", split)
    assert done.exit_code == 0, done.output
    bank = load_packed(tmp_path / "packed.zip", CPU)
    assert bank.patients == ("a", "c")
    assert int((load_packed(tmp_path / "packed.zip", CPU, ["c"]).labels == 3).sum()) == int((label == 3).sum())
    (tmp_path / "labels" / "final" / "a_ED.nii.gz").unlink()
    (tmp_path / "labels" / "final" / "c_ED.nii.gz").unlink()
    done = run_script(pack_stacks.main, "--studies", tmp_path, "--out", tmp_path / "other.zip", "--split", split)
    assert done.exit_code == 2 and "holds no labelled study of the patients in" in done.output and not (tmp_path / "other.zip").exists()


def test_weights_that_are_shipped_need_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_weights, "MODELS", tmp_path)
    tiny_model(tmp_path / "prato_older.safetensors", "overview_unet")  # of another trainer
    network, spec, _ = load_model(tmp_path / "prato_older.safetensors")
    recipe = {"steps": 2, "stacks": 1, "depth": 2, "seed": 0}
    save_model(tmp_path / "prato_ours.safetensors", network, spec.model_copy(update={"training": {"recipe": recipe}}))
    (tmp_path / "prato_torn.safetensors").write_bytes(b"version https://git-lfs")
    assert queue_weights.list_trainings(tmp_path / "queue") == ["ours"]
    found = queue_weights.read_weights(tmp_path / "queue" / "ours")
    assert found["recipe"] == recipe and found["entry"]["network"] == "overview_unet"
    assert all(torch.equal(value, found["weights"][name]) for name, value in network.state_dict().items())
    with pytest.raises(FileNotFoundError, match=r"holds no finished training: .* --only older first"):
        queue_weights.read_weights(tmp_path / "queue" / "older")
    (tmp_path / "queue" / "ours").mkdir(parents=True)
    torch.save({"weights": {}, "entry": {"name": "here"}, "recipe": {}}, tmp_path / "queue" / "ours" / "weights.pt")
    assert queue_weights.read_weights(tmp_path / "queue" / "ours")["entry"]["name"] == "here"
