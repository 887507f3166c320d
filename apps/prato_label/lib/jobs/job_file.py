"""The list of trainings on disk, so that a server that starts again can say what became of them."""

from __future__ import annotations

import json
import logging
from collections import deque
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter

from lib.jobs.job import LINES, Job
from prato.data.atomic import write_bytes

logger = logging.getLogger(__name__)
_KEPT = 50
_JOBS = TypeAdapter(list[Job])


def save_jobs(path: Path, jobs: list[Job]) -> None:
    """Write the last fifty of ``jobs``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{**asdict(job), "lines": list(job.lines)} for job in jobs[-_KEPT:]]
    write_bytes(path, (json.dumps(rows, indent=1, default=str) + "\n").encode())


def load_jobs(path: Path) -> list[Job]:
    """The jobs in ``path``, those that had not ended as interrupted; none where the file is missing or damaged."""
    try:
        jobs = _JOBS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read (%s): earlier trainings are not shown", path, str(error).splitlines()[0])
        return []
    for job in jobs:
        job.lines = deque(job.lines, maxlen=LINES)
        if job.open:
            job.end("interrupted", "The server ended during this training: start it again, and it goes on where it was.")
    return jobs
