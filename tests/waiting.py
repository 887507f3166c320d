"""Waiting for something to happen, however long a busy or a slow machine takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

#: What has not happened after so long never will: this ends a test that hangs, not one that is slow.
HANG_S = 1500


def wait_until(
    condition: Callable[[], Any],
    meanwhile: Callable[[], Any] | None = None,
    state: Callable[[], Any] = lambda: "",
    every: float = 0.02,
    sleep: Callable[[float], Any] = time.sleep,
) -> Any:
    """Poll ``condition`` until it is true.

    Args:
        condition: its value is returned once it is true.
        meanwhile: called between two polls, to let events be handled.
        state: what to say of a condition that never comes true.
        every: seconds from one poll to the next; more where a poll is a request to a server that has something else to do.
        sleep: lets them pass.
    """
    deadline = time.monotonic() + HANG_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {state()}"
        if meanwhile:
            meanwhile()
        sleep(every)
    return value
