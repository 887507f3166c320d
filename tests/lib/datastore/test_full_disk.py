"""What a full disk refuses."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from lib.datastore.studies import StudiesDatastore, settings
from prato.data.nifti import write_volume

AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])
MASK = np.random.default_rng(0).integers(0, 4, (8, 7, 3)).astype(np.uint8)


def test_what_a_full_disk_refuses_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the list alone finds no room, neither files nor what the server says may tell of what was refused, then or later."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    folder = tmp_path / "studies"
    folder.mkdir()
    for name in ("a", "b"):
        write_volume(folder / f"{name}.nii.gz", np.ones(MASK.shape, np.int16), AFFINE)
    store = StudiesDatastore(str(folder))
    for name in ("sent", "image"):
        write_volume(tmp_path / f"{name}.nii.gz", MASK // 2, AFFINE)
    store.update_image_info("b", {"quality": "good"})
    store.submit_label("a", str(tmp_path / "sent.nii.gz"), "original", {"model": "first"})
    write_volume(tmp_path / "sent.nii.gz", MASK, AFFINE)
    refused = (
        lambda: store.update_image_info("b", {"quality": "poor"}),
        lambda: store.add_image("new", str(tmp_path / "image.nii.gz"), {}),
        lambda: store.submit_label("a", str(tmp_path / "sent.nii.gz"), "original", {"model": "second"}),
    )
    before, said = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}, store.json()
    with monkeypatch.context() as patched:
        patched.setattr("lib.datastore.index.write_bytes", full)
        for change in refused:
            with pytest.raises(OSError, match="No space"):
                change()
            assert store.json() == said
    store.refresh()
    assert store.json() == said == StudiesDatastore(str(folder)).json()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    for change in refused:
        change()
    assert store.get_image_info("b")["quality"] == "poor" and "new" in store.list_images()
