"""Training on submitted labels: who is on which side, what is refused, and when a model is replaced."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi import HTTPException
from tests.app.hearts import blank_model, heart
from tests.app.live import write_study

import lib.datastore
from lib.datastore import StudiesDatastore
from lib.trainers import PratoTrainer, fine_tuning, prato_trainer
from lib.trainers.blending import best_blend
from lib.trainers.parameters import TrainingParameters, training_parameters
from lib.trainers.patients import SPLIT_NAME, TooFewPatientsError, dealt
from lib.trainers.publishing import publish
from prato.data.cases import StudyFile
from prato.data.nifti import read_volume, write_volume
from prato.data.splits import Split, save_split
from prato.labels import STRUCTURES
from prato.request import RequestError


def patients(count: int) -> list[str]:
    return [f"p{n:03d}" for n in range(count)]


class TestSides:
    def test_half_and_half_at_the_start_then_by_share(self) -> None:
        assert [len(dealt(None, patients(n), 0.2, 1).validation) for n in (2, 3, 7, 8, 50)] == [1, 1, 1, 2, 10]
        assert len(dealt(None, patients(40), 0.5, 1).validation) == 20

    def test_nobody_ever_changes_sides(self) -> None:
        split = None
        sides: dict[str, str] = {}
        for count in (2, 3, 5, 9, 30, 31, 80):
            split = dealt(split, patients(count), 0.2, seed=count)  # not even when the seed is another
            now = dict.fromkeys(split.train, "train") | dict.fromkeys(split.validation, "validation")
            assert sides.items() <= now.items()
            assert len(now) == count
            sides = now
        assert abs(len(split.validation) - 16) <= 1

    def test_the_seed_shuffles(self) -> None:
        assert len({tuple(dealt(None, patients(10), 0.2, seed).validation) for seed in range(20)}) > 5
        assert dealt(None, patients(10), 0.2, 3) == dealt(None, reversed(patients(10)), 0.2, 3)

    def test_the_first_newcomer_fills_a_side_that_fell_empty(self) -> None:
        split = Split(seed=1, train=["a"], validation=["b"])
        assert "c" in dealt(split, ["a", "c"], 0.2, 1).validation
        assert "c" in dealt(split, ["b", "c"], 0.2, 1).train

    @pytest.mark.parametrize(
        ("labelled", "words"),
        [
            ([], "at least 2 patients, .*: there are no labels yet"),
            (["x"], "the labels are of x alone"),
            (["x", "x"], "the labels are of x alone"),
            (["a", "b"], "All 2 labelled patients are on the training side"),
            (["c", "d"], "All 2 labelled patients are on the validation side"),
        ],
    )
    def test_too_few(self, labelled: list[str], words: str) -> None:
        with pytest.raises(TooFewPatientsError, match=words):
            dealt(Split(seed=1, train=["a", "b"], validation=["c", "d"]), labelled, 0.2, 1)


class TestParameters:
    def test_defaults_and_text_as_stock_clients_send_them(self) -> None:
        assert training_parameters({"model": "m", "client_id": "c", "gpus": "all", "local_rank": 0}) == TrainingParameters()
        asked = training_parameters({"max_epochs": "3", "max_steps": 40.0, "val_split": "0.25", "seed": "", "device": ["cpu"]})
        assert asked == TrainingParameters(max_epochs=3, max_steps=40, val_split=0.25)

    @pytest.mark.parametrize(
        ("params", "words"),
        [
            ({"max_epochs": 0}, "max_epochs must be a whole number from 1 to 10000, not 0"),
            ({"max_epochs": 2.5}, "max_epochs must be a whole number"),
            ({"max_steps": "many"}, "max_steps must be a whole number"),
            ({"max_steps": True}, "max_steps must be a whole number"),
            ({"max_steps": float("nan")}, "max_steps must be a whole number"),
            ({"max_steps": [1]}, "max_steps must be a whole number"),
            ({"val_split": 0.9}, r"val_split must be a number from 0\.05 to 0\.5"),
            ({"seed": -1}, "seed must be a whole number from 0"),
            ({"device": "tpu"}, "device 'tpu'"),
            ({"name": "../../x"}, "'name' is not a parameter of training: use device, max_epochs"),
        ],
    )
    def test_refused(self, params: dict[str, Any], words: str) -> None:
        with pytest.raises(RequestError, match=words):
            training_parameters(params)


def test_the_last_five_replaced_models_are_kept(tmp_path: Path) -> None:
    model, versions = tmp_path / "m.safetensors", tmp_path / "versions"
    model.write_bytes(b"0")
    for n in range(1, 8):
        candidate = tmp_path / "candidate"
        candidate.write_bytes(str(n).encode())
        publish(candidate, model, versions, f"v{n - 1}")
        os.utime(versions / f"v{n - 1}.safetensors", ns=(n, n))
    assert model.read_bytes() == b"7"
    assert not candidate.exists()
    assert sorted(p.name for p in versions.iterdir()) == [f"v{n}.safetensors" for n in range(2, 7)]
    assert (versions / "v6.safetensors").read_bytes() == b"6"


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PratoTrainer:
    """Of a model that knows nothing, in a hurry."""
    monkeypatch.setattr(fine_tuning, "RATE", 0.01)
    model = tmp_path / "model" / "prato_unetr.safetensors"
    model.parent.mkdir()
    blank_model(model)
    return PratoTrainer("prato_unetr", model)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudiesDatastore:
    """Four labelled studies of three patients."""
    monkeypatch.setattr(lib.datastore.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    final = tmp_path / "studies" / "labels" / "final"
    final.mkdir(parents=True)
    for n, study in enumerate(("a_ED", "a_ES", "b_ED", "c_ED")):
        image = write_study(tmp_path / "studies" / f"{study}.nii.gz", seed=n)
        write_volume(final / image.name, heart(), read_volume(image).affine)
    return StudiesDatastore(str(tmp_path / "studies"))


def model_tree(trainer: PratoTrainer) -> dict[str, bytes]:
    folder = trainer.model.parent
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p != trainer.stats_file}


def test_the_same_seed_gives_the_same_model_and_another_seed_another(trainer: PratoTrainer, store: StudiesDatastore) -> None:
    start = trainer.model.read_bytes()
    results = []
    for seed in (1, 1, 2):
        trainer.model.write_bytes(start)
        results.append(trainer({"model": "prato_unetr", "max_steps": 12, "seed": seed}, store))
    first, again, other = results
    assert again == first
    assert first["published"]
    assert first["dice_after"] > first["dice_before"]
    assert other["model_version_after"] != first["model_version_after"]
    assert sorted(first["patients"]["train"] + first["patients"]["validation"]) == ["a", "b", "c"]
    assert first["patients"] == other["patients"]  # the split is written down, the seed of a later training moves nobody
    assert first["patients"]["train"] == json.loads((Path(store._datastore_path) / SPLIT_NAME).read_text())["train"]


def test_a_published_model_takes_the_place_of_one_that_is_kept(trainer: PratoTrainer, store: StudiesDatastore) -> None:
    start = trainer.model.read_bytes()
    result = trainer({"max_steps": "12", "prato_unetr": {"max_steps": 12}, "prato_swin_unetr": {}}, store)
    assert result["published"]
    assert set(model_tree(trainer)) == {"prato_unetr.safetensors", f"versions/prato_unetr/{result['model_version_before']}.safetensors"}
    assert (trainer.versions / f"{result['model_version_before']}.safetensors").read_bytes() == start
    stats = trainer.stats()
    assert stats.items() >= result.items()
    assert (stats["step"], stats["total_steps"], stats["best_metric"]) == (12, 12, result["dice_after"])
    assert set(stats["validation"]) == {*STRUCTURES, "mean"}
    assert stats["total_time"] > 0


def test_a_model_that_is_worse_is_not_published(trainer: PratoTrainer, store: StudiesDatastore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model_tree(trainer)
    dice, scores = prato_trainer._dice, {True: 0.8, False: 0.7999}

    def scored(model: Path, files: list[StudyFile], device: str) -> dict[str, float]:
        return dict.fromkeys(dice(model, files, device), scores[model == trainer.model])

    monkeypatch.setattr(prato_trainer, "_dice", scored)
    result = trainer({"max_steps": 2}, store)
    assert not result["published"]
    assert (result["dice_before"], result["dice_after"]) == (0.8, 0.7999)
    assert result["model_version_after"] == result["model_version_before"]
    assert model_tree(trainer) == before


def test_a_training_that_breaks_off_changes_no_model(
    trainer: PratoTrainer, store: StudiesDatastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model_tree(trainer)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prato_trainer, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        trainer({"max_steps": 12}, store)
    assert model_tree(trainer) == before


def test_labels_that_cannot_be_used_are_left_out_and_named(trainer: PratoTrainer, store: StudiesDatastore) -> None:
    final = Path(store._datastore_path) / "labels" / "final"
    affine = read_volume(final / "a_ED.nii.gz").affine
    write_volume(final / "a_ED.nii.gz", np.ones((3, 3, 3), np.uint8), affine)
    write_volume(final / "a_ES.nii.gz", np.zeros((40, 36, 5), np.uint8), affine)
    result = trainer({"max_steps": 1}, store)
    assert set(result["left_out"]) == {"a_ED", "a_ES"}
    assert "empty" in result["left_out"]["a_ES"]
    assert sorted(result["patients"]["train"] + result["patients"]["validation"]) == ["b", "c"]
    (final / "b_ED.nii.gz").write_bytes(b"")
    with pytest.raises(HTTPException, match="the labels are of c alone"):
        trainer({"max_steps": 1}, store)


def test_refusals_come_before_anything_is_read(trainer: PratoTrainer, store: StudiesDatastore) -> None:
    assert trainer.refusal(store, {}) is None
    assert "is not a parameter of training" in str(trainer.refusal(store, {"epochs": 3}))
    folder = Path(store._datastore_path)
    save_split(folder / SPLIT_NAME, Split(seed=1, train=["a", "b", "c"], validation=[]))
    assert "on the training side of training_split.json: label one more" in str(trainer.refusal(store, {}))
    (folder / SPLIT_NAME).write_text("{}")
    assert "is not a split file" in str(trainer.refusal(store, {}))
    (folder / SPLIT_NAME).unlink()
    trainer.model.unlink()
    assert "There is no prato_unetr.safetensors to start from" in str(trainer.refusal(store, {}))
    with pytest.raises(HTTPException, match="to start from"):
        trainer({}, store)


class TestBlend:
    """A network of one weight, 0 at the start and 4 after fine-tuning."""

    def blend(self, wanted: float) -> tuple[float, float]:
        """The share and the weight that come of a score that is best at the weight ``wanted``."""
        network = torch.nn.Linear(1, 1, bias=False)
        start = {"weight": torch.zeros(1, 1)}
        torch.nn.init.constant_(network.weight, 4.0)
        share = best_blend(start, network, lambda model: -abs(model.weight.item() - wanted))
        return share, network.weight.item()

    def test_the_best_share_is_taken(self) -> None:
        assert self.blend(3.1) == (0.75, 3.0)
        assert self.blend(9.0) == (1.0, 4.0)
        assert self.blend(-1.0) == (0.25, 1.0)

    def test_the_larger_share_where_two_are_equal(self) -> None:
        assert self.blend(2.5) == (0.75, 3.0)

    def test_counters_are_not_blended(self) -> None:
        network = torch.nn.BatchNorm1d(1)
        network.num_batches_tracked.fill_(7)
        best_blend(torch.nn.BatchNorm1d(1).state_dict(), network, lambda model: 0.0)
        assert int(network.num_batches_tracked) == 7
