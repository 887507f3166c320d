"""What each click did to a mask, voxel by voxel: enough to take it back, and to do it again. Numpy alone.

A mask is uint8 (K, J, I), as everywhere in this module; voxels of a stroke are (i, j, k).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

#: So many clicks can be taken back. Each keeps the voxels that it changed, and no more.
MAX_STEPS = 100


@dataclass(frozen=True, eq=False)
class Stroke:
    """A click, or a scribble on one slice: ``voxels`` int64 (N, 3) are ``structure``, which has ``value`` in a mask.

    Attributes:
        path: float (M, 3), where it was drawn, in continuous voxel indices: the click, or the corners of the line.
    """

    structure: str
    value: int
    voxels: np.ndarray
    path: np.ndarray


@dataclass(eq=False)
class Step:
    """A stroke and what it changed.

    Attributes:
        where: flat indices of the changed voxels; before, after: their values.
        known: what the history took for certain of them before.
        effect: what the server said of it: the region it looked at, how many voxels changed, and by which network.
    """

    stroke: Stroke
    where: np.ndarray
    before: np.ndarray
    after: np.ndarray
    known: np.ndarray
    effect: Mapping[str, Any]

    def forget(self) -> None:
        """Keep the stroke alone: it cannot be taken back any more."""
        kept = (values[:0].copy() for values in (self.where, self.before, self.after, self.known))
        self.where, self.before, self.after, self.known = kept

    @property
    def has_changed_nothing(self) -> bool:
        """Whether there is nothing to take back: it never changed a voxel, or that was forgotten."""
        return self.where.size == 0


class ClickHistory:
    """The clicks on one mask, oldest first.

    Args:
        mask: what the server made, or what was there when the study was opened.

    Attributes:
        done: what was clicked. undone: what was taken back, the newest last.
    """

    def __init__(self, mask: np.ndarray) -> None:
        self.done: list[Step] = []
        self.undone: list[Step] = []
        self._known = mask.copy()
        self._forgotten = 0  # the first so many cannot be taken back

    @property
    def strokes(self) -> list[Stroke]:
        """Those that the mask knows."""
        return [step.stroke for step in self.done]

    @property
    def undoable(self) -> int:
        """How many of the newest can be taken back."""
        return len(self.done) - self._forgotten

    @property
    def can_undo(self) -> bool:
        """Whether the last click can be taken back."""
        return self.undoable > 0

    def can_change(self, step: Step) -> bool:
        """Whether ``step`` of those that are done can be taken back, with all later ones."""
        return step in self.done[self._forgotten :]

    def copy(self) -> ClickHistory:
        """One that can be changed without this one."""
        other = ClickHistory(self._known)
        other.done, other.undone, other._forgotten = [*self.done], [*self.undone], self._forgotten
        return other

    def certain(self, mask: np.ndarray) -> np.ndarray:
        """Where ``mask`` is neither as the server made it nor as a click left it: what was painted. Bool (K, J, I)."""
        return mask != self._known

    def record(
        self, stroke: Stroke, sent: np.ndarray, refined: np.ndarray, mask: np.ndarray, locked: Collection[int], effect: Mapping[str, Any]
    ) -> np.ndarray:
        """Note what ``stroke`` changes; returns the mask that is to be shown.

        Args:
            sent: what the server was asked about. refined: what it has made of it.
            mask: as it is by now; what was painted meanwhile stays.
            locked: values that neither gain nor lose a voxel.
            effect: as of a :class:`Step`.
        """
        changes = (refined != sent) & (mask == sent)
        if locked:
            changes &= ~np.isin(mask, list(locked)) & ~np.isin(refined, list(locked))
        where = np.flatnonzero(changes).astype(np.int32)
        step = Step(stroke, where, mask.ravel()[where], refined.ravel()[where], self._known.ravel()[where], effect)
        self.undone.clear()
        return self._do(step, mask)

    def undo(self, mask: np.ndarray) -> np.ndarray:
        """Take the last click back; returns the mask without it. What was painted over it since stays."""
        step, known = self.done.pop(), self._known.ravel()
        self.undone.append(step)
        is_free = mask.ravel()[step.where] == known[step.where]
        where, shown = step.where[is_free], mask.copy()
        known[where], shown.ravel()[where] = step.known[is_free], step.before[is_free]
        return shown

    def redo(self, mask: np.ndarray) -> np.ndarray:
        """Do the last click again that was taken back; returns the mask with it."""
        return self._do(self.undone.pop(), mask)

    def rewind(self, step: Step, mask: np.ndarray) -> tuple[np.ndarray, list[Stroke]]:
        """Take ``step``, which can be changed, and all later ones back for good; returns the mask of before, and the later strokes."""
        later = self.strokes[self.done.index(step) + 1 :]
        while step in self.done:
            mask = self.undo(mask)
        self.undone.clear()
        return mask, later

    def follow(self, mask: np.ndarray) -> bool:
        """Note clicks that the Segment Editor has taken back, or done again; whether there were any."""
        known, has_moved = self._known.ravel(), False
        while self.done and not self.done[-1].has_changed_nothing and _is(mask, self.done[-1], self.done[-1].before):
            step, has_moved = self.done.pop(), True
            self.undone.append(step)
            known[step.where] = step.known
        if has_moved:
            return True
        while self.undone and not self.undone[-1].has_changed_nothing and _is(mask, self.undone[-1], self.undone[-1].after):
            step, has_moved = self.undone.pop(), True
            self.done.append(step)
            known[step.where] = step.after
        return has_moved

    def _do(self, step: Step, mask: np.ndarray) -> np.ndarray:
        known = self._known.ravel()
        is_free = (mask.ravel()[step.where] == step.before) & (known[step.where] == step.known)
        where, shown = step.where[is_free], mask.copy()
        known[where], shown.ravel()[where] = step.after[is_free], step.after[is_free]
        self.done.append(step)
        if self.undoable > MAX_STEPS:
            self.done[self._forgotten].forget()
            self._forgotten += 1
        return shown


def _is(mask: np.ndarray, step: Step, values: np.ndarray) -> bool:
    return bool(np.array_equal(mask.ravel()[step.where], values))
