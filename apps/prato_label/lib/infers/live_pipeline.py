"""A pipeline that follows its files: a model published by training answers the next request."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from lib.infers.parameters import DEFAULT_PRUNE
from prato.cancelling import never
from prato.checkpoint import ModelSpec, stored_version
from prato.data.nifti import Volume
from prato.pipeline import Pipeline, Prediction
from prato.pruning import PRUNE_CHOICES
from prato.request import Request

#: One network computes at a time, whichever: torch's counter of operations hooks into every module of the process, and two at once would
#: count each other's work.
_COMPUTING = threading.Lock()


class LivePipeline:
    """The model file ``model`` (with ``locator`` where that file exists), loaded when first needed and again when a file changes.

    A reload never meets a prediction.

    Attributes:
        costs: what a slice costs, by ``prune``, as ``docs/protocol.md`` describes it; empty until measured.
    """

    def __init__(self, model: Path, locator: Path) -> None:
        self.model, self.locator = model, locator
        self._loaded: dict[str, tuple[tuple[object, ...], Pipeline]] = {}
        self._build: ModelSpec | None = None
        self._seen: tuple[object, str] = None, ""
        self.costs: dict[str, dict[str, float]] = {}

    def warm_up(self, device: str) -> None:
        """Load the files now, so that no request need wait for it, and measure ``costs`` on ``device`` unless they are known.

        A request that comes meanwhile waits for four slices at most.

        Raises:
            CheckpointError: a model file cannot be used.
        """
        costs: dict[str, dict[str, float]] = {}
        with _COMPUTING:
            self._current(device)
            build = self._build
        for prune in () if self.costs else (*PRUNE_CHOICES, DEFAULT_PRUNE):
            with _COMPUTING:
                segmenter = self._current(device).segmenter
                if segmenter.plan or prune in ("off", DEFAULT_PRUNE):
                    gflops, ms = segmenter.slice_cost(None if prune == DEFAULT_PRUNE else prune)
                    costs[prune] = {"gflops": round(gflops, 3), "ms": round(ms, 1)}
            time.sleep(0.01)  # a request that waits for the lock would else be too slow to take it
        with _COMPUTING:
            if self._build == build:
                self.costs = self.costs or costs

    def version(self) -> str | None:
        """Of the model that answers the next request; None where there is none."""
        identity = _identity(self.model)
        if identity is None:
            return None
        if self._seen[0] != identity:
            self._seen = identity, stored_version(self.model)
        return self._seen[1]

    def predict(self, device: str, volume: Volume, request: Request, cancelled: Callable[[], bool] = never) -> Prediction:
        """Answer ``request`` on ``volume`` with the files as they are now.

        Raises:
            CheckpointError: a model file cannot be used.
            CancelledError: ``cancelled`` said so between two steps.
        """
        with _COMPUTING:
            return self._current(device).predict(volume, request, cancelled)

    def _current(self, device: str) -> Pipeline:
        # looked at before loading: a file replaced in between is loaded once more, never missed
        files = _identity(self.model), _identity(self.locator)
        if device not in self._loaded or self._loaded[device][0] != files:
            self._loaded.pop(device, None)
            pipeline = Pipeline(self.model, self.locator if files[1] else None, device)
            self._loaded[device] = files, pipeline
            build = pipeline.segmenter.spec.model_copy(update={"training": {}})
            if build != self._build:  # other weights cost the same, another network does not
                self._build, self.costs = build, {}
        return self._loaded[device][1]


#: Two models that answer with the same files share one pipeline.
live_pipeline = cache(LivePipeline)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced or rewritten; None where there is none."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
