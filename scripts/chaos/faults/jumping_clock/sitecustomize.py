"""Python imports this as it starts where the folder is on its path: `time.time` is then off by the seconds in the file FAULTS_CLOCK.

Nothing else is shifted: `datetime.now`, the times that the file system gives to files, and monotonic clocks stay right.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_true_time = time.time
_offset = Path(os.environ["FAULTS_CLOCK"])


def _time() -> float:
    return _true_time() + float(_offset.read_text() or 0)


time.time = _time
