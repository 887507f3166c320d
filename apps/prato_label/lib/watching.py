"""Changes in the studies folder that come from outside the server: seen, however many there are, without falling behind."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread

from watchdog.events import FileCreatedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent, FileSystemEvent

logger = logging.getLogger(__name__)
#: Not that a file is opened or closed: the server reads every version of a label when one is submitted, and the watcher, looking at its own
#: reading, would fill the memory with events faster than it can deal with them.
CHANGES = [FileCreatedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent]


class Refresher:
    """Called with an event, has ``refresh`` run soon; one run answers all events that came before it began."""

    def __init__(self, refresh: Callable[[], None]) -> None:
        self._refresh, self._due = refresh, Event()
        Thread(target=self._work, name="refresh", daemon=True).start()

    def __call__(self, event: FileSystemEvent) -> None:
        self._due.set()

    def _work(self) -> None:
        while self._due.wait():
            self._due.clear()
            try:
                self._refresh()
            except Exception:  # the next change must be seen all the same
                logger.exception("the studies folder cannot be looked through")
