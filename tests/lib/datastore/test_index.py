"""The list of studies, however it is damaged, comes back from the files with all that labellers said."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fastapi import HTTPException

import lib.datastore.entries
import lib.datastore.index
import lib.datastore.studies
from lib.datastore.pacs import PacsDatastore
from lib.datastore.studies import StudiesDatastore
from prato.data.atomic import stage_bytes
from prato.data.cine import write_cine
from prato.data.nifti import Volume, read_volume, write_volume
from prato.data.studies.folder import Manifest, Study, save_manifest
from prato.exchange.staging import staging_folder
from prato.labelling.records import LabelVersionError
from prato.labelling.versions import LabelVersions
from prato_server.settings import load_settings

AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])
MASK = np.full((8, 7, 3), 2, np.uint8)
SENT = {"annotator": "Ada", "box": [1, 2, 3, 4, 0, 3], "model_version": "0123456789ab"}


def truncated(index: Path) -> None:
    index.write_bytes(index.read_bytes()[:-40])


def garbage(index: Path) -> None:
    index.write_bytes(b"\xff\xfe\x00" * 99)


def emptied(index: Path) -> None:
    index.write_bytes(b"")


def another(index: Path) -> None:
    index.write_text('{"objects": {"a": 7}}')


def deleted(index: Path) -> None:
    index.unlink()


DAMAGE = pytest.mark.parametrize("damage", [truncated, garbage, emptied, another, deleted])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    for name in "ab":
        write_volume(tmp_path / f"{name}.nii.gz", np.ones(MASK.shape, np.int16), AFFINE)
    return tmp_path


@pytest.fixture
def store(folder: Path) -> StudiesDatastore:
    """Studies a and b; a has a label of Ada's."""
    store = StudiesDatastore(str(folder))
    write_volume(folder / "sent.tmp", MASK, AFFINE)
    store.save_label("a", str(folder / "sent.tmp"), "final", SENT)
    return store


def entry(folder: Path) -> dict:
    return json.loads((folder / "datastore_v2.json").read_bytes())["objects"]["a"]["labels"]["final"]["info"]


@DAMAGE
def test_at_start(folder: Path, store: StudiesDatastore, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture) -> None:
    before = entry(folder)
    damage(folder / "datastore_v2.json")
    with caplog.at_level(logging.WARNING, "lib.datastore.index"):
        again = StudiesDatastore(str(folder))
    assert sorted(again.list_images()) == ["a", "b"]
    assert again.get_label_info("a", "final") == entry(folder) == before
    assert SENT.items() <= before.items()
    assert caplog.text.count("rebuilt from the files") == 1
    assert (folder / "datastore_v2.damaged").exists() == (damage is not deleted)


@DAMAGE
def test_while_the_server_runs(folder: Path, store: StudiesDatastore, damage: Callable[[Path], None]) -> None:
    store.update_image_info("b", {"quality": "poor"})
    before = (folder / "datastore_v2.json").read_bytes()
    damage(folder / "datastore_v2.json")
    store.refresh()
    assert (folder / "datastore_v2.json").read_bytes() == before


def test_a_folder_without_an_image_is_said_to_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    (tmp_path / "scan.nrrd").touch()
    StudiesDatastore(str(tmp_path))
    messages = [record.getMessage() for record in caplog.records]
    assert f"{tmp_path} holds no image yet: put NIfTI files (.nii.gz, .nii) into it, or upload them." in messages
    assert any(message.startswith("scan.nrrd is left out: its format is not read") for message in messages)


def test_who_serves_a_pacs_is_not_told_to_put_files_into_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PRATO_LABEL_PACS_FOLDER", str(tmp_path / "kept"))
    PacsDatastore("http://127.0.0.1:9/nowhere", load_settings(), {}).close()
    assert "holds no image" not in caplog.text


