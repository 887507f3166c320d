"""Studies labelled by Ray actors, on the cores of this machine or of a cluster."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

# read by Ray when it is imported: nothing is reported to its makers, and a worker without a share of a GPU sees none
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.exceptions import RayError, RayTaskError

from prato.archive.studies import ArchiveError, Job

if TYPE_CHECKING:
    from prato.archive.labeller import Labeller

#: How often a study whose worker died is tried again, and how often in a row workers may fail to start.
_TRIES_AGAIN = 2
#: Bytes of Ray's shared memory on this machine: studies are read and masks written by the workers, so that only records travel.
_STORE = 100 * 2**20


def connect(address: str, workers: int, gpus: float) -> int:
    """Join the cluster at ``address``, or where that is empty start one on this machine; how many workers to run.

    Args:
        workers: as many as requested; 0 for as many as there is room for, one a CPU core.
        gpus: share of a GPU that each worker holds.

    Raises:
        ArchiveError: there is no such cluster, or it has no room for the workers.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init("local", num_cpus=workers or os.cpu_count(), include_dashboard=False, object_store_memory=_STORE, **quiet)
    except Exception as error:  # as Ray's own, of no narrower kind, where its processes take too long to start
        raise ArchiveError(f"There is no Ray cluster at {address or 'this machine'}: {str(error).splitlines()[0]}") from error
    has = ray.cluster_resources()
    cpus, devices = int(has.get("CPU", 0)), has.get("GPU", 0.0)
    room = min(cpus, int(devices / gpus + 1e-9)) if gpus else cpus
    if room < (workers or 1):
        wanted = f"{workers or 1} workers with {gpus:g} GPU each" if gpus else f"{workers or 1} workers"
        raise ArchiveError(f"{cpus} CPU cores and {devices:g} GPUs are not enough for {wanted}: lower --workers or --gpus-per-worker.")
    return workers or room


class Crew:
    """Workers that label ``jobs``, one study at a time each. One that dies is replaced, and its study tried again, twice at most.

    A worker gets a study only when it has started: no study waits for a machine that never comes.

    Args:
        build: makes a worker's labeller, in the worker.
        parameters: what every labeller's must be, lest a node with other model files mixes its masks in.
        workers, gpus: as :func:`connect` takes and gives them.
    """

    def __init__(
        self, jobs: Sequence[Job], build: Callable[[], Labeller], parameters: dict[str, Any], workers: int, gpus: float = 0.0
    ) -> None:
        self.waiting, self.build, self.parameters, self.workers = deque(jobs), build, parameters, workers
        self.kind: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_Worker)
        self.deaths: Counter[str] = Counter()
        self.failed_starts = 0
        self.running: dict[Any, tuple[Any, Job | None]] = {}

    def records(self) -> Iterator[dict[str, Any]]:
        """The record of every study, as they come.

        Raises:
            ArchiveError: no worker starts, or one has other model files.
            OSError: a worker cannot write.
        """
        for _ in range(min(self.workers, len(self.waiting))):
            self._start()
        while self.running:
            (answered,), _ = ray.wait(list(self.running), num_returns=1)
            record = self._answer(answered, *self.running.pop(answered))
            if record is not None:
                yield record

    def _start(self) -> None:
        worker = self.kind.remote(self.build)
        self.running[worker.parameters.remote()] = worker, None

    def _answer(self, answered: Any, worker: Any, job: Job | None) -> dict[str, Any] | None:
        try:
            answer = ray.get(answered)
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:  # out of memory, killed, or its node is gone
            ray.kill(worker)
            record = self._after_death(job, str(error))
            if self.waiting:
                self._start()
            return record
        if job is None:
            self.failed_starts = 0
            if answer != self.parameters:
                raise ArchiveError("A node of the cluster has other model files than this machine: copy the same files to all nodes.")
        if self.waiting:
            following = self.waiting.popleft()
            self.running[worker.label.remote(following)] = worker, following
        else:
            ray.kill(worker)
        return answer if job else None

    def _after_death(self, job: Job | None, why: str) -> dict[str, Any] | None:
        """Put ``job`` back to the front, or give the record that says it has been tried often enough."""
        if job is None:
            self.failed_starts += 1
            if self.failed_starts > _TRIES_AGAIN:
                raise ArchiveError(f"No worker starts: {why.strip().splitlines()[-1]}")
            return None
        self.deaths[job.study] += 1
        if self.deaths[job.study] <= _TRIES_AGAIN:
            self.waiting.appendleft(job)
            return None
        error = f"Its worker died {_TRIES_AGAIN + 1} times (out of memory, perhaps): label it with --local, on a machine with more memory."
        return {"study": job.study, "status": "failed", "image": job.image, "roi": job.roi, "error": error}


class _Worker:
    """What runs on a core, or on a core with a share of a GPU."""

    def __init__(self, build: Callable[[], Labeller]) -> None:
        self.labeller = build()

    def parameters(self) -> dict[str, Any]:
        return self.labeller.parameters

    def label(self, job: Job) -> dict[str, Any]:
        return self.labeller.label(job)
