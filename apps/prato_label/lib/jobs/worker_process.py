"""The server's side of ``prato.retraining.worker``: starts it when first needed, sends it rounds, and receives their results."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import psutil

import prato

logger = logging.getLogger(__name__)
#: Steps of priority below the server: it has all cores while nobody waits, and a tenth of them beside an answer to a labeller; yet a stop
#: must be received at once on a busy machine.
_NICENESS = 10


class WorkerDiedError(RuntimeError):
    """The process ended in the middle of a round; the message says how."""


class WorkerProcess:
    """At most one process, alive from the first round on. One round at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = Lock()

    def start(self) -> None:
        """Start the process if there is none. It takes seconds to be ready; nobody waits for that."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = _start_worker()

    @property
    def pid(self) -> int | None:
        """The id of the process, if there is one."""
        return self._process.pid if self._process else None

    def run(self, job: str, order: dict[str, Any], on_line: Callable[[str], None]) -> dict[str, Any]:
        """Run ``order`` in the process; ``on_line`` gets each line of its log.

        Returns:
            The worker's last message, see ``prato.retraining.worker``.

        Raises:
            WorkerDiedError: it was killed, or ran out of memory.
        """
        idle_process = self._process
        self.start()
        process, has_answered = self._process, False
        assert process is not None
        with suppress(OSError):  # it is dead, which the missing answer shows
            self._send(process, {"id": job, "order": order})
        assert process.stdout is not None
        for text in process.stdout:
            if not text.endswith("\n"):  # killed in the middle of it
                break
            message, has_answered = json.loads(text), True
            if "line" in message:
                on_line(message["line"])
            elif message["id"] == job:
                return dict(message)
        code = process.wait()
        if process is idle_process and process is self._process and not has_answered:
            return self.run(job, order, on_line)  # it died while idle, and never began this round
        raise WorkerDiedError(f"signal {-code}" if code < 0 else f"exit code {code}")

    def stop(self, job: str) -> None:
        """Tell the process to end the round ``job`` as soon as it can."""
        with self._lock, suppress(OSError):
            if self._process:
                self._send(self._process, {"stop": job})

    def kill(self) -> None:
        """Kill the process now. Its files are whole or not there."""
        with self._lock:
            if self._process:
                self._process.kill()
                self._process.wait()
                self._process = None

    @staticmethod
    def _send(process: subprocess.Popen[str], message: dict[str, Any]) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()


def _start_worker() -> subprocess.Popen[str]:
    # this app's own `prato`, from wherever it runs; threads that wait by spinning would cost the server's inference several times the time
    path = os.pathsep.join([str(Path(prato.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen(
        [sys.executable, "-m", "prato.retraining"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        encoding="utf-8",
    )
    with suppress(psutil.Error):
        started = psutil.Process(process.pid)
        started.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if psutil.WINDOWS else min(started.nice() + _NICENESS, 19))
    logger.info("the training process %d has started", process.pid)
    return process
