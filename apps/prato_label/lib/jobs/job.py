"""One background job, from its request to its end, and the lists of them on disk."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from prato.data.atomic import first_line, remove_abandoned, write_bytes
from prato.retraining.round import studies_key

logger = logging.getLogger(__name__)
State = Literal["queued", "running", "done", "stopped", "failed", "interrupted"]
#: The status that MONAI Label's clients know. An interrupted training is an error to them, with a sentence that says how to go on.
_STATUS: dict[str, str] = {
    **{"queued": "SUBMITTED", "running": "RUNNING", "done": "DONE", "stopped": "STOPPED", "failed": "ERROR", "interrupted": "ERROR"},
}
#: Lines of its log that are kept with it.
LOG_LINES = 20


class BusyError(RuntimeError):
    """There is a job of that kind already; the message is one sentence."""


def _timestamp() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")


@dataclass
class Job:
    """A training of ``request["model"]``, or a batch inference by it.

    Attributes:
        request: as it was sent. order: the same for the process that trains (JSON values), empty for a batch.
        state: queued -> running -> done, stopped or failed; interrupted, if the server ended before it did.
        begun: when it began to run, in seconds since 1970 (0 before). lines: the last of its log.
        result: of ``train_round``, once done. sentence: why it failed. warnings: what is known against its labels.
    """

    request: dict[str, Any]
    order: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: State = "queued"
    started: str = field(default_factory=_timestamp)
    ended: str | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    result: dict[str, Any] | None = None
    sentence: str = ""
    begun: float = 0.0
    warnings: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Mark it as running."""
        self.state, self.begun = "running", time.time()

    @property
    def is_open(self) -> bool:
        """Whether it has not ended yet."""
        return self.state in ("queued", "running")

    def end(self, state: State, sentence: str = "", result: dict[str, Any] | None = None) -> None:
        """End the job, in its last change of state."""
        self.sentence, self.result, self.ended = sentence, result, _timestamp()
        if sentence:
            # where the log of a training that MONAI Label runs shows the reason, and where clients look for it
            self.lines.append(f"HTTPException: {sentence}")
        elif not self.lines:  # the stock 3D Slicer module reads the last line when it stops a training, and fails where there is none
            self.lines.append(f"It was {state} before it said anything.")
        self.state = state  # last: whoever sees that it has ended sees how

    def as_task(self, stats: dict[str, Any]) -> dict[str, Any]:
        """The job as MONAI Label shows a task, with ``state``, ``sentence`` and its progress by the model's ``stats``."""
        task: dict[str, Any] = {"id": self.id, "status": _STATUS[self.state], "request": self.request, "start_ts": self.started}
        if self.state != "queued":
            task["details"] = list(self.lines)
        if self.ended:
            task["end_ts"] = self.ended
        task["state"] = self.state
        if self.sentence:
            task["sentence"] = self.sentence
        if self.state == "running" and stats.get("job") == self.id:  # and not those of the training before
            task["progress"] = {name: stats.get(name) for name in ("step", "total_steps", "seconds", "eta_seconds")}
        return task


_KEPT = 50
_JOBS = TypeAdapter(list[Job])


def claim_list(folder: Path, studies: str) -> tuple[Path, FileLock]:
    """The list in ``folder`` of a server of ``studies``, and what keeps others from it until it is released, or the process ends.

    Servers with one app folder have a list each: what one of them trains is nothing that the other could stop, or that its end interrupts.
    After a restart it has the same one.
    """
    for number in count(1):
        path = folder / f"jobs_{studies_key(studies)}_{number}.json"
        lock = FileLock(path.with_suffix(".lock"), timeout=0, thread_local=False)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            if not path.exists():
                with suppress(FileNotFoundError):  # what one list of all servers once was goes to the first that starts
                    (folder / "jobs.json").rename(path)
        except Timeout:  # of another server of the same studies
            continue
        except OSError as error:  # a full disk must not keep a server from its start
            logger.warning("%s cannot be held: %s", path, first_line(error))
        return path, lock
    raise AssertionError("there are more numbers than servers")


def save_jobs(path: Path, jobs: list[Job]) -> None:
    """Write the last fifty of ``jobs``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{**asdict(job), "lines": list(job.lines)} for job in jobs[-_KEPT:]]
    write_bytes(path, (json.dumps(rows, indent=1, default=str) + "\n").encode())


def load_jobs(path: Path) -> list[Job]:
    """The jobs in ``path``, as they were last written; none where the file is missing or damaged.

    What writers of it that were killed have left beside it goes.
    """
    remove_abandoned(path.parent)
    try:
        jobs = _JOBS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read (%s): earlier trainings are not shown", path, first_line(error))
        return []
    for job in jobs:
        job.lines = deque(job.lines, maxlen=LOG_LINES)
    return jobs
