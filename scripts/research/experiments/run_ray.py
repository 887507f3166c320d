"""The paper's experiments as tasks of a Ray cluster, each on a core or a GPU; all nodes see the same folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from scripts.common.batch_cluster import connect
from scripts.research.experiments.jobs import Job, Result, run
from scripts.research.experiments.run_local import RunSettings


def run_on_cluster(jobs: Sequence[Job], settings: RunSettings, address: str, workers: int) -> None:
    """All ``jobs``; one waits for those that it needs. Their results are written here, one at a time.

    Args:
        address, workers: as for :func:`scripts.common.batch_cluster.connect`.

    Raises:
        ValueError, OSError: of the first experiment that fails, once the others are done; they keep their results.
    """
    import ray  # after batch_cluster, which tells it what not to do
    from ray.exceptions import RayError, RayTaskError

    settings = replace(settings, places=settings.places.resolve())
    gpus = 1.0 if settings.device.startswith("cuda") else 0.0
    for job in jobs:  # before any task: two must not assign the same split
        settings.places.experiment_data().split(job.experiment)
    connect(address, workers, gpus)
    try:
        task: Any = ray.remote(num_cpus=settings.threads, num_gpus=gpus, max_retries=2)(_task)
        tickets: dict[str, Any] = {}
        for job in jobs:
            tickets[job.name] = task.remote(job, settings, *[tickets[needed] for needed in job.needs if needed in tickets])
        names = {ticket: name for name, ticket in tickets.items()}
        waiting, failed = list(names), None
        with tqdm(total=len(jobs), unit="experiment") as bar:
            while waiting:
                (done,), waiting = ray.wait(waiting, num_returns=1)
                try:
                    settings.places.store(ray.get(done))
                    bar.write(f"{names[done]}: measured")
                except RayTaskError as error:
                    failed = failed or error.cause
                    bar.write(f"{names[done]} failed: {error.cause}")
                except RayError as error:
                    failed = failed or RuntimeError(f"{names[done]} failed: {str(error).splitlines()[0]}")
                bar.update()
        if failed is not None:
            raise failed
    finally:
        ray.shutdown()


def _task(job: Job, settings: RunSettings, *needed: Result) -> Result:
    """``needed`` only makes Ray wait for the jobs whose models this one takes."""
    torch.set_num_threads(settings.threads)
    data = settings.places.experiment_data()
    return run(job, settings.places, data, settings.device, settings.made_by, lambda what, share, loss: None)
