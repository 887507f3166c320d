"""How the calls of networks that answer a request are made: at most so many slices each, and somebody may come between two of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from prato.runtime.cancel_token import never

_T = TypeVar("_T")
#: Slices in one call of a network: a whole short-axis stack, while a long one stays within memory.
SLICES = 16


class Calls:
    """Makes each call at once, in the thread that asks for it.

    Args:
        cancelled: whether nobody wants the answer any more; asked before every step of a network, so it should be cheap.
    """

    def __init__(self, cancelled: Callable[[], bool] = never) -> None:
        self.cancelled = cancelled

    def __call__(self, call: Callable[[Callable[[], bool]], _T]) -> _T:
        """What ``call`` returns; it is given when to end early. To be made anew it must change nothing before it ends.

        Raises:
            CancelledError: ``cancelled`` said so.
        """
        return call(self.cancelled)


AT_ONCE = Calls()


def in_parts(slices: int) -> list[range]:
    """The numbers of ``slices`` slices, as many at a time as go into one call."""
    return [range(a, min(a + SLICES, slices)) for a in range(0, slices, SLICES)]
