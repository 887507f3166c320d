"""The batch inferences of this server's life, one at a time."""

from __future__ import annotations

import logging
from collections import deque
from threading import Condition, Thread

from lib.batch.batch import Batch
from lib.infers.turns import turns
from lib.jobs import BusyError

logger = logging.getLogger(__name__)
_KEPT = 50
#: What has not ended by itself by then is counted as ended; it begins to store nothing any more.
_PATIENCE_S = 1.5


class Batches:
    """The last fifty, in memory alone: what they made lies among the studies."""

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
                raise BusyError("A batch is running already: wait for its end, or stop it with DELETE /batch/infer.")
            batch.job.begin()
            self._batches.append(batch)
        Thread(target=self._work, args=[batch], name="batch", daemon=True).start()

    def stop(self) -> Batch | None:
        """End the batch that runs, within two seconds; what it has stored stays. None if there is none."""
        with self._changed:
            batch = self._running()
            if batch is None:
                return None
            batch.stopped = True
        turns.look()
        with self._changed:
            if not self._changed.wait_for(lambda: not batch.job.open, _PATIENCE_S):
                batch.job.end("stopped")
                self._changed.notify_all()
        return batch

    def wait(self, batch: Batch) -> None:
        """Return when ``batch`` has ended."""
        with self._changed:
            self._changed.wait_for(lambda: not batch.job.open)

    def _work(self, batch: Batch) -> None:
        try:
            end = batch.run()
        except Exception as error:  # it must not stand as running for ever
            logger.exception("the batch cannot go on")
            end = "failed", f"The batch failed ({type(error).__name__}: {error}): the server's log has the details."
        with self._changed:
            if batch.job.open:
                batch.job.end(*end)
            self._changed.notify_all()

    def _running(self) -> Batch | None:
        return next((batch for batch in self._batches if batch.job.open), None)
