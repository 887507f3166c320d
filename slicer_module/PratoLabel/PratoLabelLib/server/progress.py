"""How far a long request is, asked for beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

#: How often it is asked for.
INTERVAL_S = 0.25


@dataclass
class Progress:
    """How many of its ``phases`` (0 before they are known) a request has done, and how many requests come before it."""

    done: int = 0
    phases: int = 0
    before: int = 0


@contextmanager
def watch(ask: Callable[[], Any], progress: Progress) -> Iterator[None]:
    """Keep ``progress`` up to date until the block ends; that nothing is known does not matter.

    The thread that asks lives no longer than the block: the worker, which runs that, has paused the collection of garbage.
    """
    is_over = threading.Event()

    def follow() -> None:
        while not is_over.wait(INTERVAL_S):
            try:
                now = ask()
                progress.done, progress.phases, progress.before = (int(now[name]) for name in ("done", "phases", "before"))
            except Exception:  # not begun, over, cancelled, or an older server
                continue

    thread = threading.Thread(target=follow, name="PratoLabel progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
