"""What images are, read from their headers: cines and their phases, damaged files, and those that could not be read once."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

import lib.datastore.index
import lib.datastore.studies
from lib.datastore.studies import StudiesDatastore
from prato.data.cine import write_cine
from prato.data.nifti import write_volume
from prato.data.nifti_head import unreadable
from prato.data.studies.folder import Manifest, Study, save_manifest

AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    for name in "ab":
        write_volume(tmp_path / f"{name}.nii.gz", np.ones((8, 7, 3), np.int16), AFFINE)
    return tmp_path


@pytest.fixture
def store(folder: Path) -> StudiesDatastore:
    return StudiesDatastore(str(folder))


def test_the_manifest_says_where_a_heartbeat_is_fullest_until_somebody_marks_it(folder: Path, store: StudiesDatastore) -> None:
    for name in ("c", "d"):
        write_cine(folder / f"{name}.nii.gz", np.ones((8, 7, 3, 5), np.int16), AFFINE)
    store.refresh()
    store.update_image_info("d", {"marked": {"ed": 0, "es": 1, "annotator": "Ada"}})
    studies = {name: Study(patient=name, ed=3, es=2) for name in "abcd"}
    save_manifest(folder, Manifest(source="ACDC", studies=studies))
    store.refresh()
    marked = {name: store.get_image_info(name).get("marked") for name in "acd"}
    assert marked["a"] is None  # it is no cine
    assert marked["c"].keys() == {"ed", "es", "source", "ts"}  # no person has marked it
    assert (marked["c"]["ed"], marked["c"]["es"], marked["c"]["source"]) == (3, 2, "manifest")
    assert marked["d"]["annotator"] == "Ada"


def test_how_many_phases_there_are_is_known_again_of_a_study_that_another_server_listed(folder: Path, store: StudiesDatastore) -> None:
    write_cine(folder / "c.nii.gz", np.ones((8, 7, 3, 5), np.int16), AFFINE)
    store.refresh()
    listed = json.loads((folder / "datastore_v2.json").read_bytes())
    for name in ("phases", "times_ms"):  # a stock server does not say
        del listed["objects"]["c"]["image"]["info"][name]
    (folder / "datastore_v2.json").write_text(json.dumps(listed))
    store.refresh()
    assert store.get_image_info("c")["phases"] == 5


def test_a_damaged_image_is_read_once(folder: Path, store: StudiesDatastore, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "c.nii.gz").write_bytes(b"torn")
    read: list[Path] = []
    real = lib.datastore.index.read_cine_head
    monkeypatch.setattr(lib.datastore.index, "read_cine_head", lambda path: read.append(path) or real(path))
    for _ in range(3):
        store.refresh()
    assert read == [folder / "c.nii.gz"] and "c" in store.list_images()


def test_a_cine_that_the_system_did_not_let_be_read_once_has_its_phases_the_next_time(
    folder: Path, store: StudiesDatastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        error = PermissionError(errno.EACCES, "Permission denied")
        raise unreadable(path.name, error) from error

    write_cine(folder / "c.nii.gz", np.ones((8, 7, 3, 5), np.int16), AFFINE, 100)
    with monkeypatch.context() as patched:
        patched.setattr(lib.datastore.index, "read_cine_head", refuse)
        store.refresh()
    assert "phases" not in store.get_image_info("c")
    store.refresh()
    assert store.get_image_info("c")["phases"] == 5
