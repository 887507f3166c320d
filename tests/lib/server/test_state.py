"""What the pages show."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import nibabel as nib
import pytest
from fastapi import HTTPException

import lib.datastore.studies
from lib.datastore.studies import StudiesDatastore
from lib.jobs.job import Job
from lib.server.page.state import _jobs
from lib.server.page.study import show_study


def test_jobs_are_listed_newest_first_whichever_kind_they_are() -> None:
    early, late = (Job({"model": "prato_unetr"}, {}, started=f"2026-03-01 {hour}:00:00") for hour in ("08", "10"))
    batch = Job({"model": "prato_unetr"}, {}, started="2026-03-01 09:00:00")
    app = SimpleNamespace(
        trainings=SimpleNamespace(jobs=lambda: [early, late]),
        batches=SimpleNamespace(all=lambda: [SimpleNamespace(job=batch, as_task=lambda: batch.as_task({}))]),
        training_stats=lambda model: {},
    )
    assert [job["kind"] for job in _jobs(cast(Any, app))] == ["train", "batch_infer", "train"]


def test_a_study_that_is_too_large_is_too_large_here_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    header = nib.Nifti1Header()
    header.set_data_shape((5000, 5000, 50))
    header["vox_offset"] = 352
    (tmp_path / "huge.nii").write_bytes(header.binaryblock + bytes(4))
    store = StudiesDatastore(str(tmp_path))
    with pytest.raises(HTTPException, match="more voxels") as refused:
        show_study(cast(Any, SimpleNamespace(datastore=lambda: store)), "huge")
    assert refused.value.status_code == 413
