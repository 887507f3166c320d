"""Memory that a process has freed, and that the C library keeps for it."""

from __future__ import annotations

import ctypes
import sys


def release_free_memory() -> None:
    """Give what this process has freed back to the system, where the C library would keep it: glibc, which Linux has.

    It keeps all that lies below something still in use, for each thread by itself: a server that had segmented, drawn and compared hearts
    for half an hour held half as much again as it needed, and more with each minute. The next to need memory waits a moment longer for it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
