"""Whether the server has been told to stop: it stops once its requests are answered, and some of them wait for jobs of hours."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_told = threading.Event()


def is_ending() -> bool:
    """Whether the server has been told to stop."""
    return _told.is_set()


def notice_signals() -> None:
    """To be called while the server starts, with its own handlers in place, which still do their work."""
    if threading.current_thread() is not threading.main_thread():  # signals are another's business
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, _Noticed(handler))
    # a terminal that is closed would end it in the middle of a request; nohup has it ignored, and stays so
    end = signal.getsignal(signal.SIGTERM)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL and callable(end):
        signal.signal(signal.SIGHUP, lambda _, frame: end(signal.SIGTERM, frame))


class _Noticed:
    """A handler in front of ``handler``."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        _told.set()
        self._handler(number, frame)
