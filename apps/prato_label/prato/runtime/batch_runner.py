"""How the calls of networks that answer a request are made: in minibatches, between which another request may run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from prato.runtime.cancel_token import NEVER_CANCELLED, CancelToken

_T = TypeVar("_T")
#: Slices in one call of a network: a whole short-axis stack, while a long one stays within memory.
MINIBATCH = 16


class BatchRunner:
    """Makes each call at once, in the calling thread; subclasses may wait for others, or make a call again.

    Args:
        token: whether nobody wants the answer any more; looked at before every step of a network.

    Attributes:
        is_immediate: whether calls that several threads make at once are made at once.
    """

    is_immediate = True

    def __init__(self, token: CancelToken = NEVER_CANCELLED) -> None:
        self.token = token

    def __call__(self, call: Callable[[CancelToken], _T]) -> _T:
        """What ``call`` returns; it is given the token that may end it early. To be made again it must change nothing before it ends.

        Raises:
            CancelledError: the token said so.
        """
        return call(self.token)


#: Makes calls at once, each to its end.
IMMEDIATE = BatchRunner()


def minibatches(slices: int) -> list[range]:
    """The numbers of ``slices`` slices, as many at a time as go into one call."""
    return [range(a, min(a + MINIBATCH, slices)) for a in range(0, slices, MINIBATCH)]
