"""The card beside a model file is that of the model that answers, however it came there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prato.data.structures import STRUCTURES
from prato.models.card import stated_version
from prato.models.checkpoint import load_model, save_model, version_of
from prato.retraining.model_store import ModelStore
from tests.app.hearts import blank_model

_CARD = """# A heart network

- File: `m.safetensors`, version `{version}`, 1.0 MB
- Data: a hundred hearts
- Licence of the weights: research only
- Not for clinical use: one centre.
"""
_ROUND = {
    **{"dice_before": 0.71234, "dice_after": 0.8, "structures": {name: {"before": 0.7, "after": 0.8} for name in STRUCTURES}},
    **{"patients": {"train": ["a", "b"], "validation": ["c"]}, "labels": {"a_ED": "0" * 64, "b_ED": "1" * 64, "c_ED": "2" * 64}},
    **{"seconds": 12.3, "share_of_new_weights": 0.25, "base": None, "job": "x", "seed": 3, "steps": 7},
}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    model = tmp_path / "m.safetensors"
    blank_model(model)
    model.with_suffix(".md").write_text(_CARD.format(version=version_of(model.read_bytes())))
    return ModelStore(model)


def trained(store: ModelStore, number: int) -> bytes:
    """Another model file than any before."""
    network, spec, version = load_model(store.model)
    made = {"started_from": version, "seed": number, "steps": 7, "device": "cpu", "command": "POST /train/m {}"}
    path = store.model.parent / "candidate"
    save_model(path, network, spec.model_copy(update={"training": made}))
    return path.read_bytes()


def publish(store: ModelStore, number: int) -> str:
    data = trained(store, number)
    store.publish(data, store.history()[-1].version, "mean Dice 0.7123 -> 0.8000 on 1 patient held out", _ROUND)
    return version_of(data)


def card(store: ModelStore) -> str:
    return store.model.with_suffix(".md").read_text()


def test_a_retrained_model_has_its_own_card_and_inherits_the_rest(store: ModelStore) -> None:
    shipped, first = card(store), store.history()[-1].version
    second = publish(store, 1)
    third = publish(store, 2)
    text = card(store)
    assert stated_version(text) == third
    assert "# A heart network, retrained\n" in text
    assert "- Data: a hundred hearts; then labels of the server that retrained it\n" in text
    assert "- Licence of the weights: research only; inherited, and the labels that it was retrained on may narrow it\n" in text
    assert f"- Parent: version `{second}` (trained) <- version `{first}` (shipped)\n" in text
    assert "- Labels of this round: 3, each listed with its SHA-256 in `versions/m/history.json`\n" in text
    assert "- Split: by patient, train 2, validation 1, listed in `training_split.json` of the studies folder\n" in text
    assert "- Seed 2; 7 steps on cpu\n- Command: `POST /train/m {}`\n" in text
    assert "- Not for clinical use: one centre.\n" in text
    assert "Mean Dice 0.7123 -> 0.8000 on 1 patient held out" in text
    assert "| mean | 0.712 | 0.800 |" in text and "| RV cavity | 0.700 | 0.800 |" in text
    store.roll_back(first)
    assert card(store) == shipped
    store.roll_back(third)
    assert card(store) == text


def test_a_card_that_an_earlier_version_of_the_app_left_beside_a_retrained_model_is_put_right(store: ModelStore) -> None:
    shipped = card(store)
    version = publish(store, 1)
    right = card(store)
    (store.folder / f"{version}.md").unlink(missing_ok=True)
    store.model.with_suffix(".md").write_text(shipped)
    store.recover()
    assert card(store) == right


def test_of_a_file_that_was_sent_or_put_there_nothing_is_claimed(store: ModelStore) -> None:
    store.history()
    sent, by_hand = trained(store, 1), trained(store, 2)
    store.upload(sent)
    assert stated_version(card(store)) == version_of(sent)
    assert "Data: not known" in card(store) and "Licence of the weights: not known" in card(store) and "sent by a client" in card(store)
    store.model.write_bytes(by_hand)
    store.recover()
    assert stated_version(card(store)) == version_of(by_hand) and "put there by hand" in card(store)


def test_a_card_that_somebody_wrote_for_a_model_of_their_own_stays(store: ModelStore) -> None:
    store.history()
    store.model.write_bytes(trained(store, 1))
    store.model.with_suffix(".md").write_text("# Mine\n")
    mine = store.history()[-1].version
    assert card(store) == "# Mine\n"
    publish(store, 2)
    assert "# Mine, retrained" in card(store)
    store.roll_back(mine)
    assert card(store) == "# Mine\n"


class Killed(BaseException):
    pass


def test_killed_at_any_write_the_card_is_that_of_the_model_that_answers(store: ModelStore, monkeypatch) -> None:
    writes, real = iter(()), os.replace

    def replaces(temporary: Path, path: Path) -> None:
        if next(writes, "on") == "killed":
            raise Killed
        real(temporary, path)

    monkeypatch.setattr(os, "replace", replaces)
    for survived in range(5):
        data, parent = trained(store, survived), store.history()[-1].version
        writes = iter(["on"] * survived + ["killed"])
        with pytest.raises(Killed):
            store.publish(data, parent, "better", _ROUND)
        writes = iter(())
        store.recover()
        assert stated_version(card(store)) == version_of(store.model.read_bytes())
        assert (store.model.read_bytes() == data) == (survived >= 2)


def test_cards_go_with_the_files_that_they_are_of(store: ModelStore) -> None:
    for number in range(9):
        publish(store, number)
    store.recover()
    assert {path.stem for path in store.folder.glob("*.md")} == {path.stem for path in store.folder.glob("*.safetensors")}
