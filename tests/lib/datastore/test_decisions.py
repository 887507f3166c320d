"""What people said about a study holds as long as its file comes back, whatever becomes of the list."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fastapi import HTTPException

import lib.datastore.decisions
import lib.datastore.studies
from lib.datastore.decisions import FILE_NAME
from lib.datastore.studies import StudiesDatastore
from prato.data.cine import write_cine
from prato.data.nifti import write_volume
from prato.data.studies.folder import Manifest, Study, save_manifest

AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])
REVIEW = {"state": "rejected", "reason": "blurred", "annotator": "Ada", "ts": 7}
MARKED = {"ed": 1, "es": 3, "annotator": "Ada", "ts": 7}
SAID = {"volume": {"review": REVIEW, "scanner": "3 T"}, "beat": {"marked": MARKED}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A volume that was rejected and a cine whose phases were marked; no server is running."""
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    write_volume(tmp_path / "volume.nii.gz", np.ones((8, 7, 3), np.int16), AFFINE)
    write_cine(tmp_path / "beat.nii.gz", np.ones((8, 7, 3, 5), np.int16), AFFINE, 40)
    store = StudiesDatastore(str(tmp_path))
    for study, info in SAID.items():
        store.update_image_info(study, info)
    return tmp_path


def said(store: StudiesDatastore) -> dict[str, dict[str, object]]:
    """Of the studies that are there, what was said about them."""
    infos = {study: store.get_image_info(study) for study in store.list_images()}
    return {study: {name: info[name] for name in ("review", "marked", "scanner") if name in info} for study, info in infos.items()}


def go_away(folder: Path) -> None:
    for study in SAID:
        os.rename(folder / f"{study}.nii.gz", folder.parent / f"{study}.away")


def come_back(folder: Path) -> None:
    for study in SAID:
        os.rename(folder.parent / f"{study}.away", folder / f"{study}.nii.gz")


def test_it_holds_again_once_a_file_is_back(folder: Path) -> None:
    store = StudiesDatastore(str(folder))
    go_away(folder)
    store.refresh()
    assert store.list_images() == []
    come_back(folder)
    store.refresh()
    assert said(store) == said(StudiesDatastore(str(folder))) == SAID


def test_it_holds_where_the_file_was_away_while_a_server_started(folder: Path) -> None:
    (folder / FILE_NAME).unlink()  # as an earlier server left the folder
    go_away(folder)
    assert StudiesDatastore(str(folder)).list_images() == []
    come_back(folder)
    assert said(StudiesDatastore(str(folder))) == SAID


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_bytes(b"\0" * 99), lambda path: path.write_text('{"objects": {}}')]
)
def test_it_holds_where_the_list_is_lost(folder: Path, damage: Callable[[Path], object]) -> None:
    damage(folder / "datastore_v2.json")
    assert said(StudiesDatastore(str(folder))) == SAID


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"\0" * 99), lambda path: path.write_text('{"volume": 5}')])
def test_it_holds_where_its_own_file_is_lost(folder: Path, damage: Callable[[Path], object]) -> None:
    whole = (folder / FILE_NAME).read_bytes()
    damage(folder / FILE_NAME)
    assert said(StudiesDatastore(str(folder))) == SAID
    assert (folder / FILE_NAME).read_bytes() == whole


def test_it_holds_for_a_file_that_is_compressed(folder: Path) -> None:
    store = StudiesDatastore(str(folder))
    write_volume(folder / "volume.nii", np.ones((8, 7, 3), np.int16), AFFINE)
    (folder / "volume.nii.gz").unlink()
    store.refresh()
    assert said(store) == SAID and store.get_image_uri("volume").endswith("volume.nii")


def test_a_mark_of_phases_that_are_not_there_does_not_come_back(folder: Path) -> None:
    store = StudiesDatastore(str(folder))
    (folder / "beat.nii.gz").unlink()
    store.refresh()
    write_cine(folder / "beat.nii.gz", np.ones((8, 7, 3, 2), np.int16), AFFINE, 40)
    store.refresh()
    assert said(store)["beat"] == {}


def test_of_a_study_that_somebody_removed_it_is_forgotten(folder: Path) -> None:
    store = StudiesDatastore(str(folder))
    image = (folder / "volume.nii.gz").read_bytes()
    store.remove_image("volume")
    (folder / "volume.nii.gz").write_bytes(image)
    store.refresh()
    assert said(store) == {"volume": {}, "beat": SAID["beat"]}


def test_what_is_taken_back_stays_taken_back(folder: Path) -> None:
    store = StudiesDatastore(str(folder))
    store.update_image_info("volume", {"review": {**REVIEW, "state": "open", "reason": ""}})
    go_away(folder)
    store.refresh()
    come_back(folder)
    store.refresh()
    assert store.get_image_info("volume")["review"]["state"] == "open"


def test_another_server_of_the_folder_keeps_it_too(folder: Path) -> None:
    one, other = StudiesDatastore(str(folder)), StudiesDatastore(str(folder))
    one.update_image_info("volume", {"scanner": "1.5 T"})
    other.update_image_info("volume", {"note": "x"})
    other.refresh()
    assert json.loads((folder / FILE_NAME).read_text())["volume"] == {"review": REVIEW, "scanner": "1.5 T", "note": "x"}


def test_what_the_manifest_says_is_kept_there_alone(folder: Path) -> None:
    write_cine(folder / "p_4d.nii.gz", np.ones((8, 7, 3, 5), np.int16), AFFINE, 40)
    save_manifest(folder, Manifest(source="x", studies={"p_4d": Study(patient="p", ed=0, es=2)}))
    store = StudiesDatastore(str(folder))
    store.refresh()
    assert store.get_image_info("p_4d")["marked"]["source"] == "manifest" and "p_4d" not in json.loads((folder / FILE_NAME).read_text())


def test_what_cannot_be_stored_is_not_said_to_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = StudiesDatastore(str(folder))

    def refuse(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lib.datastore.decisions, "stage_bytes", refuse)
    with pytest.raises(OSError, match="No space"):
        store.update_image_info("volume", {"review": {**REVIEW, "reason": "another"}})
    assert said(store) == said(StudiesDatastore(str(folder))) == SAID
    with pytest.raises(HTTPException):
        store.update_image_info("nobody", {})
