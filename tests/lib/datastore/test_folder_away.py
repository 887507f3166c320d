"""A studies folder that is moved, or not mounted any more, while a server works on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi import HTTPException

import lib.datastore.studies
from lib.datastore.studies import StudiesDatastore
from lib.server import checks
from prato.data.nifti import write_volume

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
    with pytest.raises(HTTPException, match="is away") as refused:
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


def test_whoever_removes_all_labels_goes_on_without_them(store: StudiesDatastore) -> None:
    shutil.rmtree(store.folder / "labels")
    store.refresh()
    assert store.get_labeled_images() == []
    store.submit_label("a", str(store.folder.parent / "label.nii.gz"), "final", {"annotator": "Ben"})
    assert store.get_labeled_images() == ["a"] and store.get_image_info("a")["note"] == "before"
