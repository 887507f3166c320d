"""A predictor that follows its files: a model published by training answers the next request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from prato.data.cine import Cine
from prato.data.file_identity import file_stamp
from prato.inference.cine_predictor import predict_cine
from prato.inference.image_stack import ImageStack
from prato.inference.prediction import CinePrediction, Prediction
from prato.inference.predictor import Predictor
from prato.inference.request import DEFAULT_PRUNE
from prato.inference.scores import Scores
from prato.models.checkpoint import ModelSpec, stored_version
from prato.prompts.base import Prompt
from prato.prompts.phases import CinePrompts
from prato.pruning.plan import PRUNE_CHOICES
from prato.runtime.batch_runner import BatchRunner
from prato.runtime.cancel_token import NEVER_CANCELLED, CancelToken

logger = logging.getLogger(__name__)

#: All requests are computed in this one thread, one after the other: every thread that computes keeps memory, and threads of OpenMP,
#: for itself until it ends. Those that compute the phases of a cine beside each other end with its request.
_COMPUTE_THREAD = ThreadPoolExecutor(1, thread_name_prefix="compute")
#: On a CPU, corrections have a thread of their own: they wait for nobody's images, and these hardly for them.
_CORRECTION_THREAD = ThreadPoolExecutor(1, thread_name_prefix="correct")
_T = TypeVar("_T")


def run_in_compute_thread(call: Callable[[CancelToken], _T], token: CancelToken) -> _T:
    """What ``call(token)`` returns, run in the networks' thread when that is free."""
    return _COMPUTE_THREAD.submit(call, token).result()


def run_in_correction_thread(call: Callable[[], _T], device: str) -> _T:
    """What ``call()`` returns, run beside the networks on a CPU, and in their thread on a GPU."""
    return (_CORRECTION_THREAD if device == "cpu" else _COMPUTE_THREAD).submit(call).result()


