"""Servers, and their processes that train, forked from one that has torch, MONAI and what else takes seconds to import already.

What a forked server reads from its environment, MONAI Label and the app themselves, it imports on its own. Nothing but the standard library
is imported here: the forked process imports this module, too.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import traceback
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from threading import Lock
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: Settings under which the process that has it all loaded starts.
_FOR_IT = ("OMP_NUM_THREADS", "PYTHONPATH")


class ForkedServer:
    """As much of a ``subprocess.Popen`` as the tests use; it leads a process group of its own.

    With ``forked_training``, its process that trains is forked, too.
    """

    def __init__(self, command: list[str], log: Path, environment: dict[str, str], forked_training: bool = True) -> None:
        given = (command, log, environment, forked_training)
        self._process = loaded_context(environment["OMP_NUM_THREADS"]).Process(target=_serve, args=given)
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
def loaded_context(threads: str) -> ForkServerContext:
    """Whose processes have it all loaded. The one that they are forked from starts here, once: libraries count their threads then."""
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


def _serve(command: list[str], log: Path, environment: dict[str, str], forked_training: bool) -> None:
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
    if forked_training:
        _fork_trainings()
    if command[0].endswith(".py"):
        sys.path.insert(0, str(Path(command[0]).parent))
        runpy.run_path(command[0], run_name="__main__")
    else:
        runpy.run_module("monailabel.main", run_name="__main__", alter_sys=True)


def _fork_trainings() -> None:
    """Keep a process that is as this one is now, before it has threads: from now on it forks what this one would start to train."""
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        _wait_for_trainings(theirs)
    theirs.close()
    lock = Lock()

    class Popen(subprocess.Popen[Any]):
        def __new__(cls, command: Any, *given: Any, **more: Any) -> Any:
            if isinstance(command, list) and command[1:] == ["-m", "prato.retraining"]:
                return _ForkedTraining(ours, lock, more["env"])
            return super().__new__(cls)

    subprocess.Popen = Popen  # type: ignore[misc]


class _ForkedTraining:
    """As much of a ``subprocess.Popen`` as the server uses of its process that trains."""

    def __init__(self, parent: socket.socket, lock: Any, environment: dict[str, str]) -> None:
        self._parent, self._lock = parent, lock
        self.returncode: int | None = None
        (its_input, orders), (answers, its_output) = os.pipe(), os.pipe()
        self.pid = self._ask({"environment": environment}, its_input, its_output)
        os.close(its_input)
        os.close(its_output)
        self.stdin, self.stdout = os.fdopen(orders, "w", encoding="utf-8"), os.fdopen(answers, encoding="utf-8")

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._ask({"pid": self.pid})
        return self.returncode

    def wait(self) -> int:
        while (code := self.poll()) is None:
            time.sleep(0.01)
        return code

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _ask(self, message: dict[str, Any], *files: int) -> Any:
        with self._lock:
            socket.send_fds(self._parent, [json.dumps(message).encode()], files)
            return json.loads(self._parent.recv(1000))


def _wait_for_trainings(server: socket.socket) -> None:
    """Fork what ``server`` asks for, and tell how it ended, until the server has ended itself."""
    try:
        while True:
            message, files, _, _ = socket.recv_fds(server, 1_000_000, 2)
            if not message:
                break
            asked = json.loads(message)
            if "pid" in asked:
                ended, status = os.waitpid(asked["pid"], os.WNOHANG)
                answer = os.waitstatus_to_exitcode(status) if ended else None
            elif (answer := os.fork()) == 0:
                server.close()
                _train(asked["environment"], *files)
            for file in files:
                os.close(file)
            server.send(json.dumps(answer).encode())
    except OSError:  # it has been killed
        pass
    finally:
        os._exit(0)


def _train(environment: dict[str, str], its_input: int, its_output: int) -> None:
    """Be what ``python -m prato.retraining`` is."""
    code = 1
    try:
        for file, own in ((its_input, 0), (its_output, 1)):
            os.dup2(file, own)
            os.close(file)
        sys.stdin = os.fdopen(0, encoding="utf-8")
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
        sys.argv = ["prato.retraining"]
        runpy.run_module("prato.retraining", run_name="__main__")
        code = 0
    except BaseException:
        traceback.print_exc()  # into the server's log
    finally:
        os._exit(code)
