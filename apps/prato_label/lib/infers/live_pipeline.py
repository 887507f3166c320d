"""A pipeline that follows its files: a model published by training answers the next request."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

from lib.infers.parameters import DEFAULT_PRUNE
from prato.inference.image_stack import ImageStack
from prato.inference.predictor import Pipeline, Prediction
from prato.models.checkpoint import ModelSpec, stored_version
from prato.prompts.request import Request
from prato.pruning.plan import PRUNE_CHOICES
from prato.runtime.batch_runner import Calls
from prato.runtime.cancel_token import never

logger = logging.getLogger(__name__)

#: All networks compute in this one thread. Torch's counter of operations hooks into every module of the process, so that two at once would
#: count each other's work; and every thread that ever computed keeps memory, and threads of OpenMP, for itself.
_COMPUTING = ThreadPoolExecutor(1, thread_name_prefix="compute")
_T = TypeVar("_T")


def in_their_thread(call: Callable[[Callable[[], bool]], _T], cancelled: Callable[[], bool]) -> _T:
    """What ``call`` returns, which is told ``cancelled``, in the networks' thread when it is free."""
    return _COMPUTING.submit(call, cancelled).result()


class LivePipeline:
    """The model file ``model`` (with ``locator`` where that file exists), loaded when first needed and again when a file changes.

    A reload never meets a prediction: each is made by the networks that it began with.

    Attributes:
        costs: what a slice costs, by ``prune``, as ``docs/protocol.md`` describes it; measured after every load of a network
            for which they are not known, and empty until then.
    """

    def __init__(self, model: Path, locator: Path) -> None:
        self.model, self.locator = model, locator
        self._loaded: dict[str, tuple[tuple[object, ...], Pipeline]] = {}
        self._build: ModelSpec | None = None
        self._seen: tuple[object, str] = None, ""
        self.costs: dict[str, dict[str, float]] = {}

    def warm_up(self, device: str) -> None:
        """Load the files now, so that no request need wait for it; ``costs`` follow.

        Raises:
            CheckpointError: a model file cannot be used.
        """
        _COMPUTING.submit(self._current, device).result()

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
        return _COMPUTING.submit(lambda: self._current(device).predict(image, request, Calls(cancelled))).result()

    def predict_call_by_call(self, device: str, image: ImageStack, request: Request, calls: Calls) -> Prediction:
        """As :meth:`predict`, with ``calls`` to make those of the networks, and all the rest in the thread that asks.

        Raises:
            CheckpointError: a model file cannot be used.
            CancelledError: ``calls`` was cancelled.
        """
        return calls(lambda _: self._current(device)).predict(image, request, calls)

    def _measure(self, pipeline: Pipeline, left: tuple[str, ...], found: dict[str, dict[str, float]]) -> None:
        """What a slice costs with each of ``left``, one at a time: a request that comes meanwhile waits for four slices at most.

        Given up when another pipeline is loaded, which has its own costs measured.
        """
        if all(loaded is not pipeline for _, loaded in self._loaded.values()):
            return
        if not left:
            self.costs = found
            return
        prune, *later = left
        segmenter = pipeline.segmenter
        if segmenter.plan or prune in ("off", DEFAULT_PRUNE):  # a model without a plan has none to follow
            try:
                gflops, ms = segmenter.slice_cost(None if prune == DEFAULT_PRUNE else prune)
            except Exception:  # in this thread nobody waits for it
                logger.exception("What a slice costs could not be measured.")
                return
            found = {**found, prune: {"gflops": round(gflops, 3), "ms": round(ms, 1)}}
        _COMPUTING.submit(self._measure, pipeline, tuple(later), found)

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
            if not self.costs:
                _COMPUTING.submit(self._measure, pipeline, (*PRUNE_CHOICES, DEFAULT_PRUNE), {})
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
