"""A pipeline that follows its files: a model published by training answers the next request."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from lib.infers.parameters import DEFAULT_PRUNE
from prato.cancelling import never
from prato.checkpoint import ModelSpec, stored_version
from prato.image_stack import ImageStack
from prato.pipeline import Pipeline, Prediction
from prato.pruning import PRUNE_CHOICES
from prato.request import Request

#: All networks compute in this one thread. Torch's counter of operations hooks into every module of the process, so that two at once would
#: count each other's work; and every thread that ever computed keeps memory, and threads of OpenMP, for itself.
_COMPUTING = ThreadPoolExecutor(1, thread_name_prefix="compute")


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
        build = _COMPUTING.submit(self._loaded_build, device).result()
        if not self.costs:
            costs = {prune: _COMPUTING.submit(self._cost, device, prune).result() for prune in (*PRUNE_CHOICES, DEFAULT_PRUNE)}
            _COMPUTING.submit(self._keep, build, {prune: cost for prune, cost in costs.items() if cost}).result()

    def version(self) -> str | None:
        """Of the model that answers the next request; None where there is none."""
        identity = file_identity(self.model)
        if identity is None:
            return None
        if self._seen[0] != identity:
            self._seen = identity, stored_version(self.model)
        return self._seen[1]

    def predict(self, device: str, image: ImageStack, request: Request, cancelled: Callable[[], bool] = never) -> Prediction:
        """Answer ``request`` on ``image`` with the files as they are now.

        Raises:
            CheckpointError: a model file cannot be used.
            CancelledError: ``cancelled`` said so between two steps.
        """
        return _COMPUTING.submit(lambda: self._current(device).predict(image, request, cancelled)).result()

    def _loaded_build(self, device: str) -> ModelSpec | None:
        self._current(device)
        return self._build

    def _cost(self, device: str, prune: str) -> dict[str, float] | None:
        """What a slice costs with ``prune``; None where the model has no plan to follow."""
        segmenter = self._current(device).segmenter
        if not segmenter.plan and prune not in ("off", DEFAULT_PRUNE):
            return None
        gflops, ms = segmenter.slice_cost(None if prune == DEFAULT_PRUNE else prune)
        return {"gflops": round(gflops, 3), "ms": round(ms, 1)}

    def _keep(self, build: ModelSpec | None, costs: dict[str, dict[str, float]]) -> None:
        if self._build == build:
            self.costs = self.costs or costs

    def _current(self, device: str) -> Pipeline:
        # looked at before loading: a file replaced in between is loaded once more, never missed
        files = file_identity(self.model), file_identity(self.locator)
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


def file_identity(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced or rewritten; None where there is none."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
