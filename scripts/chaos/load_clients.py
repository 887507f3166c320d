"""Clients that work on one server at the same time, and what they saw."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import requests

from prato.data.nifti import gzip_bytes, nifti_bytes, read_image
from prato.models.registry import DEFAULT_MODEL

#: How often which request is made.
_SHARES = {"infer": 70, "submit": 12, "list": 12, "info": 6}


def voxel_hash(array: np.ndarray) -> str:
    """What tells a label from every other: the SHA-256 of its voxels, whatever file they are in."""
    return hashlib.sha256(np.ascontiguousarray(array, dtype=np.uint8).tobytes()).hexdigest()


@dataclass
class Seen:
    """What one client saw: milliseconds by kind of request, statuses by kind, refusals without a sentence, labels that were taken."""

    ms: dict[str, list[float]] = field(default_factory=dict)
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    unexplained: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)


class Worker:
    """One labeller: infers, corrects, submits, lists, in an order that ``seed`` decides.

    Args:
        labels: the studies' true labels, (X, Y, Z) uint8 with affine, which are submitted with changes of the worker's own.
    """

    def __init__(
        self, url: str, seed: int, labels: dict[str, tuple[np.ndarray, np.ndarray]], headers: dict[str, str] | None = None
    ) -> None:
        self.url, self.labels, self.headers = url, labels, headers
        self.name = f"labeller-{seed}"
        self.random = random.Random(seed)
        self.seen = Seen()

    def work(self, going_on: Callable[[], bool]) -> None:
        """Ask one thing after the other while ``going_on``."""
        asks = {"infer": self._infer, "submit": self._submit, "list": self._list, "info": self._info}
        while going_on():
            asks[self.random.choices(list(_SHARES), weights=list(_SHARES.values()))[0]]()

    def _infer(self) -> None:
        study = self.random.choice(list(self.labels))
        params = {"prune": self.random.choice(("off", "25", "50", "75"))}
        model = self.random.choice((DEFAULT_MODEL, "prato_unetr", "prato_swin_unetr"))
        self._ask("infer", "POST", f"/infer/{model}?image={study}", data={"params": json.dumps(params)})

    def _submit(self) -> None:
        study = self.random.choice(list(self.labels))
        true, affine = self.labels[study]
        mask = true.copy()
        changed = self.random.sample(range(mask.size), 20)
        mask.reshape(-1)[changed] = [self.random.randrange(4) for _ in changed]
        file, params = gzip_bytes(nifti_bytes(mask, affine), 1), {"params": json.dumps({"annotator": self.name})}
        reply = self._ask("submit", "PUT", f"/datastore/label?image={study}", files={"label": ("m.nii.gz", file)}, data=params)
        if reply is not None and reply.ok:
            self.seen.taken.add(voxel_hash(mask))

    def _list(self) -> None:
        self._ask("list", "GET", "/datastore/?output=all")

    def _info(self) -> None:
        self._ask("info", "GET", "/info/")

    def _ask(self, kind: str, method: str, path: str, **parts: Any) -> requests.Response | None:
        start = time.perf_counter()
        try:
            # a connection each, as the Slicer module does: one that is kept may have been closed by the server
            reply = requests.request(method, self.url + path, timeout=120, headers=self.headers, **parts)
        except requests.RequestException as error:
            self.seen.statuses.setdefault(kind, Counter())[0] += 1
            self.seen.unexplained.append(f"{method} {path}: {error}"[:200])
            return None
        self.seen.statuses.setdefault(kind, Counter())[reply.status_code] += 1
        if reply.ok:
            self.seen.ms.setdefault(kind, []).append(1000 * (time.perf_counter() - start))
        elif reply.status_code == 429 and "Retry-After" in reply.headers:
            time.sleep(min(int(reply.headers["Retry-After"]), 5))
        else:
            self.seen.unexplained.append(f"{method} {path}: {reply.status_code} {reply.text[:200]}")
        return reply


def stored_labels(studies: Path) -> set[str]:
    """The voxels of every label anywhere in the studies folder, replaced ones included."""
    folders = [folder for folder in studies.iterdir() if folder.is_dir()]
    return {
        voxel_hash(np.asarray(read_image(path).dataobj)) for folder in folders for path in folder.rglob("*.nii*") if path.suffix != ".tmp"
    }
