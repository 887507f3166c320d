"""The folder of a run: its masks, ``run.json`` (what they follow from) and ``records.jsonl`` (one line per study)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from prato.archive.studies import ArchiveError, Job
from prato.data.atomic import find_leftovers, write_bytes
from prato.labelling.files import sha256
from prato.labelling.run_records import PARAMETERS_NAME, RECORDS_NAME, read_records

#: Temporary files of a run; others in its folder are other programs'.
_OWN = re.compile(r"\.(.+\.nii\.gz|run\.json|records\.jsonl|summary\.json)\.\w+\.tmp$")
#: Files that are compared at a time: network storage answers slowly, but many at once.
_READERS = 8


@dataclass(frozen=True)
class ToDo:
    """What is to be labelled; studies whose mask somebody else has written; and those whose image cannot be read now, but was when its mask
    was made."""

    waiting: list[Job]
    foreign: list[str]
    unread: list[str]


class Run:
    """A run in ``out``, begun or taken up again, and held until :meth:`close`; one process at a time holds it.

    A mask is written before its record. What a killed run leaves between the two, a mask without a record, is written once more.

    Attributes:
        records: by study, its last record.

    Raises:
        ArchiveError: ``out`` is no folder, holds masks of something else, a run with other parameters, or one that is going on.
        OSError: ``out`` cannot be written to.
    """

    def __init__(self, out: Path, parameters: dict[str, Any]) -> None:
        self.out, self.parameters = out, parameters
        self._check()  # before anything is written
        out.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(out / ".lock")
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise ArchiveError(f"Another process is labelling into {out}: wait for it, or choose another --out.") from None
        try:
            self._check()
            for unfinished in find_leftovers(out):
                if _OWN.match(unfinished.name):
                    unfinished.unlink(missing_ok=True)
            write_bytes(out / PARAMETERS_NAME, (json.dumps(parameters, indent=1) + "\n").encode())
            self.records = {record["study"]: record for record in read_records(out / RECORDS_NAME)}
        except BaseException:
            self._lock.release()
            raise

    def mask(self, study: str) -> Path:
        """Where the mask of ``study`` lies, or will."""
        return self.out / f"{study}.nii.gz"

    def to_do(self, jobs: Sequence[Job], report: Callable[[Iterable[str]], Iterable[str]] = iter) -> ToDo:
        """Those of ``jobs`` that are still to be labelled, and those whose masks are left alone.

        A study is done when its record, its image's content, its boxes and its mask agree. Where image or boxes have changed, the mask
        that was made of the old ones is removed. The records of studies that are to be labelled are, too.

        Args:
            report: wraps the comparing of the jobs one after the other, to show progress.
        """
        with ThreadPoolExecutor(_READERS) as readers:
            found = list(report(readers.map(self._state, jobs)))
        waiting = [job for job, state in zip(jobs, found) if state in ("waiting", "stale")]
        for job, state in zip(jobs, found):
            if state in ("waiting", "stale"):
                self.records.pop(job.study, None)
            if state == "stale":
                self.mask(job.study).unlink()
        self._rewrite()
        foreign, unread = ([job.study for job, state in zip(jobs, found) if state == left] for left in ("foreign", "unread"))
        return ToDo(waiting, foreign, unread)

    def add(self, record: dict[str, Any]) -> None:
        """Keep ``record``; it is on the disk when this returns."""
        self.records[record["study"]] = record
        with (self.out / RECORDS_NAME).open("ab") as stream:
            stream.write(_line(record))
            stream.flush()
            os.fsync(stream.fileno())

    def close(self) -> None:
        """Put the records in order and let go of the folder. Where there is no room for that, they stay in the order in which they came."""
        with suppress(OSError):
            self._rewrite()
        self._lock.release()

    def _check(self) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise ArchiveError(f"{self.out} is a file: name a folder for the masks.")
        stored = self.out / PARAMETERS_NAME
        if not stored.exists():
            if any(self.out.glob("*.nii*")):
                raise ArchiveError(f"{self.out} holds images or masks that no run here has written: choose a new or empty folder.")
            return
        try:
            before = dict(json.loads(stored.read_bytes()))
        except (OSError, ValueError, TypeError):
            raise ArchiveError(f"{stored} cannot be read: choose another --out.") from None
        other = [name for name in {**before, **self.parameters} if before.get(name) != self.parameters.get(name)]
        if other:
            raise ArchiveError(f"{self.out} holds a run with another {', '.join(other)}: use the same, or choose another --out.")

    def _state(self, job: Job) -> Literal["waiting", "done", "stale", "foreign", "unread"]:
        record, mask = self.records.get(job.study), self.mask(job.study)
        if record is None or not mask.exists():  # a mask alone is what a kill left
            return "waiting"
        if sha256(mask.read_bytes()) != record.get("mask_sha256"):
            return "foreign"
        try:
            same = record["image_sha256"] == sha256(Path(job.image).read_bytes()) and record["roi"] == job.roi
        except OSError:  # storage that is away for a while must not cost the masks that were made of it
            return "unread"
        return "done" if same else "stale"

    def _rewrite(self) -> None:
        write_bytes(self.out / RECORDS_NAME, b"".join(_line(self.records[study]) for study in sorted(self.records)))


def _line(record: dict[str, Any]) -> bytes:
    return (json.dumps(record) + "\n").encode()
