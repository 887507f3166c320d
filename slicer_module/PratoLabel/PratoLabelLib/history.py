"""Undo and redo of predictions."""

from __future__ import annotations

import numpy as np


class MaskHistory:
    """Masks as they were before each prediction, the newest last; the oldest go once there are more than ``most``.

    An undo takes the labeller back to before the latest prediction, edits made since included; a redo brings all of that back.
    """

    def __init__(self, most: int = 30) -> None:
        self.most = most
        self._before: list[np.ndarray] = []
        self._after: list[np.ndarray] = []

    @property
    def can_undo(self) -> bool:
        """Whether there is a prediction to take back."""
        return bool(self._before)

    @property
    def can_redo(self) -> bool:
        """Whether one was taken back."""
        return bool(self._after)

    def add(self, current: np.ndarray) -> None:
        """Remember ``current``, the mask that a prediction is about to change; what was taken back is forgotten."""
        self._before = [*self._before, current][-self.most :]
        self._after.clear()

    def undo(self, current: np.ndarray) -> np.ndarray:
        """The mask to show instead of ``current``. Raises IndexError if there is none."""
        mask = self._before.pop()
        self._after.append(current)
        return mask

    def redo(self, current: np.ndarray) -> np.ndarray:
        """The mask to show instead of ``current``. Raises IndexError if there is none."""
        mask = self._after.pop()
        self._before.append(current)
        return mask

    def clear(self) -> None:
        """Forget everything."""
        self._before.clear()
        self._after.clear()
