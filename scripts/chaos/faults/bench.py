"""A live server to which something is done, the requests sent to it meanwhile, and what must hold afterwards."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import requests

from prato.data.nifti import Volume, gzip_bytes, nifti_bytes
from prato.retraining.round import studies_key
from scripts.chaos.prove_fuzz import files
from scripts.common.demo_client import DemoServer

MODEL = "prato_unetr"
#: What a server may answer that cannot do what is requested because of its files or its disk.
_EXCUSED = (503, 507)
#: How long a training may take to begin or to end: its process alone takes a minute to start on a machine that has much else to do.
_PATIENCE_S = 600


class Bench:
    """One folder with an app and studies, a server on them, and what was seen of it.

    Attributes:
        acknowledged: SHA-256 by study and version, of each label that the server said it has stored.
        statuses: how often which answer came, by request. wrong: what should not have happened, a sentence each.
        dying: whether a request may go unanswered just now, since the server is about to be killed.
    """

    def __init__(
        self, base: Path | None, folder: Path, labels: dict[str, Volume], acknowledged: dict[tuple[str, int], str], seed: int
    ) -> None:
        if base:
            shutil.copytree(base, folder)
            theirs, ours = (studies_key((each / "studies").resolve()) for each in (base, folder))
            for path in [*(folder / "app" / "model").rglob(f"*_{theirs}*")]:  # what it has trained, it has trained here
                path.rename(path.with_name(path.name.replace(theirs, ours)))
        self.folder, self.app, self.studies, self.scratch = folder, folder / "app", folder / "studies", folder / "scratch"
        self.scratch.mkdir(exist_ok=True)
        self.labels, self.acknowledged, self.random = labels, acknowledged, random.Random(seed)
        self.settings = {"TMPDIR": str(self.scratch), "OMP_NUM_THREADS": "1"}
        self.statuses: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.dying = False
        self.server: DemoServer | None = None
        self.starts = 0
        self._own = (self.studies, self.app / "model", self.app / "logs", folder / "sessions", self.scratch, *self._logs(9))
        self._before = files(folder, except_for=self._own)

    def start(self) -> None:
        """Raises ServerError where it does not."""
        self.starts += 1
        self.server = DemoServer(self.app, self.studies, self._logs(self.starts)[-1], self.settings).__enter__()

    def kill(self) -> None:
        """As a power cut would, but for the process that trains, which notices by itself."""
        assert self.server
        self.server.process.send_signal(signal.SIGKILL)
        self.server.process.wait()

    def stop(self) -> None:
        """As an administrator would."""
        if self.server:
            self.server.stop()

    def request(self, method: str, path: str, **parts: Any) -> requests.Response | None:
        """Send a request, and note an answer that should not be; None where there is none."""
        assert self.server
        kind = f"{method} {path.partition('?')[0]}"
        try:
            reply = requests.request(method, self.server.url + path, timeout=_PATIENCE_S, **parts)
        except requests.RequestException as error:
            self.statuses[f"{kind} no answer"] += 1
            if not self.dying:
                self.wrong.append(f"{kind} was not answered ({error})"[:300])
            return None
        self.statuses[f"{kind} {reply.status_code}"] += 1
        if reply.status_code >= 500 and reply.status_code not in _EXCUSED:
            self.wrong.append(f"{kind} was answered with {reply.status_code}: {reply.text[:200]}")
        elif not reply.ok and not _sentence(reply):
            self.wrong.append(f"{kind} was refused without one sentence: {reply.status_code} {reply.text[:200]}")
        return reply

    def submit(self, study: str) -> requests.Response | None:
        """Hand in a label that nobody has handed in before."""
        true = self.labels[study]
        mask = np.array(true.array, np.uint8, order="C")  # of which reshape gives a view, so that it changes
        changed = self.random.sample(range(mask.size), 20)
        mask.reshape(-1)[changed] = [self.random.randrange(4) for _ in changed]
        parts = {
            "files": {"label": ("m.nii.gz", gzip_bytes(nifti_bytes(mask, true.affine), 1))},
            "data": {"params": '{"annotator": "Ada"}'},
        }
        reply = self.request("PUT", f"/datastore/label?image={study}", **parts)
        if reply is not None and reply.ok:
            said = reply.json()
            self.acknowledged[study, said["version"]] = said["sha256"]
        return reply

    def train_until_step(self, step: int) -> None:
        """Start a training that would take hours, and return once it has done ``step`` steps."""
        self.request("POST", f"/train/{MODEL}", json={"max_steps": 10_000, "max_epochs": 10_000})
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            job = self.job()
            if (job.get("progress") or {}).get("step", 0) >= step:
                return
            if job.get("state") not in ("queued", "running"):
                break
            time.sleep(0.1)
        self.wrong.append(f"a training did not get to step {step}: {json.dumps(job)[:300]}")

    def train(self) -> dict[str, Any]:
        """A short training, from its start to its end; the job, empty where it was refused."""
        reply = self.request("POST", f"/train/{MODEL}", json={"max_steps": 2})
        return self.ended() if reply is not None and reply.ok else {}

    def ended(self) -> dict[str, Any]:
        """The latest training, once it has ended."""
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            job = self.job()
            if job.get("state") not in ("queued", "running"):
                break
            time.sleep(0.1)
        if job.get("state") not in ("done", "failed", "stopped", "interrupted") or (job["state"] == "failed" and not job.get("sentence")):
            self.wrong.append(f"a training ended otherwise than with a result or a sentence: {json.dumps(job)[:300]}")
        return job

    def job(self) -> dict[str, Any]:
        """The latest training; empty where there is none."""
        reply = self.request("GET", "/train/")
        return dict(reply.json()) if reply is not None and reply.ok else {}

    def use(self, well: bool = False) -> None:
        """Ask for a bit of everything but a training; with ``well``, all of it must be done, and not just be answered."""
        first, second = list(self.labels)[:2]
        reads = ["/info/", "/datastore/?output=all", "/prato/state", f"/model/{MODEL}/history", f"/model/{MODEL}/history.png"]
        reads += [f"/datastore/label?label={first}&tag=final", f"/datastore/label/versions?image={first}"]
        reads += [f"/datastore/label/diff?image={first}&from=1&to=2", f"/datastore/label/agreement?image={first}", "/train/?all=true"]
        replies = [self.request("GET", path) for path in reads]
        params = {"data": {"params": '{"roi": [40, 120, 40, 120, 2, 5]}'}}
        replies += [self.request("POST", f"/infer/{MODEL}?image={first}", **params), self.request("POST", "/activelearning/first", json={})]
        replies += [self.submit(first), self.submit(second), self.request("POST", f"/datastore/label/restore?image={second}&version=1")]
        history = replies[3]
        if history is not None and history.ok:
            kept = [row["version"] for row in history.json()["records"] if row["kept"] and row["version"] != history.json()["current"]]
            replies.append(self.request("POST", f"/model/{MODEL}/rollback?version={kept[0] if kept else 'none'}"))
        if well:
            refused = [reply for reply in replies if reply is not None and not reply.ok]
            self.wrong += [f"{r.request.method} {r.request.path_url} is not done again: {r.status_code} {r.text[:200]}" for r in refused]

    def verify(self, damaged: Collection[tuple[str, int]]) -> None:
        """Note each acknowledged version that the server cannot give back, but for those ``damaged`` on purpose, and each other trace."""
        for (study, number), checksum in self.acknowledged.items():
            if (study, number) in damaged:
                continue
            reply = self.request("GET", f"/datastore/label/version?image={study}&version={number}")
            if reply is None or hashlib.sha256(reply.content).hexdigest() != checksum:
                self.wrong.append(f"version {number} of the label of {study} was acknowledged and is lost")
        for stray in sorted(files(self.folder, except_for=self._own) ^ self._before):
            self.wrong.append(f"was written outside of the server's folders: {stray}")
        for log in self._logs(self.starts):
            text = log.read_text(errors="replace")
            if "Traceback" in text:
                at = text.index("Traceback")
                self.wrong.append(f"{log.name} holds a traceback: {text[max(at - 150, 0) : at + 1500][-900:]}")
        for folder in (self.studies, self.app / "model"):
            self.wrong += [f"a temporary file is left: {path.name}" for path in folder.rglob("*.tmp")]

    def _logs(self, number: int) -> list[Path]:
        return [self.folder / f"server{n}.log" for n in range(1, number + 1)]


def _sentence(reply: requests.Response) -> bool:
    try:
        detail = reply.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(detail, str) and detail.endswith(".") and "\n" not in detail and "Traceback" not in detail
