"""The queue of inference requests: one runs at a time, and a click beside it; a limited number waits, and any can be cancelled."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import takewhile
from typing import Any

from prato.data.studies.ed_es import NamedPhases
from prato.propagation.propagate import CorrectedPhases
from prato.runtime.cancel_token import CancelledError
from prato_server.settings import load_settings


class QueueFullError(Exception):
    """No more requests may wait; ``seconds`` is when to try again."""

    def __init__(self, waiting: int, seconds: int) -> None:
        who = {0: "A request is running", 1: "1 request is waiting"}.get(waiting, f"{waiting} requests are waiting")
        super().__init__(f"{who} already: try again in {seconds} s.")
        self.seconds = seconds


class InferenceSlot:
    """One request's place in the queue.

    Attributes:
        request_id: under which it can be cancelled.
        is_correction: whether it corrects a mask that was sent with it, which takes a moment, whatever else is computed.
        is_cancelled: whether nobody waits for the answer any more.
        reply: the JSON part of the answer, once there is one.
        named: end-diastole and end-systole of the study, where somebody named them.
        height_cm, weight_kg: the patient's, where they are known.
        corrections: phases of the study that the others are to follow, where they are.
        phases, done: how many phases are segmented, once that is known, and how many are done.
    """

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.is_correction = False
        self.is_cancelled = False
        self.reply: dict[str, Any] = {}
        self.named: NamedPhases | None = None
        self.height_cm: float | None = None
        self.weight_kg: float | None = None
        self.corrections: CorrectedPhases | None = None
        self.phases, self.done = 0, 0


class InferenceQueue:
    """All requests for inference, in the order in which they came. Of corrections, and of all others, the first one is running.

    Two at once would only share the same cores, or the same GPU; but who clicks must not wait for somebody else's whole cine.
    """

    def __init__(self, max_waiting: int) -> None:
        """Args: max_waiting: how many corrections, and how many others, may wait behind the one that computes."""
        self.max_waiting = max_waiting
        self._slots: deque[InferenceSlot] = deque()
        self._changed = threading.Condition()
        self._seconds = {False: 1.0, True: 1.0}  # by whether it is a correction

    def __len__(self) -> int:
        """Requests in the queue, those that compute included."""
        return len(self._slots)

    @contextmanager
    def acquire(self, slot: InferenceSlot) -> Iterator[None]:
        """Wait until ``slot`` is the first of its kind; the next one is when the block ends.

        Raises:
            QueueFullError: too many wait.
            CancelledError: it was cancelled while it waited.
        """
        with self._changed:
            if (ahead := len(self._ahead_of(slot))) > self.max_waiting:
                raise QueueFullError(ahead - 1, math.ceil(self._seconds[slot.is_correction] * ahead))
            self._slots.append(slot)
            try:
                self._changed.wait_for(lambda: slot.is_cancelled or not self._ahead_of(slot))
                if slot.is_cancelled:
                    raise CancelledError
            except BaseException:
                self._release(slot)
                raise
        start = time.monotonic()
        token = current_slot.set(slot)
        try:
            yield
        finally:
            current_slot.reset(token)
            with self._changed:
                self._seconds[slot.is_correction] = max(time.monotonic() - start, 0.1)
                self._release(slot)

    def cancel(self, request_id: str) -> bool:
        """Cancel the requests with that id, whether waiting or running; False if there is none."""
        with self._changed:
            found = [slot for slot in self._slots if slot.request_id == request_id]
            for slot in found:
                slot.is_cancelled = True
            self._changed.notify_all()
        return bool(found)

    def progress(self, request_id: str) -> dict[str, Any] | None:
        """How far the request of that id is, as ``docs/protocol/cines.md`` describes it; None where there is none."""
        with self._changed:
            for slot in self._slots:
                if slot.request_id == request_id:
                    state = "waiting" if (before := len(self._ahead_of(slot))) else "computing"
                    return {"request_id": request_id, "state": state, "before": before, "phases": slot.phases, "done": slot.done}
        return None

    def notify(self) -> None:
        """To be called when a slot was marked as cancelled: those who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def wait_idle(self, seconds: float, unless: Callable[[], bool]) -> bool:
        """Wait until the queue is empty, or ``unless`` says so (see :meth:`notify`), ``seconds`` at most; whether that has come."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._slots or unless(), seconds)

    def _ahead_of(self, slot: InferenceSlot) -> list[InferenceSlot]:
        """Those of its kind that came before it, or all of them where it is not in the queue yet."""
        return [*takewhile(lambda other: other is not slot, (other for other in self._slots if other.is_correction == slot.is_correction))]

    def _release(self, slot: InferenceSlot) -> None:
        self._slots.remove(slot)
        self._changed.notify_all()


#: The slot in which the running code computes; unset where it runs outside of any request.
current_slot: ContextVar[InferenceSlot] = ContextVar("current_slot")
inference_queue = InferenceQueue(load_settings().max_waiting)
