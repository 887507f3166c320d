"""One batch inference, study by study."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from lib.batch.gaps import Gaps
from lib.batch.order import BatchOrder
from lib.infers.image_cache import images
from lib.infers.live_pipeline import LivePipeline
from lib.infers.mask_file import EXTENSIONS, write_mask
from lib.jobs import Job
from lib.jobs.job import State
from prato.data.atomic import no_room
from prato.data.nifti import VolumeError
from prato.models.checkpoint import CheckpointError
from prato.prompts.request import Request
from prato.runtime.cancel_token import CancelledError, go_on_unless

logger = logging.getLogger(__name__)


class Batch:
    """Proposals for the studies of ``order``, stored one by one as they are made.

    The networks are those that answer the labellers, and it gives way to them between any two calls of a network.

    Attributes:
        job: how it stands. stopped: it is to end as soon as it can.
        stored: how many studies have their proposal. failed: why others have none, by study.
    """

    def __init__(self, request: dict[str, Any], order: BatchOrder, pipeline: LivePipeline, datastore: Datastore) -> None:
        self.job = Job(request, {})
        self.order = order
        self.stopped = False
        self.stored, self.failed = 0, dict[str, str]()
        self._pipeline, self._datastore = pipeline, datastore
        self._gaps = Gaps(lambda: self.stopped)

    def as_task(self) -> dict[str, Any]:
        """As MONAI Label shows a task, with ``stored``, ``failed`` and, while it runs, ``progress``."""
        step, seconds = self.stored + len(self.failed), time.time() - self.job.begun
        left = seconds / step * (len(self.order.studies) - step) if step else None
        stats = {"start_ts": self.job.begun, "step": step, "total_steps": len(self.order.studies), "seconds": round(seconds, 1)}
        stats["eta_seconds"] = None if left is None else round(left, 1)
        return {**self.job.as_task(stats), "stored": self.stored, "failed": dict(self.failed)}

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
            except (VolumeError, HTTPException) as error:  # HTTPException: it was removed meanwhile, or is on no usable grid
                self._fail(study, str(getattr(error, "detail", error)))
            except Exception as error:
                if no_room(error):
                    return "failed", "The server's disk is full: free some space there, then ask for the batch again."
                logger.exception("%s cannot be segmented", study)
                self._fail(study, f"{type(error).__name__}: the server's log has the details.")
            else:
                self.stored += 1
                self._say(f"{study} is segmented")
        return "done", ""

    def _segment(self, study: str) -> None:
        self._gaps.wait()
        image = images.read(Path(self._datastore.get_image_uri(study)))
        prediction = self._pipeline.predict_call_by_call(self.order.device, image, Request(prune=self.order.prune), self._gaps)
        file = write_mask(prediction.mask, image.stored.affine, EXTENSIONS[0], np.dtype(np.uint8))
        try:
            reply = {**prediction.reply(), "device": self.order.device}
            go_on_unless(self._gaps.cancelled)  # as late as can be: nothing is begun to be stored once it was stopped
            self._datastore.save_label(study, file, DefaultLabelTag.ORIGINAL.value, {"model": self.order.model, "params": reply})
        finally:
            os.unlink(file)

    def _fail(self, study: str, sentence: str) -> None:
        self.failed = {**self.failed, study: sentence}
        self._say(f"{study} is left out: {sentence}")

    def _say(self, line: str) -> None:
        text = f"{line}; {self.stored + len(self.failed)} of {len(self.order.studies)}"
        logger.info(text)
        self.job.lines.append(text)
