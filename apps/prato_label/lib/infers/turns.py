"""Who computes: one request at a time, a bounded number waiting, and any of them can be cancelled."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from prato.runtime.cancel_token import CancelledError
from prato_server.settings import load_settings


class FullError(Exception):
    """No more requests may wait; ``seconds`` is when to ask again."""

    def __init__(self, waiting: int, seconds: int) -> None:
        super().__init__(f"{waiting} requests wait already: ask again in {seconds} s.")
        self.seconds = seconds


class Turn:
    """One request's place in the line.

    Attributes:
        request_id: under which it can be cancelled.
        cancelled: whether nobody wants the answer any more.
        reply: the JSON part of the answer, once there is one.
    """

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.cancelled = False
        self.reply: dict[str, Any] = {}


class Turns:
    """The line of all requests for inference, in the order in which they came; the first one computes.

    Two at once would only share the same cores, or the same GPU.
    """

    def __init__(self, waiting: int) -> None:
        """Args: waiting: how many may stand behind the one that computes."""
        self.waiting = waiting
        self._line: deque[Turn] = deque()
        self._changed = threading.Condition()
        self._seconds = 1.0

    @contextmanager
    def taken(self, turn: Turn) -> Iterator[None]:
        """Wait until it is ``turn``'s; the next one's comes when the block ends.

        Raises:
            FullError: the line is full.
            CancelledError: it was cancelled while it waited.
        """
        with self._changed:
            if len(self._line) > self.waiting:
                raise FullError(len(self._line) - 1, math.ceil(self._seconds * len(self._line)))
            self._line.append(turn)
            try:
                self._changed.wait_for(lambda: turn.cancelled or self._line[0] is turn)
                if turn.cancelled:
                    raise CancelledError
            except BaseException:
                self._leave(turn)
                raise
        start = time.monotonic()
        token = current_turn.set(turn)
        try:
            yield
        finally:
            current_turn.reset(token)
            with self._changed:
                self._seconds = max(time.monotonic() - start, 0.1)
                self._leave(turn)

    def cancel(self, request_id: str) -> bool:
        """Give up the requests of that id, waiting or computing; False where there is none."""
        with self._changed:
            found = [turn for turn in self._line if turn.request_id == request_id]
            for turn in found:
                turn.cancelled = True
            self._changed.notify_all()
        return bool(found)

    def look(self) -> None:
        """To be called when a turn was marked as cancelled: who waits looks again."""
        with self._changed:
            self._changed.notify_all()

    def quiet(self, seconds: float, unless: Callable[[], bool]) -> bool:
        """Wait until the line is empty, or ``unless`` says so (see :meth:`look`), ``seconds`` at most; whether that has come."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._line or unless(), seconds)

    def length(self) -> int:
        """Requests in the line, the one that computes included."""
        return len(self._line)

    def _leave(self, turn: Turn) -> None:
        self._line.remove(turn)
        self._changed.notify_all()


#: The turn in which the running code computes; unset where it runs outside of any request.
current_turn: ContextVar[Turn] = ContextVar("current_turn")
turns = Turns(load_settings().max_waiting)
