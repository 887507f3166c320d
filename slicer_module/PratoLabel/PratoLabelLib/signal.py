"""A signal without Qt: the logic says that something happened, whoever shows it listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Signal:
    """Calls its listeners in the order in which they connected. For the main thread alone."""

    def __init__(self) -> None:
        self._listeners: list[Callable[..., None]] = []

    def connect(self, listener: Callable[..., None]) -> None:
        """Call ``listener`` at every :meth:`emit`."""
        self._listeners.append(listener)

    def disconnect(self, listener: Callable[..., None]) -> None:
        """Call ``listener`` no more.

        Raises:
            ValueError: it was not connected.
        """
        self._listeners.remove(listener)

    def emit(self, *args: Any) -> None:
        """Tell every listener."""
        for listener in list(self._listeners):
            listener(*args)
