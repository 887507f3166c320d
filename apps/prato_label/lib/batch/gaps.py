"""When a batch computes: in the gaps that labellers leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lib.infers.live_pipeline import in_their_thread
from lib.infers.turns import turns
from prato.runtime.batch_runner import Calls
from prato.runtime.cancel_token import CancelledError, go_on_unless

_T = TypeVar("_T")
#: How often a call is put off for labellers who wait, and how long at most each time, before it is its turn.
_TIMES, _SECONDS = 3, 10.0


class Gaps(Calls):
    """Makes each call in the networks' thread when no labeller waits, and anew where one came before it was done.

    A labeller waits for one call at most, and a batch beside labellers who never stop goes on all the same, call by call.
    """

    def wait(self) -> None:
        """Return when no labeller waits, or has waited for long: to be asked before a study is read.

        Raises:
            CancelledError: the batch was stopped.
        """
        turns.quiet(_SECONDS, self.cancelled)
        go_on_unless(self.cancelled)

    def __call__(self, call: Callable[[Callable[[], bool]], _T]) -> _T:
        for _ in range(_TIMES):
            if turns.quiet(_SECONDS, self.cancelled):
                try:
                    return in_their_thread(call, lambda: self.cancelled() or turns.length() > 0)
                except CancelledError:
                    go_on_unless(self.cancelled)
        go_on_unless(self.cancelled)
        return in_their_thread(call, self.cancelled)
