"""Work that nobody waits for any more, stopped between its parts."""

from __future__ import annotations

from collections.abc import Callable


class CancelledError(Exception):
    """The work was given up before it was done."""


def never() -> bool:
    """Of work that always runs to its end."""
    return False


def go_on_unless(cancelled: Callable[[], bool]) -> None:
    """To be called between two parts of the work; ``cancelled`` should be cheap.

    Raises:
        CancelledError: ``cancelled`` says so.
    """
    if cancelled():
        raise CancelledError
