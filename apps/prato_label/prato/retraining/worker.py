"""The process that trains: ``python -m prato.retraining``, kept warm from one round to the next.

It reads one JSON object a line: ``{"id", "order"}`` starts a round, ``{"stop": id}`` ends it. It writes one a line, too: ``{"id", "line"}``
is a line of the log, ``{"id", "end"}`` the last message: "done" with a ``result``, "stopped", or "failed" with a ``sentence``. When its
input ends, as it does when the server dies however it dies, it stops what runs, stores it, and ends.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import torch

from prato.data.atomic import is_disk_full, why_unwritable
from prato.data.studies.splits import SplitError
from prato.models.checkpoint import CheckpointError
from prato.retraining.comparison import NothingComparedError
from prato.retraining.model_store import StoreError
from prato.retraining.round import TrainingOrder, train_round
from prato.retraining.training_data import TooFewPatientsError
from prato.runtime.devices import is_out_of_memory
from prato.runtime.memory import release_free_memory
from prato.training.fine_tuning import TrainingStopped

#: Errors whose message is written for a person.
_REFUSALS = (TooFewPatientsError, NothingComparedError, SplitError, CheckpointError, StoreError)


class _LogSender(logging.Handler):
    """Sends the log of the round ``job`` to the server."""

    def __init__(self, worker: _Worker, job: str) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("[%(asctime)s] (%(name)s) %(levelname)s - %(message)s", "%Y-%m-%d %H:%M:%S"))
        self._worker, self._job = worker, job

    def emit(self, record: logging.LogRecord) -> None:
        self._worker.send(id=self._job, line=self.format(record))


class _Worker:
    """Runs rounds one after the other on the thread that calls :meth:`run`, while another thread reads what the server sends."""

    def __init__(self, orders: IO[str], answers: IO[str]) -> None:
        self._orders, self._answers = orders, answers
        self._queue: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._stopped: set[str | None] = set()

    def send(self, **message: Any) -> None:
        """Send one line to the server, which may be gone."""
        try:
            self._answers.write(json.dumps(message) + "\n")
            self._answers.flush()
        except (OSError, ValueError):
            self._stopped.add(None)

    def listen(self) -> None:
        """Read orders until the server is gone."""
        for line in self._orders:
            message = json.loads(line)
            if "stop" in message:
                self._stopped.add(message["stop"])
            else:
                self._queue.put(message)
        self.close()

    def close(self) -> None:
        """End the round that runs, as if stopped, and then the process."""
        self._stopped.add(None)
        self._queue.put(None)

    def run(self) -> None:
        """Work until the server is gone."""
        while (message := self._queue.get()) is not None:
            job = message["id"]
            sender = _LogSender(self, job)
            logging.getLogger("prato").addHandler(sender)
            try:
                end = self._run_round(job, message["order"])
            finally:
                torch.cuda.empty_cache()  # while this process waits, the server needs the memory of the round, on the GPU and here
                release_free_memory()
                logging.getLogger("prato").removeHandler(sender)
            self.send(id=job, **end)

    def _run_round(self, job: str, order: Any) -> dict[str, Any]:
        try:
            result = train_round(TrainingOrder.model_validate(order), lambda: not {job, None} & self._stopped)
        except TrainingStopped:
            return {"end": "stopped"}
        except _REFUSALS as error:
            return {"end": "failed", "sentence": str(error)}
        except Exception as error:
            if is_disk_full(error):
                return {"end": "failed", "sentence": "The server's disk is full: free some space on it, then start the training again."}
            if is_out_of_memory(error):
                remedy = "end other programs on it, then start the training again."
                return {"end": "failed", "sentence": f"The server has too little free memory for the training: {remedy}"}
            if (why := why_unwritable(error)) and (what := _folder_of(error, order)):
                remedy = "give the server write permission there, then start the training again."
                return {"end": "failed", "sentence": f"The {what} folder cannot be written to ({why}): {remedy}"}
            logging.getLogger(__name__).exception("the training failed")
            return {
                "end": "failed",
                "sentence": f"The training failed ({type(error).__name__}: {error}): the server's log has the details.",
            }
        return {"end": "done", "result": result}


def _folder_of(error: BaseException, order: Any) -> str | None:
    """Of which folder of ``order`` the file is that ``error`` is about; None where it is of neither."""
    path = getattr(error, "filename", None)
    places = [("models", order["model"]), *(("studies", file["image"]) for file in order.get("files", ())[:1])]
    return next((what for what, file in places if isinstance(path, str) and Path(path).is_relative_to(Path(file).parent)), None)


def main() -> None:
    """Work for the process that holds the other end of standard input and output."""
    # what libraries print must not come between the messages
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logging.getLogger("prato").setLevel(logging.INFO)
    worker = _Worker(sys.stdin, answers)
    # an interrupt at the terminal reaches this process, too: it ends in its own time, with its state stored
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: worker.close())
    threading.Thread(target=worker.listen, name="orders", daemon=True).start()
    worker.run()
