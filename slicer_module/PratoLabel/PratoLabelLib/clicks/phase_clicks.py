"""The clicks on one phase: those that were made, those that wait, and those that are made anew. Numpy alone."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from PratoLabelLib.errors import UserError
from PratoLabelLib.measures.click_history import ClickHistory, Stroke
from PratoLabelLib.translation import translator

_ = translator(__file__)

#: So many masks that clicks were replaced in are known again when the Segment Editor brings them back: as many states as it keeps, at most.
MAX_VERSIONS = 20


@dataclass(eq=False)
class Remake:
    """Clicks that are made anew, on a copy: what is shown, and can be undone, stays until the last of them is there.

    Attributes:
        history, mask: as they are so far.
        seen: the segments, when they were last looked at.
        waiting: the clicks that are still to be made.
    """

    history: ClickHistory
    mask: np.ndarray
    seen: np.ndarray
    waiting: list[Stroke] = field(default_factory=list)

    def follow(self, now: np.ndarray) -> None:
        """Take over what was painted since."""
        self.mask, self.seen = np.where(now != self.seen, now, self.mask), now


class PhaseClicks:
    """What was clicked on a mask (K, J, I), and what is still to come of it.

    Attributes:
        history: the clicks that were made; None where the segments were replaced, until somebody looks at the new ones.
        waiting: the clicks that were not made yet. remake: those that are made anew before them.
    """

    def __init__(self) -> None:
        self.history: ClickHistory | None = None
        self.waiting: list[Stroke] = []
        self.remake: Remake | None = None
        self._versions: deque[tuple[bytes, ClickHistory, list[Stroke]]] = deque(maxlen=MAX_VERSIONS)

    @property
    def strokes(self) -> list[Stroke]:
        """All of them, oldest first, as they are going to be."""
        history = self.remake.history if self.remake is not None else self.history
        anew = self.remake.waiting if self.remake is not None else []
        return [*(history.strokes if history is not None else ()), *anew, *self.waiting]

    @property
    def next(self) -> Stroke | None:
        """The one whose turn it is."""
        return next(iter(self.remake.waiting if self.remake is not None else self.waiting), None)

    def begin(self, now: np.ndarray) -> tuple[ClickHistory, np.ndarray]:
        """The clicks that were made before the next one, and the mask that they have made; the segments are ``now``."""
        if self.remake is not None:
            self.remake.follow(now)
            return self.remake.history, self.remake.mask
        if self.history is None:
            self.history = ClickHistory(now)
            self._note_version(now)
        return self.history, now

    @property
    def has_past(self) -> bool:
        """Whether there is anything that the Segment Editor could take back, or do again."""
        return len(self._versions) > 1 or (self.history is not None and bool(self.history.done or self.history.undone))

    def follow(self, now: np.ndarray) -> bool:
        """Note what the Segment Editor has taken back, or done again; whether there was any of it."""
        digest = _digest(now)
        known = (version[1] for version in reversed(self._versions) if version[0] == digest and version[1].strokes == version[2])
        found = next(known, None)
        if found is not None and found is not self.history:
            self.history, self.remake = found, None
            return True
        has_moved = self.history is not None and self.history.follow(now)
        if has_moved:
            self.remake = None  # of clicks that are not there any more
        return has_moved

    def finish(
        self, stroke: Stroke, sent: np.ndarray, refined: np.ndarray, now: np.ndarray, locked: Collection[int], effect: Mapping[str, Any]
    ) -> np.ndarray:
        """The next click is made; returns the mask that is to be shown in place of ``now``. Arguments as :meth:`ClickHistory.record`."""
        history, mask = self.begin(now)
        shown = history.record(stroke, sent, refined, mask, locked, effect)
        if self.remake is None:
            self.waiting.remove(stroke)
            return shown
        self.remake.mask = shown
        self.remake.waiting.remove(stroke)
        return self._complete(now)

    def change(self, stroke: Stroke, by: list[Stroke], now: np.ndarray, is_last: bool = False) -> np.ndarray:
        """Put ``by`` in the place of a click; returns the mask that is to be shown in place of ``now``.

        Args:
            is_last: later clicks go with it.

        Raises:
            UserError: the click is too old for that.
        """
        waiting = self.waiting if stroke in self.waiting else self.remake.waiting if self.remake is not None else []
        if stroke in waiting:
            index = waiting.index(stroke)
            waiting[index : index + 1] = by
            return self._complete(now)
        history, mask = self.begin(now)
        step = next((step for step in history.done if step.stroke is stroke), None)
        if step is None:
            return now
        if not history.can_change(step):
            raise UserError(_("This click is too old to be moved or undone: click on what is wrong, or paint."))
        if self.remake is None:
            self.remake = Remake(history.copy(), mask, now)
        self.remake.mask, later = self.remake.history.rewind(step, self.remake.mask)
        self.remake.waiting[:0] = by if is_last else [*by, *later]
        return self._complete(now)

    def clear(self, now: np.ndarray) -> np.ndarray:
        """Take all clicks back for good that can be; returns the mask that is to be shown in place of ``now``."""
        self.waiting, self.remake = [], None
        history, _ = self.begin(now)
        return self.change(history.strokes[-history.undoable], [], now, is_last=True) if history.can_undo else now

    def end(self, now: np.ndarray) -> None:
        """The segments ``now`` are replaced: what was made in them is past. What waits is made in the new ones."""
        self._note_version(now)
        self.history = self.remake = None

    def _complete(self, now: np.ndarray) -> np.ndarray:
        remake = self.remake
        if remake is None or remake.waiting:
            return now
        self._note_version(now)
        self.history, self.remake = remake.history, None
        self._note_version(remake.mask)
        return remake.mask

    def _note_version(self, mask: np.ndarray) -> None:
        """The clicks are those of ``mask``, should the Segment Editor bring that back."""
        if self.history is not None:
            self._versions.append((_digest(mask), self.history, self.history.strokes))


def _digest(mask: np.ndarray) -> bytes:
    return hashlib.sha256(mask.tobytes()).digest()
