"""A MONAI Label server as a child process, and the few HTTP calls of the labelling loop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
from requests_toolbelt.multipart.decoder import MultipartDecoder

from scripts.common.paths import APP

_START_S, _STOP_S, _REPLY_S = 300, 10, 300


def copy_app(target: Path, model: str = "*") -> Path:
    """A copy of the app with its weights and without what it wrote, so that a server leaves the repository as it is.

    Args:
        model: the only one to copy, which spares a server loading and measuring the others.
    """
    others = [path.name for path in (APP / "model").glob("*.safetensors") if not fnmatch(path.stem, model)]
    skipped = shutil.ignore_patterns("logs", "bin", "versions", "*.egg-info", *others)
    return Path(shutil.copytree(APP, target, ignore=skipped))


class ServerError(RuntimeError):
    """The server did not start, refused a request or failed at it; the message is one sentence."""


class DemoServer:
    """The real server on a free port of this machine alone, from entering the context to leaving it, however it is left.

    ``settings`` are environment variables for it.
    """

    def __init__(self, app: Path, studies: Path, log: Path, settings: Mapping[str, str] | None = None) -> None:
        self.app, self.studies, self.log, self.settings = app, studies, log, dict(settings or {})

    def __enter__(self) -> DemoServer:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, str(self.app / "serve.py"), "--studies", str(self.studies), "--port", str(port)]
        own = {"MONAI_LABEL_SESSION_PATH": str(self.log.parent / "sessions"), **self.settings}
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the context is left then, too
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **own},
                start_new_session=True,  # a group of its own, so that a training that it started ends with it
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and whatever it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_S)
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def infer(self, model: str, study: str, params: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
        """The mask's file (NIfTI, gzipped) and the reply's JSON part."""
        reply = self._ask("POST", f"/infer/{model}", params={"image": study}, data={"params": json.dumps(params)})
        answer, mask = MultipartDecoder.from_response(reply).parts  # in this order
        return mask.content, json.loads(answer.text)

    def correct(self, model: str, study: str, params: dict[str, Any]) -> dict[str, Any]:
        """The reply to corrections of the mask in ``params``."""
        query, data = {"image": study, "output": "json"}, {"params": json.dumps(params)}
        reply: dict[str, Any] = self._ask("POST", f"/infer/{model}", params=query, data=data).json()
        return reply

    def await_costs(self) -> None:
        """Return when the server has measured what its models cost: it does so after its start, in the gaps between requests.

        Raises:
            ServerError: that took more than ten minutes.
        """
        until = time.monotonic() + 600
        while not all(model.get("cost_per_slice", True) for model in self._ask("GET", "/info/").json()["models"].values()):
            if time.monotonic() > until:
                raise ServerError(f"The server has not measured the costs of its models: {self.log} says why.")
            time.sleep(0.5)

    def next_study(self) -> str:
        """The name of the next study without a final label."""
        return str(self._ask("POST", "/activelearning/first", json={}).json()["id"])

    def submit(self, study: str, label: Path) -> None:
        """Hand in the final label of ``study``."""
        with label.open("rb") as file:
            self._ask("PUT", "/datastore/label", params={"image": study}, files={"label": (label.name, file)}, data={"params": "{}"})

    def train(self, model: str, params: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Train ``model`` and wait for it; ``report`` gets its statistics every second. Returns the statistics of the finished training."""
        before = self._stats(model).get("start_ts")
        self._ask("POST", f"/train/{model}", json=params)
        while (job := self._ask("GET", "/train/").json())["status"] in ("SUBMITTED", "RUNNING"):
            stats = self._stats(model)
            if stats.get("start_ts") != before:
                report(stats)
            time.sleep(1)
        if job["status"] != "DONE":
            raise ServerError(f"The training ended with {job['status']} ({' / '.join(job.get('details', [])[-1:])}): see {self.log}.")
        return self._stats(model)

    def start(self, job: str, model: str, params: dict[str, Any], steps: int = 0) -> None:
        """Start a ``job``, "train" or "batch/infer", unless one of its kind runs already; return when it runs and has made ``steps``.

        Raises:
            ServerError: the one before it failed.
        """
        while (found := self._job(job)).get("status") != "RUNNING" or (found.get("progress", {}).get("step") or 0) < steps:
            if found.get("status") == "ERROR":
                raise ServerError(f"The job {job} failed ({' / '.join(found.get('details', [])[-1:])}): see {self.log}.")
            if found.get("status") not in ("SUBMITTED", "RUNNING"):
                self._ask("POST", f"/{job}/{model}", json=params)
            time.sleep(0.2)

    def end(self, job: str) -> None:
        """Stop a job that :meth:`start` started, and wait until it has."""
        self._ask("DELETE", f"/{job}")
        while self._job(job).get("status") in ("SUBMITTED", "RUNNING"):
            time.sleep(0.2)

    def _job(self, job: str) -> dict[str, Any]:
        """The latest job of a kind; empty before the first."""
        reply = requests.get(f"{self.url}/{job}/", timeout=_REPLY_S)
        return dict(reply.json()) if reply.ok else {}

    def _stats(self, model: str) -> dict[str, Any]:
        stats: dict[str, Any] = self._ask("GET", "/info/").json()["train_stats"].get(model) or {}
        return stats

    def _ask(self, method: str, path: str, **content: Any) -> requests.Response:
        reply = requests.request(method, self.url + path, timeout=_REPLY_S, **content)
        if not reply.ok:
            raise ServerError(f"{method} {path} was answered with {reply.status_code}: {reply.text[:300]}")
        return reply

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            with suppress(requests.ConnectionError):
                if requests.get(f"{self.url}/info/", timeout=_REPLY_S).ok:
                    return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"The server did not start: see {self.log}.")
            time.sleep(0.25)
