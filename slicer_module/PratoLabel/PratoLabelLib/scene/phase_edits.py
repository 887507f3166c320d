"""Which phases of a cine have edits that were not sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import slicer

#: Node attribute: set while a node holds edits that were not sent; of a cine, the numbers of its phases.
EDITED_ATTRIBUTE = "PratoLabel.edited"


class PhaseEdits:
    """Compares phases that were touched with what the server has of them, or made.

    Args:
        record: the node that keeps the edited phases in the scene.
        get_mask: returns the mask of a phase as it is now.
    """

    def __init__(self, record: slicer.vtkMRMLNode, get_mask: Callable[[int], np.ndarray]) -> None:
        self._record, self._get_mask = record, get_mask
        self._edited = {int(phase) for phase in (record.GetAttribute(EDITED_ATTRIBUTE) or "").split()}
        self._touched: set[int] = set()
        self._digests: dict[int, bytes] = {}

    def phases(self) -> set[int]:
        """The edited phases."""
        for phase in self._touched:
            is_as_sent = self._digests.get(phase) == _digest(self._get_mask(phase))
            (self._edited.discard if is_as_sent else self._edited.add)(phase)
        self._touched.clear()
        if self._edited:
            self._record.SetAttribute(EDITED_ATTRIBUTE, " ".join(map(str, sorted(self._edited))))
        else:
            self._record.RemoveAttribute(EDITED_ATTRIBUTE)
        return set(self._edited)

    def note_shown(self, phase: int) -> None:
        """From here on the phase may be touched."""
        if phase not in self._digests and phase not in self._edited and phase not in self._touched:
            self._digests[phase] = _digest(self._get_mask(phase))

    def note_touched(self, phase: int) -> None:
        """Somebody has changed a segment of the phase."""
        self._touched.add(phase)

    def note_written(self, phase: int, mask: np.ndarray, is_edit: bool) -> None:
        """The phase is ``mask``: a labeller's work that was not sent, or the server's."""
        if is_edit:
            self._edited.add(phase)
        elif phase not in self._edited:
            self._digests[phase] = _digest(mask)

    def note_sent(self, phase: int, mask: np.ndarray) -> None:
        """The server has ``mask``; the phase may have been edited since."""
        self._digests[phase] = _digest(mask)
        if phase in self._edited:
            self._touched.add(phase)


def _digest(mask: np.ndarray) -> bytes:
    return hashlib.sha256(mask.astype(np.uint8, copy=False).tobytes()).digest()


def name_phases(phases: Sequence[int]) -> str:
    """Phases in a sentence, in order: "Phases 0, 2 to 5"."""
    runs: list[list[int]] = []
    for phase in phases:
        if runs and phase == runs[-1][-1] + 1:
            runs[-1].append(phase)
        else:
            runs.append([phase])
    parts = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"Phase{'s' if len(phases) > 1 else ''} {', '.join(parts)}"
