"""What stands between a request for inference and MONAI Label's own route."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lib.datastore.studies
from lib.datastore.studies import StudiesDatastore
from lib.server.infer_routes import _source
from prato.data.nifti import write_volume


def test_an_image_that_was_removed_meanwhile_is_named_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    write_volume(tmp_path / "a.nii.gz", np.ones((4, 3, 2), np.int16), np.eye(4))
    store = StudiesDatastore(str(tmp_path))
    app: Any = SimpleNamespace(datastore=lambda: store)
    with _source(app, "a", None) as source:
        assert source == str(tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.gz").unlink()  # by another program, a moment ago
    with pytest.raises(FileNotFoundError, match=r"a\.nii\.gz"), _source(app, "a", None):
        pass
