"""One background job, from being asked for to its end."""

from __future__ import annotations

import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

State = Literal["queued", "running", "done", "stopped", "failed", "interrupted"]
#: What MONAI Label's clients call it. An interrupted training is an error to them, with a sentence that says how to go on.
_STATUS: dict[str, str] = {
    **{"queued": "SUBMITTED", "running": "RUNNING", "done": "DONE", "stopped": "STOPPED", "failed": "ERROR", "interrupted": "ERROR"},
}
#: Of its log, kept with it.
LINES = 20


def _clock() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")


@dataclass
class Job:
    """A training of ``request["model"]``, or a batch inference by it.

    Attributes:
        request: as asked for. order: the same for the process that trains (JSON values), empty for a batch.
        state: queued -> running -> done, stopped or failed; interrupted, if the server ended before it did.
        begun: when it began to run, in seconds since 1970. lines: the last of its log.
        result: of ``train_round``, once done. sentence: why it failed.
    """

    request: dict[str, Any]
    order: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: State = "queued"
    started: str = field(default_factory=_clock)
    ended: str | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))
    result: dict[str, Any] | None = None
    sentence: str = ""
    begun: float = 0.0

    def begin(self) -> None:
        """It is this one's turn."""
        self.state, self.begun = "running", time.time()

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.state in ("queued", "running")

    def end(self, state: State, sentence: str = "", result: dict[str, Any] | None = None) -> None:
        """Its last change of state."""
        self.state, self.sentence, self.result, self.ended = state, sentence, result, _clock()
        if sentence:
            # where the log of a training that MONAI Label runs shows the reason, and where clients look for it
            self.lines.append(f"HTTPException: {sentence}")

    def as_task(self, stats: dict[str, Any]) -> dict[str, Any]:
        """As MONAI Label shows a task, with ``state``, ``sentence`` and how far it is by the model's ``stats``."""
        task: dict[str, Any] = {"id": self.id, "status": _STATUS[self.state], "request": self.request, "start_ts": self.started}
        if self.state != "queued":
            task["details"] = list(self.lines)
        if self.ended:
            task["end_ts"] = self.ended
        task["state"] = self.state
        if self.sentence:
            task["sentence"] = self.sentence
        if self.state == "running" and stats.get("start_ts", 0) >= int(self.begun):
            task["progress"] = {name: stats.get(name) for name in ("step", "total_steps", "seconds", "eta_seconds")}
        return task
