"""A studies folder that is moved, or not mounted any more, while a server works on it."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi import HTTPException, Request, UploadFile

import lib.datastore.pacs
import lib.datastore.studies
from lib.datastore.pacs import PacsDatastore
from lib.datastore.studies import StudiesDatastore
from lib.server import checks, errors, import_routes, label_routes
from prato.data.nifti import write_volume
from prato.pacs.catalog import Catalog, Examination
from prato.pacs.web import PacsError
from prato_server.settings import load_settings
from tests.waiting import wait_until

AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])
MASK = np.full((8, 7, 3), 2, np.uint8)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudiesDatastore:
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    (tmp_path / "studies").mkdir()
    write_volume(tmp_path / "studies" / "a.nii.gz", np.ones(MASK.shape, np.int16), AFFINE)
    write_volume(tmp_path / "label.nii.gz", MASK, AFFINE)
    store = StudiesDatastore(str(tmp_path / "studies"))
    store.submit_label("a", str(tmp_path / "label.nii.gz"), "final", {"annotator": "Ada"})
    store.update_image_info("a", {"note": "before"})
    return store


CHANGES: list[Callable[[StudiesDatastore], object]] = [
    lambda store: store.refresh(),
    lambda store: store.update_image_info("a", {"note": "lost"}),
    lambda store: store.update_label_info("a", "final", {"note": "lost"}),
    lambda store: store.submit_label("a", str(store.folder.parent / "label.nii.gz"), "final", {"annotator": "Ben"}),
    lambda store: store.review_label("a", "final", "approved", {"annotator": "Ben"}),
    lambda store: store.restore_label("a", "final", 1, {"annotator": "Ben"}),
    lambda store: store.remove_label("a", "final", "Ben"),
    lambda store: store.remove_image("a", "Ben"),
    lambda store: store.add_image("b", str(store.folder.parent / "label.nii.gz"), {}),
    lambda store: store.versions("a", "final"),
    lambda store: checks.require_image(SimpleNamespace(datastore=lambda: store), "a"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_empty", [False, True])
def test_nothing_is_taken_that_would_be_lost(store: StudiesDatastore, change: Callable[[StudiesDatastore], object], is_empty: bool) -> None:
    """``is_empty``: what is left in its place, as where a disk was mounted, is an empty folder."""
    folder, away = store.folder, store.folder.parent / "away"
    os.rename(folder, away)
    if is_empty:
        folder.mkdir()
    with pytest.raises(HTTPException, match="is missing") as refused:
        change(store)
    assert refused.value.status_code == 503
    assert os.listdir(folder) == [] if is_empty else not folder.exists()
    if is_empty:
        folder.rmdir()
    os.rename(away, folder)
    store.refresh()
    assert store.get_image_info("a")["note"] == "before" and store.versions("a", "final").current().version == 1  # type: ignore[union-attr]
    store.update_image_info("a", {"note": "after"})
    assert StudiesDatastore(str(folder)).get_image_info("a")["note"] == "after"


def test_no_archive_is_imported_in_the_place_of_a_folder_that_is_away(store: StudiesDatastore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_routes, "app_instance", lambda: SimpleNamespace(datastore=lambda: store))
    with zipfile.ZipFile(archive := BytesIO(), "w") as packed:
        packed.writestr("readme.txt", "no DICOM")
    archive.seek(0)
    os.rename(store.folder, store.folder.parent / "away")
    with pytest.raises(HTTPException, match="is missing") as refused:
        import_routes.import_archive(UploadFile(archive))
    assert refused.value.status_code == 503 and not store.folder.exists()


def test_a_file_that_is_away_with_its_folder_is_not_said_to_be_removed(store: StudiesDatastore, monkeypatch: pytest.MonkeyPatch) -> None:
    app = SimpleNamespace(datastore=lambda: store, app_dir=str(store.folder.parent / "app"))
    monkeypatch.setattr(label_routes, "app_instance", lambda: app)
    monkeypatch.setattr(errors, "app_instance", lambda: app)
    os.rename(store.folder, store.folder.parent / "away")
    with pytest.raises(HTTPException, match="is missing"):
        label_routes.download_label("a", "final")
    request, missing = (
        Request({"type": "http", "method": "GET", "path": "/", "headers": [], "state": {"request_id": "1"}}),
        FileNotFoundError(2, "", store.get_image_uri("a")),
    )
    assert errors._handle_os_error(request, missing).status_code == 503


def test_a_pacs_is_asked_again_once_its_folder_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is made meanwhile where the folder was: it would be taken for the folder."""
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    monkeypatch.setenv("PRATO_LABEL_PACS_FOLDER", str(tmp_path / "kept"))
    monkeypatch.setattr(lib.datastore.pacs, "_AGAIN_S", 0.01)
    asked, may_go_on = Event(), Event()

    def refresh(catalog: Catalog) -> bool:
        asked.set()
        assert may_go_on.wait(200)  # the folder is moved while the PACS is asked
        catalog._remember(Examination(study_instance_uid="1.2", series={}, cines=()))
        raise PacsError("The PACS cannot be reached.", True)

    monkeypatch.setattr(Catalog, "refresh", refresh)
    store = PacsDatastore("http://127.0.0.1:9/nowhere", load_settings(), {})
    try:
        assert asked.wait(200)
        os.rename(store.folder, tmp_path / "away")
        may_go_on.set()
        wait_until(lambda: "is missing" in str(store.pacs_state()["fault"]))
        with pytest.raises(OSError, match="kept"):
            refresh(store._catalog)
        with pytest.raises(HTTPException, match="is missing"):
            store._fetch("cine")
        assert not store.folder.exists()
        os.rename(tmp_path / "away", store.folder)
        wait_until(lambda: store.pacs_state()["fault"] == "The PACS cannot be reached.")
    finally:
        store.close()


def test_whoever_removes_all_labels_goes_on_without_them(store: StudiesDatastore) -> None:
    shutil.rmtree(store.folder / "labels")
    store.refresh()
    assert store.get_labeled_images() == []
    store.submit_label("a", str(store.folder.parent / "label.nii.gz"), "original", {})
    store.submit_label("a", str(store.folder.parent / "label.nii.gz"), "final", {"annotator": "Ben"})
    assert store.get_labeled_images() == ["a"] and store.get_image_info("a")["note"] == "before"
