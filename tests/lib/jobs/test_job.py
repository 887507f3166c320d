"""A job as clients are shown it, when the clock goes back an hour each time that it matters."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lib.jobs.batch import Batch
from lib.jobs.job import Job
from prato.training.progress import TrainingProgress


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    times = iter(now - 3600 * n for n in range(100))
    monkeypatch.setattr(time, "time", lambda: next(times))


def test_the_progress_of_a_training_is_its_own(tmp_path: Path) -> None:
    before, job = Job({}, {}), Job({}, {})
    last = TrainingProgress(tmp_path / "stats.json", 1, 7, 0.5, before.id).state
    job.start()
    assert "progress" not in job.as_task(last)
    assert job.as_task(TrainingProgress(tmp_path / "stats.json", 1, 9, 0.5, job.id).state)["progress"]["total_steps"] == 9


def test_a_batch_has_not_run_for_less_than_no_time() -> None:
    nothing = cast(Any, None)
    batch = Batch({}, cast(Any, SimpleNamespace(studies=["a"])), nothing, nothing)
    batch.job.start()
    assert batch.as_task()["progress"]["seconds"] >= 0


def test_the_stock_slicer_module_finds_a_last_line_whatever_it_stops() -> None:
    job = Job({}, {})
    job.end("stopped")
    assert job.as_task({})["details"][-1] == "It was stopped before it said anything."
    said = Job({}, {})
    said.lines.append("step 1/10")
    said.end("stopped")
    assert said.as_task({})["details"] == ["step 1/10"]
