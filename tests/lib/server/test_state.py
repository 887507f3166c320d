"""What the status page shows of jobs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from lib.jobs.job import Job
from lib.server.page.state import _jobs


def test_jobs_are_listed_newest_first_whichever_kind_they_are() -> None:
    early, late = (Job({"model": "prato_unetr"}, {}, started=f"2026-03-01 {hour}:00:00") for hour in ("08", "10"))
    batch = Job({"model": "prato_unetr"}, {}, started="2026-03-01 09:00:00")
    app = SimpleNamespace(
        trainings=SimpleNamespace(jobs=lambda: [early, late]),
        batches=SimpleNamespace(all=lambda: [SimpleNamespace(job=batch, as_task=lambda: batch.as_task({}))]),
        training_stats=lambda model: {},
    )
    assert [job["kind"] for job in _jobs(cast(Any, app))] == ["train", "batch_infer", "train"]
