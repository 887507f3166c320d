"""Servers forked from a process that has torch, MONAI and what else takes seconds to import already.

What a forked server reads from its environment, MONAI Label and the app themselves, it imports on its own. Nothing but the standard library
is imported here: the forked process imports this module, too.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Settings under which the process that has it all loaded starts.
_FOR_IT = ("OMP_NUM_THREADS", "PYTHONPATH")


class ForkedServer:
    """As much of a ``subprocess.Popen`` as the tests use; it leads a process group of its own."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str]) -> None:
        self._process = _context(environment["OMP_NUM_THREADS"]).Process(target=_serve, args=(command, log, environment))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutError(f"process {self.pid} runs on")
        return self._process.exitcode

    def send_signal(self, signum: signal.Signals) -> None:
        os.kill(self.pid, signum)


@cache
def _context(threads: str) -> ForkServerContext:
    """Its process starts here, once: libraries count their threads as they are loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.app.preloaded"])
    before = {name: os.environ[name] for name in _FOR_IT if name in os.environ}
    os.environ |= {"OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
    try:
        forkserver.ensure_running()
    finally:
        for name in _FOR_IT:
            del os.environ[name]
        os.environ |= before
    return context


def _serve(command: list[str], log: Path, environment: dict[str, str]) -> None:
    """In the forked process: be what ``command`` (a script, or ``monailabel``, and its arguments) would have been on its own."""
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests that run under nohup have it ignored
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(log.parent)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command
    # what runs is a copy: this checkout must not stand before it
    paths = [*environment.get("PYTHONPATH", "").split(os.pathsep), *sys.path]
    sys.path[:] = [path for path in paths if path and ("site-packages" in path or not Path(path).is_relative_to(ROOT))]
    if command[0].endswith(".py"):
        sys.path.insert(0, str(Path(command[0]).parent))
        runpy.run_path(command[0], run_name="__main__")
    else:
        runpy.run_module("monailabel.main", run_name="__main__", alter_sys=True)