def test_a_new_folder_is_no_reason_to_warn(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lib.datastore.index"):
        StudiesDatastore(str(folder))
    # the thread of a store that another test has closed may still tell that its PACS cannot be reached
    assert not [record for record in caplog.records if record.name != "lib.datastore.pacs"]


def test_what_comes_into_the_folder_is_seen_whole_or_not_at_all(
    folder: Path, store: StudiesDatastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests and other servers look at the list while it is made anew, which takes as long as a file takes to be read."""
    index, seen = folder / "datastore_v2.json", []

    def spy(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def looked(*arguments: Any) -> Any:
            seen.append((json.loads(index.read_bytes())["objects"], store.json()["objects"]))
            return real(*arguments)

        monkeypatch.setattr(module, name, looked)

    spy(lib.datastore.index, "find_files")
    spy(lib.datastore.index, "read_cine_head")
    spy(lib.datastore.entries, "convert_found_label")
    spy(lib.datastore.entries, "load_manifest")
    before = store.json()["objects"]
    write_cine(folder / "c.nii.gz", np.ones((8, 7, 3, 5), np.int16), AFFINE)
    save_manifest(folder, Manifest(source="ACDC", studies={"c": Study(patient="c", ed=3, es=2)}))
    write_volume(folder / "labels" / "final" / "b.nii.gz", MASK, AFFINE)
    (folder / "a.nii.gz").unlink()
    store.refresh()
    after = store.json()["objects"]
    assert len(seen) > 4 and all(pair == (before, before) for pair in seen)
    assert sorted(after) == ["b", "c"] and json.loads(index.read_bytes())["objects"] == after
    assert after["c"]["image"]["info"]["phases"] == 5 and after["c"]["image"]["info"]["marked"]["ed"] == 3
    assert after["b"]["labels"]["final"]["info"]["version"] == 1


def fail_to_look(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fails(versions: LabelVersions, image: str) -> tuple[str, ...]:
        raise error

    monkeypatch.setattr(lib.datastore.entries, "convert_found_label", fails)


@pytest.mark.parametrize(
    "error",
    [PermissionError(errno.EACCES, "Permission denied"), LabelVersionError("it leads outside."), HTTPException(503, "No PACS answers.")],
)
def test_a_label_that_cannot_be_looked_at_hides_nothing_else(
    folder: Path, store: StudiesDatastore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    fail_to_look(monkeypatch, error)
    write_volume(folder / "labels" / "final" / "b.nii.gz", MASK, AFFINE)
    write_volume(folder / "c.nii.gz", np.ones(MASK.shape, np.int16), AFFINE)
    for _ in range(2):
        store.refresh()
    assert sorted(store.list_images()) == ["a", "b", "c"] and SENT.items() <= entry(folder).items()
    assert [record.getMessage()[:49] for record in caplog.records] == ["b: its label with the tag final cannot be checked"]
    monkeypatch.undo()
    store.refresh()
    assert store.get_label_info("b", "final")["version"] == 1


def test_odd_things_among_the_labels_hide_nothing(folder: Path, store: StudiesDatastore, caplog: pytest.LogCaptureFixture) -> None:
    os.symlink("loop", folder / "labels" / "loop")
    (folder / "labels" / "notes.txt").write_text("no tag")
    write_volume(folder / "labels" / "final" / "nobody.nii.gz", MASK, AFFINE)
    write_volume(folder / "c.nii.gz", np.ones(MASK.shape, np.int16), AFFINE)
    store.refresh()
    assert sorted(store.list_images()) == ["a", "b", "c"]
    assert caplog.messages == ["labels/final/nobody.nii.gz belongs to no study: no image has its name."]


def test_names_that_are_listed_for_another_file_are_not_those_of_a_label(folder: Path) -> None:
    (folder / "labels" / "final").mkdir(parents=True)
    write_volume(folder / "labels" / "final" / "a.nii.gz", MASK, AFFINE)
    named = {"label_info": [{"name": "left ventricle", "idx": 2}]}
    listed = {"image": {"ext": ".nii.gz", "info": {}}, "labels": {"final": {"ext": ".nii", "info": named}}}
    (folder / "datastore_v2.json").write_text(json.dumps({"name": "new-dataset", "description": "", "objects": {"a": listed}}))
    store = StudiesDatastore(str(folder))
    assert store.get_label_info("a", "final")["voxels"] == {"myocardium": MASK.size}
    assert (np.asarray(read_volume(Path(store.get_label_uri("a", "final"))).array) == MASK).all()


def test_a_list_that_is_lost_while_the_disk_is_full_is_kept_in_memory(
    folder: Path, store: StudiesDatastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lib.datastore.index, "write_bytes", full)
    (folder / "datastore_v2.json").unlink()
    write_volume(folder / "c.nii.gz", np.ones(MASK.shape, np.int16), AFFINE)
    store.refresh()
    assert sorted(store.list_images()) == ["a", "b", "c"] and SENT.items() <= store.get_label_info("a", "final").items()
    monkeypatch.undo()
    store.refresh()
    assert sorted(json.loads((folder / "datastore_v2.json").read_bytes())["objects"]) == ["a", "b", "c"]


def test_a_label_in_a_format_that_is_not_read_is_none_though_it_is_listed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "labels" / "final").mkdir(parents=True, exist_ok=True)
    (folder / "labels" / "final" / "a.nrrd").write_bytes(b"NRRD0004\n")
    entry = {"image": {"ext": ".nii.gz", "info": {}}, "labels": {"final": {"ext": ".nrrd", "info": {"label_info": []}}}}
    (folder / "datastore_v2.json").write_text(json.dumps({"name": "new-dataset", "description": "", "objects": {"a": entry}}))
    store = StudiesDatastore(str(folder))
    assert "final" not in store.get_labels_by_image_id("a") and not [each for each in store.datalist() if "a.nrrd" in each["label"]]
    assert any(record.getMessage().startswith("a.nrrd is left out: its format is not read") for record in caplog.records)


def test_what_killed_processes_left_is_swept_away_and_nothing_else(folder: Path, store: StudiesDatastore) -> None:
    names = ("datastore_v2.json", "study_decisions.json", "manifest.json", "c.nii.gz")
    for name in names:
        (folder / f".{name}.x7_k2mqz.tmp").write_bytes(b"half")
    (folder / "labels" / "original").mkdir(parents=True, exist_ok=True)
    (folder / "labels" / "original" / ".a.nii.gz.x7_k2mqz.tmp").write_bytes(b"half")
    (folder / ".import-x7_k2mqz.tmp" / "phases").mkdir(parents=True)
    foreign = [".syncthing.c.nii.gz.tmp", ".c.nii.gz.tmp"]
    for name in foreign:
        (folder / name).write_bytes(b"another program's")
    with stage_bytes(folder / "d.nii.gz", b"one that is being written"), staging_folder(folder) as staged:
        assert StudiesDatastore(str(folder)).list_images() == store.list_images()
        left = {path.name for path in folder.rglob(".*.tmp")}
        assert left - {*foreign, staged.name} == {name for name in left if name.startswith(".d.nii.gz.")} and len(left) == 4
    assert sorted(path.name for path in folder.rglob(".*.tmp")) == sorted(foreign) and (folder / "d.nii.gz").exists()


def test_what_a_label_is_said_to_be_follows_the_file(folder: Path, store: StudiesDatastore) -> None:
    """Labels restored by the script, or put there by hand, beside a server that runs."""
    LabelVersions(folder, "a").save(Volume(MASK, AFFINE), {"annotator": "Bob"})  # the very same voxels
    store.refresh()
    assert (entry(folder)["annotator"], entry(folder)["version"]) == ("Bob", 2)
    write_volume(folder / "labels" / "final" / "a.nii.gz", MASK // 2, AFFINE)
    store.refresh()
    assert entry(folder)["annotator"] == "unknown"
    assert (entry(folder)["version"], entry(folder)["voxels"]) == (3, {"RV cavity": 168})
    unchanged = (folder / "datastore_v2.json").stat().st_mtime_ns
    store.refresh()
    assert (folder / "datastore_v2.json").stat().st_mtime_ns == unchanged


@pytest.mark.parametrize(
    ("sent", "annotator"),
    [
        ({"annotator": " Ada "}, "Ada"),
        ({"annotator": "", "client_id": "viewer 7"}, "viewer 7"),
        ({"annotator": ""}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_the_list_names_the_annotator_of_the_version(folder: Path, sent: dict[str, Any], annotator: str) -> None:
    """It had what the client sent under that name: nothing, of stock clients."""
    store = StudiesDatastore(str(folder))
    write_volume(folder / "sent.tmp", MASK, AFFINE)
    store.save_label("a", str(folder / "sent.tmp"), "final", sent)
    assert [version.annotator for version in store.versions("a", "final").all()] == [annotator]
    assert entry(folder)["annotator"] == annotator
    (folder / "datastore_v2.json").unlink()
    StudiesDatastore(str(folder))
    assert entry(folder)["annotator"] == annotator
    listed = json.loads((folder / "datastore_v2.json").read_text())
    listed["objects"]["a"]["labels"]["final"]["info"] |= {"annotator": sent.get("annotator", "")}  # as of before
    (folder / "datastore_v2.json").write_text(json.dumps(listed))
    StudiesDatastore(str(folder)).refresh()
    assert entry(folder)["annotator"].strip() == annotator


def test_a_folder_from_before_there_were_versions(folder: Path) -> None:
    """Then the list alone knew whose a label is, and replaced labels lay in the history without a record."""
    (folder / "labels" / "final").mkdir(parents=True)
    write_volume(folder / "labels" / "final" / "a.nii.gz", MASK, AFFINE)
    (folder / "label_history" / "final" / "a").mkdir(parents=True)
    write_volume(folder / "label_history" / "final" / "a" / "0001.nii.gz", MASK // 2, AFFINE)
    label = {"ext": ".nii.gz", "info": {**SENT, "ts": 1, "name": "a.nii.gz", "voxels": {}}}
    study = {"image": {"ext": ".nii.gz", "info": {}}, "labels": {"final": label}}
    text = json.dumps({"name": "x", "description": "y", "images_dir": ".", "labels_dir": "labels", "objects": {"a": study}})
    (folder / "datastore_v2.json").write_text(text)
    store = StudiesDatastore(str(folder))
    assert [(v.version, v.annotator) for v in store.versions("a", "final").all()] == [(1, "unknown"), (2, "Ada")]
    assert SENT.items() <= store.get_label_info("a", "final").items()
    (folder / "datastore_v2.json").unlink()
    assert SENT.items() <= StudiesDatastore(str(folder)).get_label_info("a", "final").items()


def test_a_list_dated_1970_is_read(folder: Path, store: StudiesDatastore) -> None:
    """As on a machine whose clock was lost: what was said of images stands in the list alone."""
    store.update_image_info("b", {"quality": "poor"})
    os.utime(folder / "datastore_v2.json", (0, 0))
    assert StudiesDatastore(str(folder)).get_image_info("b")["quality"] == "poor"


def test_a_full_disk_loses_no_label_and_no_watcher(folder: Path, store: StudiesDatastore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list alone finds no room: the label, which is stored, is acknowledged, the folder is looked through, and a server can start."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_volume(folder / "upload.tmp.nii", MASK // 2, AFFINE)
    before = (folder / "datastore_v2.json").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("lib.datastore.index.write_bytes", full)
        saved = store.submit_label("a", str(folder / "upload.tmp.nii"), "final", {})
        assert saved is not None and saved.version.version == 2
        write_volume(folder / "c.nii.gz", np.ones(MASK.shape, np.int16), AFFINE)
        for listed in (store, StudiesDatastore(str(folder))):
            listed.refresh()
            assert "c" in listed.list_images()
            assert listed.get_label_info("a", "final")["version"] == 2
        assert (folder / "datastore_v2.json").read_bytes() == before
        with pytest.raises(OSError, match="No space left"):
            store.update_image_info("b", {"quality": "poor"})  # which nothing else keeps
    store.refresh()
