"""Python imports this as it starts where the folder is on its path: its clock is then off by the seconds in the file FAULTS_CLOCK.

What it shifts is Python's own wall clock. The times that the file system gives to files stay right, as do monotonic clocks.
"""

from __future__ import annotations

import datetime
import os
import time
from datetime import datetime as _Datetime
from pathlib import Path

_true_time = time.time
_offset = Path(os.environ["FAULTS_CLOCK"])


def _time() -> float:
    return _true_time() + float(_offset.read_text() or 0)


class _Same(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _Datetime)


class _Jumping(_Datetime, metaclass=_Same):
    __slots__ = ()  # as large as the true one, which compiled libraries look at

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
        return _Datetime.fromtimestamp(_time(), tz)


time.time = _time
time.time_ns = lambda: int(_time() * 1e9)
datetime.datetime = _Jumping  # type: ignore[misc]