class LivePredictor:
    """The model file ``model``, loaded when first needed and again when a file changes; where ``locator`` exists, that proposes boxes.

    A reload never meets a prediction: each is made by the networks that it began with.

    Attributes:
        costs: what a slice costs, by ``prune``, as ``docs/protocol/infer.md`` describes it; measured after every load of a network
            for which they are not known, and empty until then.
    """

    def __init__(self, model: Path, locator: Path) -> None:
        self.model, self.locator = model, locator
        self._loaded: dict[str, tuple[tuple[object, ...], Predictor]] = {}
        self._loading = Lock()
        self._build: ModelSpec | None = None
        self._stored: tuple[object, str] = None, ""
        self.costs: dict[str, dict[str, float]] = {}

    def warm_up(self, device: str) -> None:
        """Load the files now, so that no request need wait for it; ``costs`` follow.

        Raises:
            CheckpointError: a model file cannot be used.
        """
        _COMPUTE_THREAD.submit(self._load, device).result()

    def version(self) -> str | None:
        """The version of the model that answers the next request; None if there is none."""
        stamp = file_stamp(self.model)
        if stamp is None:
            return None
        if self._stored[0] != stamp:
            self._stored = stamp, stored_version(self.model)
        return self._stored[1]

    def predict(
        self,
        device: str,
        image: ImageStack,
        prompts: Sequence[Prompt] = (),
        prune: str | None = None,
        *,
        return_tokens: bool = False,
        return_uncertainty: bool = False,
        token: CancelToken = NEVER_CANCELLED,
    ) -> Prediction:
        """Segment ``image`` with the files as they are now; arguments as for :meth:`Predictor.predict`. Scores are kept with the image.

        Raises:
            CheckpointError: a model file cannot be used.
            CancelledError: ``token`` was cancelled.
        """
        options: dict[str, Any] = {"return_tokens": return_tokens, "return_uncertainty": return_uncertainty, "keep_scores": True}
        return _COMPUTE_THREAD.submit(
            lambda: self._predictor(device, image).predict(prompts, prune, runner=BatchRunner(token), **options)
        ).result()

    def scores(self, device: str, image: ImageStack, prompts: Sequence[Prompt], token: CancelToken) -> Scores | None:
        """As :meth:`Predictor.scores`, to be called in the thread of corrections.

        Raises:
            CheckpointError: a model file cannot be used.
            CancelledError: ``token`` was cancelled.
        """
        return self._predictor(device, image).scores(prompts, BatchRunner(token))

    def predict_cine(
        self,
        device: str,
        cine: Cine,
        phases: Sequence[int] | None = None,
        prompts: CinePrompts = (),
        prune: str | None = None,
        *,
        token: CancelToken = NEVER_CANCELLED,
        report: Callable[[int], object] = lambda done: None,
    ) -> CinePrediction:
        """Segment phases of ``cine`` with the files as they are now; arguments as for :func:`predict_cine`.

        Raises:
            CheckpointError: a model file cannot be used.
            VolumeError: a phase cannot be used.
            CancelledError: ``token`` was cancelled.
        """
        return _COMPUTE_THREAD.submit(
            lambda: predict_cine(self._load(device), cine, phases, prompts, prune, runner=BatchRunner(token), report=report)
        ).result()

    def predict_cine_with(self, runner: BatchRunner, device: str, cine: Cine, prune: str | None) -> CinePrediction:
        """All phases of ``cine`` as :meth:`predict_with` segments an image.

        Raises:
            CheckpointError: a model file cannot be used.
            VolumeError: a phase cannot be used.
            CancelledError: ``runner`` was cancelled.
        """
        return predict_cine(runner(lambda _: self._load(device)), cine, prune=prune, runner=runner)

    def predict_with(self, runner: BatchRunner, device: str, image: ImageStack, prune: str | None) -> Prediction:
        """As :meth:`predict` without a prompt, with ``runner`` to make the networks' calls, and all the rest in the calling thread.

        Raises:
            CheckpointError: a model file cannot be used.
            CancelledError: ``runner`` was cancelled.
        """
        return runner(lambda _: self._predictor(device, image)).predict(prune=prune, runner=runner)

    def _predictor(self, device: str, image: ImageStack) -> Predictor:
        """One for ``image`` by itself: others on the same networks may have other images."""
        loaded = self._load(device)
        predictor = Predictor(loaded.segmenter, loaded.locator)
        predictor.set_image(image)
        return predictor

    def _measure(self, predictor: Predictor, remaining: tuple[str, ...], found: dict[str, dict[str, float]]) -> None:
        """What a slice costs with each of ``remaining``, one at a time: a request that comes meanwhile waits for four slices at most.

        Given up when another predictor is loaded, which has its own costs measured.
        """
        if all(loaded is not predictor for _, loaded in list(self._loaded.values())):
            return
        if not remaining:
            self.costs = found
            return
        prune, *later = remaining
        segmenter = predictor.segmenter
        if segmenter.plan or prune in ("off", DEFAULT_PRUNE):  # a model without a plan has none to follow
            try:
                gflops, ms = segmenter.slice_cost(None if prune == DEFAULT_PRUNE else prune)
            except Exception:  # in this thread nobody waits for it
                logger.exception("The cost of a slice could not be measured.")
                return
            found = {**found, prune: {"gflops": round(gflops, 3), "ms": round(ms, 1)}}
        _COMPUTE_THREAD.submit(self._measure, predictor, tuple(later), found)

    def _load(self, device: str) -> Predictor:
        with self._loading:  # corrections may need it at the same time
            # looked at before loading: a file replaced in between is loaded once more, never missed
            files = file_stamp(self.model), file_stamp(self.locator)
            if device not in self._loaded or self._loaded[device][0] != files:
                self._loaded.pop(device, None)
                predictor = Predictor.from_files(self.model, self.locator if files[1] else None, device)
                self._loaded[device] = files, predictor
                build = predictor.segmenter.spec.model_copy(update={"training": {}})
                if build != self._build:  # other weights cost the same, another network does not
                    self._build, self.costs = build, {}
                if not self.costs:
                    _COMPUTE_THREAD.submit(self._measure, predictor, (*PRUNE_CHOICES, DEFAULT_PRUNE), {})
            return self._loaded[device][1]


#: Two models that answer with the same files share one predictor.
live_predictor = cache(LivePredictor)
