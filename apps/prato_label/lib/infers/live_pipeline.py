"""A pipeline that follows its files: a model published by training answers the next request."""

from __future__ import annotations

import os
import threading
from functools import cache
from pathlib import Path

from prato.data.nifti import Volume
from prato.pipeline import Pipeline, Prediction
from prato.request import Request


class LivePipeline:
    """The model file ``model`` (with ``locator`` where that file exists), loaded when first needed and again when a file changes.

    One request at a time: two would only share the same cores, and a reload must not meet a prediction.
    """

    def __init__(self, model: Path, locator: Path) -> None:
        self.model, self.locator = model, locator
        self._lock = threading.Lock()
        self._loaded: dict[str, tuple[tuple[object, ...], Pipeline]] = {}

    def load(self, device: str) -> None:
        """Load the files now, so that the first request need not wait for it.

        Raises:
            CheckpointError: a model file cannot be used.
        """
        with self._lock:
            self._current(device)

    def predict(self, device: str, volume: Volume, request: Request) -> Prediction:
        """Answer ``request`` on ``volume`` with the files as they are now.

        Raises:
            CheckpointError: a model file cannot be used.
        """
        with self._lock:
            return self._current(device).predict(volume, request)

    def _current(self, device: str) -> Pipeline:
        # looked at before loading: a file replaced in between is loaded once more, never missed
        files = _identity(self.model), _identity(self.locator)
        if device not in self._loaded or self._loaded[device][0] != files:
            self._loaded.pop(device, None)
            self._loaded[device] = files, Pipeline(self.model, self.locator if files[1] else None, device)
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
