"""Training on submitted labels: who is on which side, what is refused, and when a model is replaced."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import HTTPException

import lib.datastore.studies
from lib.datastore.studies import StudiesDatastore
from lib.trainers.prato_trainer import PratoTrainer, parse_training_parameters
from prato.data.nifti import read_volume, write_volume
from prato.data.structures import STRUCTURES
from prato.data.studies.splits import Split, save_split
from prato.inference.request import RequestError
from prato.retraining import round as retraining_round
from prato.retraining.comparison import CaseDice
from prato.retraining.training_data import SPLIT_NAME
from prato.training import fine_tuning
from prato.training.fine_tuning import TrainingParameters
from tests.app.hearts import blank_model, heart
from tests.app.live import write_study


class TestParameters:
    def test_defaults_and_text_as_stock_clients_send_them(self) -> None:
        assert parse_training_parameters({"model": "m", "client_id": "c", "gpus": "all", "local_rank": 0}) == TrainingParameters()
        asked = parse_training_parameters({"max_epochs": "3", "max_steps": 40.0, "val_split": "0.25", "seed": "", "device": ["cpu"]})
        assert asked == TrainingParameters(max_epochs=3, max_steps=40, val_split=0.25)

    def test_the_ends_of_a_range_belong_to_it(self) -> None:
        for ends in ({"max_epochs": 1, "max_steps": 1, "val_split": 0.05, "seed": 0}, {"max_epochs": 10_000, "max_steps": 1_000_000}):
            assert parse_training_parameters(ends) == TrainingParameters(**ends)
        ends = {"val_split": 0.5, "seed": 2**31 - 1}
        assert parse_training_parameters(ends) == TrainingParameters(**ends)

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
            ({"seed": 2**31}, "seed must be a whole number from 0"),
            ({"device": "tpu"}, "device 'tpu'"),
            ({"name": "../../x"}, "'name' is not a parameter of training: use device, max_epochs"),
        ],
    )
    def test_refused(self, params: dict[str, Any], words: str) -> None:
        with pytest.raises(RequestError, match=words):
            parse_training_parameters(params)


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PratoTrainer:
    """Of a model that knows nothing, in a hurry."""
    monkeypatch.setattr(fine_tuning, "LEARNING_RATE", 0.03)
    monkeypatch.setattr(fine_tuning, "BATCH_SIZE", 4)
    model = tmp_path / "model" / "prato_unetr.safetensors"
    model.parent.mkdir()
    blank_model(model)
    return PratoTrainer("prato_unetr", model)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudiesDatastore:
    """Four labelled studies of three patients."""
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    final = tmp_path / "studies" / "labels" / "final"
    final.mkdir(parents=True)
    for n, study in enumerate(("a_ED", "a_ES", "b_ED", "c_ED")):
        image = write_study(tmp_path / "studies" / f"{study}.nii.gz", seed=n)
        write_volume(final / image.name, heart(), read_volume(image).affine)
    return StudiesDatastore(str(tmp_path / "studies"))


def model_tree(trainer: PratoTrainer) -> dict[str, bytes]:
    """Every model file, current and kept."""
    folder = trainer.model.parent
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.safetensors"))}


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in ("seconds", "parts_s")}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model_and_another_seed_another(trainer: PratoTrainer, store: StudiesDatastore) -> None:
    start = trainer.model.read_bytes()
    results = []
    for seed in (1, 1, 2):
        trainer.model.write_bytes(start)
        results.append(trainer({"model": "prato_unetr", "max_steps": 16, "seed": seed}, store))
    first, again, other = results
    assert timeless(again) == timeless(first)
    assert first["published"]
    assert first["dice_after"] > first["dice_before"]
    assert other["model_version_after"] != first["model_version_after"]
    assert sorted(first["patients"]["train"] + first["patients"]["validation"]) == ["a", "b", "c"]
    assert first["patients"] == other["patients"]  # the split is written down, the seed of a later training moves nobody
    assert first["patients"]["train"] == json.loads((Path(store._datastore_path) / SPLIT_NAME).read_text())["train"]


@pytest.mark.slow
def test_a_published_model_takes_the_place_of_one_that_is_kept(trainer: PratoTrainer, store: StudiesDatastore) -> None:
    start = trainer.model.read_bytes()
    result = trainer({"max_steps": "12", "prato_unetr": {"max_steps": 12}, "prato_swin_unetr": {}}, store)
    assert result["published"]
    before, after = result["model_version_before"], result["model_version_after"]
    assert set(model_tree(trainer)) == {"prato_unetr.safetensors", *(f"versions/prato_unetr/{v}.safetensors" for v in (before, after))}
    assert trainer.store.file(before).read_bytes() == start
    stats = trainer.stats()
    assert {name: stats[name] for name in result} == result
    assert (stats["step"], stats["total_steps"], stats["best_metric"]) == (12, 12, result["dice_after"])
    assert set(stats["validation"]) == {*STRUCTURES, "mean"}
    assert stats["total_time"] > 0
    shipped, trained = trainer.store.history()
    assert (shipped.kind, shipped.version, trained.version, trained.parent) == ("shipped", before, after, before)
    label = Path(store._datastore_path) / "labels" / "final" / "a_ED.nii.gz"
    assert trained.training["labels"]["a_ED"] == hashlib.sha256(label.read_bytes()).hexdigest()
    assert set(trained.training["labels"]) == {"a_ED", "a_ES", "b_ED", "c_ED"}
    study = f"{result['patients']['validation'][0]}_ED"
    assert set(trained.training["cases"][study]["after"]) == {*STRUCTURES, "mean"}
    assert trained.training["interval"] is None  # one patient says nothing of others


@pytest.mark.slow
def test_a_model_that_is_worse_is_not_published(trainer: PratoTrainer, store: StudiesDatastore, monkeypatch: pytest.MonkeyPatch) -> None:
    start = trainer.model.read_bytes()
    measured = retraining_round.measure_dice

    def scored(model: Path, *more: Any) -> CaseDice:
        score = 0.8 if model == trainer.model else 0.7999
        return {study: dict.fromkeys(dice, score) for study, dice in measured(model, *more).items()}

    monkeypatch.setattr(retraining_round, "measure_dice", scored)
    result = trainer({"max_steps": 2}, store)
    assert not result["published"]
    assert (result["dice_before"], result["dice_after"]) == (0.8, 0.7999)
    assert "the mean Dice fell: mean Dice 0.8000 -> 0.7999" in result["reason"]
    assert result["model_version_after"] == result["model_version_before"]
    assert trainer.model.read_bytes() == start
    assert [record.published for record in trainer.store.history()] == [True, False]
    assert trainer.store.history()[-1].reason == result["reason"]
    assert set(model_tree(trainer)) == {"prato_unetr.safetensors", f"versions/prato_unetr/{result['model_version_before']}.safetensors"}


@pytest.mark.slow
def test_a_model_that_was_replaced_meanwhile_stays(
    trainer: PratoTrainer, store: StudiesDatastore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blank_model(tmp_path / "other.safetensors", seed=1)
    other = (tmp_path / "other.safetensors").read_bytes()
    trained = retraining_round.fine_tune
    monkeypatch.setattr(retraining_round, "fine_tune", lambda *a: (trainer.store.upload(other), trained(*a))[1])
    result = trainer({"max_steps": 8}, store)
    assert not result["published"]
    assert "was replaced by" in result["reason"]
    assert trainer.model.read_bytes() == other


@pytest.mark.slow
def test_what_is_forgotten_is_measured_on_base_studies(
    trainer: PratoTrainer, store: StudiesDatastore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert trainer({"max_steps": 1}, store)["base"] is None
    monkeypatch.setenv("PRATO_LABEL_BASE_STUDIES", str(tmp_path / "studies"))  # that they are the same is no matter here
    assert set(trainer({"max_steps": 1}, store)["base"]) == {"before", "after"}
    for folder in ("model", "nowhere"):
        monkeypatch.setenv("PRATO_LABEL_BASE_STUDIES", str(tmp_path / folder))
        with pytest.raises(HTTPException, match="holds no labelled studies"):
            trainer.order({}, store)


@pytest.mark.slow
def test_labels_that_cannot_be_used_are_left_out_and_named(trainer: PratoTrainer, store: StudiesDatastore) -> None:
    final = Path(store._datastore_path) / "labels" / "final"
    affine = read_volume(final / "a_ED.nii.gz").affine
    write_volume(final / "a_ED.nii.gz", np.ones((3, 3, 3), np.uint8), affine)
    write_volume(final / "a_ES.nii.gz", np.zeros((40, 36, 5), np.uint8), affine)
    result = trainer({"max_steps": 1}, store)
    assert set(result["left_out"]) == {"a_ED", "a_ES"}
    assert "empty" in result["left_out"]["a_ES"]
    assert set(result["labels"]) == {"b_ED", "c_ED"}
    assert sorted(result["patients"]["train"] + result["patients"]["validation"]) == ["b", "c"]
    (final / "b_ED.nii.gz").write_bytes(b"")
    with pytest.raises(HTTPException, match="there are only labels of c"):
        trainer({"max_steps": 1}, store)


def test_refusals_come_before_anything_is_read(trainer: PratoTrainer, store: StudiesDatastore) -> None:
    def refused(words: str, params: dict[str, Any] | None = None) -> None:
        with pytest.raises(HTTPException, match=words) as caught:
            trainer.order(params or {}, store)
        assert caught.value.status_code == 400

    assert len(trainer.order({}, store).files) == 4
    refused("is not a parameter of training", {"epochs": 3})
    folder = Path(store._datastore_path)
    save_split(folder / SPLIT_NAME, Split(seed=1, train=["a", "b", "c"], validation=[]))
    refused("on the training side of training_split.json: label one more")
    (folder / SPLIT_NAME).write_text("{}")
    refused("is not a split file")
    (folder / SPLIT_NAME).unlink()
    trainer.model.unlink()
    refused("There is no prato_unetr.safetensors to start from")
    with pytest.raises(HTTPException, match="to start from"):
        trainer({}, store)
