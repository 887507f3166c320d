"""Cancels work that nobody waits for any more, between two of its parts."""

from __future__ import annotations

from collections.abc import Callable


class CancelledError(Exception):
    """The work was given up before it was done."""


class CancelToken:
    """Handed to work, so that it can be told to end early.

    Args:
        is_cancelled: whether nobody wants the result any more; called between all parts of the work, so it should be cheap.
    """

    def __init__(self, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        self._is_cancelled = is_cancelled

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants the result any more."""
        return self._is_cancelled()

    def raise_if_cancelled(self) -> None:
        """To be called between two parts of the work.

        Raises:
            CancelledError: nobody wants the result any more.
        """
        if self._is_cancelled():
            raise CancelledError


#: Of work that always runs to its end.
NEVER_CANCELLED = CancelToken()
