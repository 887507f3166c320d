"""Batch inference: many studies segmented in the background, by the networks that answer the labellers."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Condition, Thread
from typing import Any, TypeVar

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from lib.infers.image_cache import images
from lib.infers.inference_queue import inference_queue
from lib.infers.live_predictor import LivePredictor, run_in_compute_thread
from lib.infers.result_files import write_mask
from lib.jobs.batch_order import BatchOrder
from lib.jobs.job import BusyError, Job, State
from prato.data.atomic import is_disk_full, scratch_fault, why_unwritable
from prato.data.cine import Cine
from prato.data.file_identity import file_sha256
from prato.data.nifti import VolumeError
from prato.inference.prediction import CinePrediction, Prediction
from prato.inference.request import RESULT_EXTENSIONS
from prato.models.checkpoint import CheckpointError
from prato.runtime.batch_runner import BatchRunner
from prato.runtime.cancel_token import CancelledError, CancelToken
from prato.runtime.devices import is_out_of_memory

logger = logging.getLogger(__name__)
_T = TypeVar("_T")
#: How often a call is postponed for labellers who wait, and for how long at most each time, before it runs.
_YIELDS, _SECONDS = 3, 10.0
_KEPT = 50
#: A batch that has not ended by then is treated as ended; it stores nothing more.
_STOP_TIMEOUT_S = 1.5


class LowPriorityRunner(BatchRunner):
    """Runs each call in the networks' thread when no labeller waits, and again where one arrived before it was done.

    A labeller waits for one call at most, and a batch makes progress, call by call, even beside labellers who never stop.
    """

    is_immediate = False

    def wait(self) -> None:
        """Return when no labeller waits, or after a while; to be called before a study is read.

        Raises:
            CancelledError: the batch was stopped.
        """
        inference_queue.wait_idle(_SECONDS, lambda: self.token.is_cancelled)
        self.token.raise_if_cancelled()

    def __call__(self, call: Callable[[CancelToken], _T]) -> _T:
        unless_waited_for = CancelToken(lambda: self.token.is_cancelled or len(inference_queue) > 0)
        for _ in range(_YIELDS):
            if inference_queue.wait_idle(_SECONDS, lambda: self.token.is_cancelled):
                try:
                    return run_in_compute_thread(call, unless_waited_for)
                except CancelledError:
                    self.token.raise_if_cancelled()
        self.token.raise_if_cancelled()
        return run_in_compute_thread(call, self.token)


class Batch:
    """Proposals for the studies of ``order``, stored one by one.

    The networks are those that answer the labellers, and the batch yields to them between any two calls of a network.

    Attributes:
        job: its state. stopped: whether it is to end as soon as it can.
        stored: how many studies have their proposal. failed: why others have none, by study. warned: the warnings that came
            with those that have, by study.
    """

    def __init__(self, request: dict[str, Any], order: BatchOrder, predictor: LivePredictor, datastore: Datastore) -> None:
        self.job = Job(request, {})
        self.order = order
        self.stopped = False
        self.stored, self.failed, self.warned = 0, dict[str, str](), dict[str, list[str]]()
        self._predictor, self._datastore, self._began = predictor, datastore, time.monotonic()
        self._runner = LowPriorityRunner(CancelToken(lambda: self.stopped))

    def as_task(self) -> dict[str, Any]:
        """The batch as MONAI Label shows a task, with ``stored``, ``failed``, ``warned`` and, while it runs, ``progress``."""
        step, seconds = self.stored + len(self.failed), time.monotonic() - self._began
        left = seconds / step * (len(self.order.studies) - step) if step else None
        stats: dict[str, Any] = {
            "job": self.job.id,
            "step": step,
            "total_steps": len(self.order.studies),
            "seconds": round(seconds, 1),
        }
        stats["eta_seconds"] = None if left is None else round(left, 1)
        return {**self.job.as_task(stats), "stored": self.stored, "failed": dict(self.failed), "warned": dict(self.warned)}

    def run(self) -> tuple[State, str]:
        """Segment all that can be.

        Returns:
            The state in which the job ends, "done", "stopped" or "failed", and for the last one a sentence.
        """
        for study in self.order.studies:
            try:
                self._segment(study)
            except CancelledError:
                return "stopped", ""
            except CheckpointError as error:
                return "failed", str(error)
            except (VolumeError, HTTPException) as error:  # HTTPException: the study was removed meanwhile, or has no usable grid
                self._leave_out(study, str(getattr(error, "detail", error)))
            except Exception as error:
                if is_disk_full(error):
                    return "failed", "The server's disk is full: free some space on it, then start the batch again."
                if fault := scratch_fault(error):
                    return "failed", fault
                if why := why_unwritable(error):  # no other proposal could be stored either
                    reason = f"Proposals cannot be stored in the studies folder ({why})"
                    return "failed", f"{reason}: give the server write permission there, then start the batch again."
                logger.exception("%s cannot be segmented", study)
                reason = "The server has too little free memory" if is_out_of_memory(error) else type(error).__name__
                self._leave_out(study, f"{reason}: the server's log has the details.")
            else:
                self.stored += 1
                warned = f", with warnings: {', '.join(self.warned[study])}" if study in self.warned else ""
                self._log(f"{study} is segmented{warned}")
        return "done", ""

    def _segment(self, study: str) -> None:
        self._runner.wait()
        path = Path(self._datastore.get_image_uri(study))
        made_of = file_sha256(path)  # before it is read: the proposal is not of an image that takes its place meanwhile
        image = images.read_study(path, self._runner.token)
        prediction: Prediction | CinePrediction
        if isinstance(image, Cine):
            prediction = self._predictor.predict_cine_with(self._runner, self.order.device, image, self.order.prune)
        else:
            prediction = self._predictor.predict_with(self._runner, self.order.device, image, self.order.prune)
        grid = image.grid() if isinstance(image, Cine) else image.stored
        file = write_mask(grid.with_array(prediction.mask), RESULT_EXTENSIONS[0])
        try:
            reply = {**prediction.reply(), "device": self.order.device}
            self._runner.token.raise_if_cancelled()  # as late as possible: nothing is stored once the batch was stopped
            info = {"model": self.order.model, "params": reply, "image_sha256": made_of}
            self._datastore.save_label(study, file, DefaultLabelTag.ORIGINAL.value, info)
            if prediction.warnings:
                self.warned = {**self.warned, study: list(prediction.warnings)}
        finally:
            os.unlink(file)

    def _leave_out(self, study: str, sentence: str) -> None:
        self.failed = {**self.failed, study: sentence}
        self._log(f"{study} is left out: {sentence}")

    def _log(self, line: str) -> None:
        text = f"{line}; {self.stored + len(self.failed)} of {len(self.order.studies)}"
        logger.info(text)
        self.job.lines.append(text)


class Batches:
    """The last fifty batch inferences of this server, one at a time; in memory only: their proposals lie among the studies."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._batches: deque[Batch] = deque(maxlen=_KEPT)

    def all(self) -> list[Batch]:
        """Oldest first."""
        with self._changed:
            return list(self._batches)

    def start(self, batch: Batch) -> None:
        """Run ``batch`` in a thread of its own.

        Raises:
            BusyError: another one runs.
        """
        with self._changed:
            if self._running():
                raise BusyError("A batch is running already: wait until it has finished, or stop it with DELETE /batch/infer.")
            batch.job.start()
            self._batches.append(batch)
        Thread(target=self._work, args=[batch], name="batch", daemon=True).start()

    def stop(self) -> Batch | None:
        """Stop the running batch, within two seconds; what it has stored stays. None if none is running."""
        with self._changed:
            batch = self._running()
            if batch is None:
                return None
            batch.stopped = True
        inference_queue.notify()
        with self._changed:
            if not self._changed.wait_for(lambda: not batch.job.is_open, _STOP_TIMEOUT_S):
                batch.job.end("stopped")
                self._changed.notify_all()
        return batch

    def _work(self, batch: Batch) -> None:
        try:
            end = batch.run()
        except Exception as error:  # or it would be shown as running for ever
            logger.exception("the batch cannot go on")
            end = "failed", f"The batch failed ({type(error).__name__}: {error}): the server's log has the details."
        with self._changed:
            if batch.job.is_open:
                batch.job.end(*end)
            self._changed.notify_all()

    def _running(self) -> Batch | None:
        return next((batch for batch in self._batches if batch.job.is_open), None)
