"""Versions are kept, can be gone back to, and survive being killed at any write."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from prato.models.checkpoint import version_of
from prato.retraining import model_store
from prato.retraining.model_store import ModelStore, ReplacedError, StoreError, UnknownVersionError

FIRST = b"model 0"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    (tmp_path / "m.safetensors").write_bytes(FIRST)
    return ModelStore(tmp_path / "m.safetensors")


def publish(store: ModelStore, *numbers: int) -> None:
    for number in numbers:
        store.publish(b"model %d" % number, store.history()[-1].version, "better", {"seed": number})


def kept(store: ModelStore) -> set[str]:
    return {path.read_bytes().decode()[-1] for path in store.folder.glob("*.safetensors")}


def test_the_first_model_has_a_record_before_any_training(store: ModelStore) -> None:
    (record,) = store.history()
    assert (record.kind, record.version, record.parent, record.published) == ("shipped", version_of(FIRST), None, True)
    assert store.file(record.version).read_bytes() == FIRST


def test_records_are_all_kept_and_files_of_the_first_and_the_last(store: ModelStore) -> None:
    publish(store, *range(1, 10))
    records = store.history()
    assert [record.training.get("seed") for record in records] == [None, *range(1, 10)]
    assert [record.parent for record in records[1:]] == [record.version for record in records[:-1]]
    assert kept(store) == set("0456789")
    assert store.model.read_bytes() == b"model 9"


def test_back_and_back_again(store: ModelStore) -> None:
    publish(store, *range(1, 10))
    newest = store.history()[-1].version
    back = store.roll_back(version_of(FIRST))
    assert (back.kind, back.version, back.parent) == ("rolled_back", version_of(FIRST), newest)
    assert store.model.read_bytes() == FIRST
    store.roll_back(newest)
    assert store.model.read_bytes() == b"model 9"
    assert len(store.history()) == 12


def test_where_there_is_no_way_back(store: ModelStore) -> None:
    publish(store, *range(1, 10))
    store.refuse("abcdef123456", store.history()[-1].version, "worse", {})
    before = len(store.history())
    for version in (version_of(b"model 2"), "abcdef123456", "../m", ""):
        with pytest.raises(UnknownVersionError, match="to roll back to: choose"):
            store.roll_back(version)
    with pytest.raises(ReplacedError, match="is already the current model"):
        store.roll_back(version_of(b"model 9"))
    assert (len(store.history()), store.model.read_bytes()) == (before, b"model 9")


def test_a_model_put_there_by_hand_is_kept_and_not_overrun(store: ModelStore) -> None:
    first = store.history()[-1].version
    store.model.write_bytes(b"by hand")
    with pytest.raises(ReplacedError, match="was replaced by"):
        store.publish(b"trained", first, "better", {})
    assert store.model.read_bytes() == b"by hand"
    assert [record.kind for record in store.history()] == ["shipped", "found"]
    store.upload(b"sent")
    assert store.file(version_of(b"by hand")).read_bytes() == b"by hand"


def test_a_model_that_is_being_copied_there_is_no_version_before_it_is_whole(store: ModelStore) -> None:
    """Nor is one that was cut short since, instead of which the last one can be taken back."""
    publish(store, 1)
    whole = save({"weight": torch.zeros(100)}, {"prato": "{}"})
    for length in (0, 9, 50, len(whole) - 1, len(whole)):
        store.model.write_bytes(whole[:length])
        assert len(store.history()) == 2 + (length == len(whole)), length
    store.model.write_bytes(whole[:50])
    assert store.roll_back(version_of(whole)).version == version_of(whole)
    assert store.model.read_bytes() == whole


def test_an_update_that_copies_the_shipped_models_over_trained_ones_says_so(store: ModelStore, caplog) -> None:
    publish(store, 1)
    store.model.write_bytes(FIRST)
    store.recover()
    store.recover()
    (warning,) = caplog.messages
    assert f"roll back to {version_of(b'model 1')}" in warning
    store.roll_back(version_of(b"model 1"))
    store.model.write_bytes(FIRST)  # and once more, over the one that was taken back
    store.recover()
    assert len(caplog.messages) == 2
    store.model.write_bytes(b"a newer shipped one, over a shipped one")
    store.recover()
    assert len(caplog.messages) == 2


class Killed(BaseException):
    pass


def test_killed_at_any_write_the_old_or_the_new_model_answers_and_the_history_agrees(store: ModelStore, monkeypatch) -> None:
    write, real = iter(()), os.replace

    def replaces(temporary: Path, path: Path) -> None:
        if next(write, "on") == "killed":
            raise Killed
        real(temporary, path)

    monkeypatch.setattr(os, "replace", replaces)
    for survived in range(4):
        new = b"model %d" % (survived + 1)
        old, parent = store.model.read_bytes(), store.history()[-1].version
        write = iter(["on"] * survived + ["killed"])
        with pytest.raises(Killed):
            store.publish(new, parent, "better", {})
        assert store.model.read_bytes() in (old, new)
        (store.folder / f".{store.model.name}.x.tmp").write_bytes(b"half")
        records = store.history()  # the next look finishes what was begun
        assert records[-1].version == version_of(store.model.read_bytes())
        assert (store.model.read_bytes() == new) == (survived >= 2)
        assert not list(store.folder.glob("*replacing*")) + list(store.folder.glob("*.tmp"))
        assert len({record.when + record.version for record in records}) == len(records)


def test_a_damaged_history_is_said_and_left_alone(store: ModelStore) -> None:
    publish(store, 1)
    (store.folder / "history.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read: restore it"):
        store.history()
    store.recover()
    assert (store.folder / "history.json").read_text() == "{"


@pytest.mark.parametrize("damage", ["intent", "file cut short", "file gone"])
def test_a_replacement_that_was_cut_off_and_then_damaged_is_given_up(store: ModelStore, monkeypatch, damage: str) -> None:
    """The server starts, and the model that answered answers."""
    store.history()
    replace = os.replace

    def killed(temporary: Path, path: Path) -> None:
        if path == store.model:
            raise Killed
        replace(temporary, path)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(os, "replace", killed)
        store.upload(b"model 1")
    intent, file = store.folder / "replacing.json", store.file(version_of(b"model 1"))
    if damage == "intent":
        intent.write_bytes(intent.read_bytes()[:30])
    elif damage == "file cut short":
        file.write_bytes(b"mod")
    else:
        file.unlink()
    store.recover()
    assert not intent.exists()
    assert store.model.read_bytes() == FIRST
    assert [record.version for record in store.history()] == [version_of(FIRST)]


def test_there_is_no_way_back_to_a_damaged_file(store: ModelStore) -> None:
    publish(store, 1)
    store.file(version_of(FIRST)).write_bytes(FIRST[:3])
    with pytest.raises(StoreError, match="is damaged: restore it from a backup"):
        store.roll_back(version_of(FIRST))
    assert store.model.read_bytes() == b"model 1"
    assert len(store.history()) == 2


def test_a_full_disk_is_no_reason_not_to_start(store: ModelStore, monkeypatch, caplog) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(model_store, "write_bytes", full)
    store.recover()
    assert "No space left" in caplog.text


@pytest.mark.parametrize("written", range(4))
def test_a_model_that_a_full_disk_refused_does_not_answer_once_there_is_room(store: ModelStore, monkeypatch, written: int) -> None:
    """Whoever sent it was told 507, and a training that it has failed."""
    publish(store, 1)
    records, sync, files = store.history(), os.fsync, iter(range(written))

    def syncs(handle: int) -> None:
        if next(files, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(os, "fsync", syncs)
        store.upload(b"model 2")
    assert store.history() == records
    assert (store.model.read_bytes(), kept(store)) == (b"model 1", {"0", "1"})


def test_what_a_killed_process_left_of_a_model_is_removed(store: ModelStore) -> None:
    """As large as the model, it would stay for ever."""
    publish(store, 1)
    halves = [store.model.with_name(f".{store.model.name}.x7_k2mqz.tmp"), store.folder / ".history.json.x7_k2mqz.tmp"]
    for half in halves:
        half.write_bytes(b"half")
    other = store.model.with_name(".other.safetensors.x7_k2mqz.tmp")
    other.write_bytes(b"another store's")
    store.recover()
    assert not any(half.exists() for half in halves) and other.exists()
