"""Which phases of a cine have edits that were not sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import slicer

from PratoLabelLib.scene.drawing import Drawing, Part, has_same_parts
from PratoLabelLib.scene.study_nodes import EDITED_ATTRIBUTE, read_phases, write_phases
from PratoLabelLib.translation import translator

_ = translator(__file__)


class PhaseEdits:
    """Compares phases that were touched with what the server has of them, or made.

    Args:
        record: the node that keeps the edited phases in the scene.
        get_drawing: returns what is in a phase now.
        get_parts: returns what is beside the mask of a phase, which is given as well.
    """

    def __init__(
        self,
        record: slicer.vtkMRMLNode,
        get_drawing: Callable[[int], Drawing],
        get_parts: Callable[[int, np.ndarray], tuple[Part, ...]],
    ) -> None:
        self._record, self._get_drawing, self._get_parts = record, get_drawing, get_parts
        self._edited = read_phases(record, EDITED_ATTRIBUTE)
        self._beside: set[int] = set()  # phases with edits beside their masks
        self._touched: set[int] = set()
        self._digests: dict[int, bytes] = {}
        self._parts: dict[int, tuple[Part, ...]] = {}

    def phases(self) -> set[int]:
        """The phases whose masks are edited."""
        for phase in self._touched:
            drawing = self._get_drawing(phase)
            is_as_sent = self._digests.get(phase) == _digest(drawing.mask)
            (self._edited.discard if is_as_sent else self._edited.add)(phase)
            (self._beside.discard if has_same_parts(drawing.parts, self._parts.get(phase, ())) else self._beside.add)(phase)
        self._touched.clear()
        self._write()
        return set(self._edited)

    def all_phases(self) -> set[int]:
        """The phases with edits of any kind: also beside their masks, which cannot be sent."""
        return self.phases() | self._beside

    def note_shown(self, phase: int) -> None:
        """From here on the phase may be touched."""
        if phase not in self._digests and phase not in self._edited and phase not in self._touched:
            drawing = self._get_drawing(phase)
            self._digests[phase], self._parts[phase] = _digest(drawing.mask), drawing.parts

    def note_touched(self, phase: int, is_certain: bool = True) -> None:
        """Somebody has changed a segment of the phase, or may have."""
        self._touched.add(phase)
        if is_certain:
            self._write()  # the scene may be saved before anybody looks at it

    def note_written(self, phase: int, mask: np.ndarray, is_edit: bool) -> None:
        """The phase is ``mask``: a labeller's work that was not sent, or the server's."""
        if is_edit:
            self._edited.add(phase)
        elif phase not in self._edited:
            self._digests[phase] = _digest(mask)
            if phase not in self._parts:
                self._parts[phase] = self._get_parts(phase, mask)

    def note_sent(self, phase: int, mask: np.ndarray, parts: tuple[Part, ...] | None = None) -> None:
        """The server has ``mask``, and it is known that it has not got ``parts``; the phase may have been edited since."""
        self._digests[phase] = _digest(mask)
        if parts is not None:
            self._parts[phase] = parts
        if phase in self._edited | self._beside:
            self._touched.add(phase)

    def _write(self) -> None:
        write_phases(self._record, EDITED_ATTRIBUTE, self._edited | self._beside | self._touched)


def _digest(mask: np.ndarray) -> bytes:
    return hashlib.sha256(mask.astype(np.uint8, copy=False).tobytes()).digest()


def mark_ed_es(phases: Iterable[int], ed_es: tuple[int | None, int | None]) -> list[str]:
    """The numbers of ``phases``, those that are end-diastole and end-systole with the word: "0 (ED)", "2", "3 (ES)"."""
    ed, es = ed_es
    return [f"{phase}{' (ED)' if phase == ed else ' (ES)' if phase == es else ''}" for phase in phases]


def name_phases(phases: Sequence[int], begins: bool = True) -> str:
    """Phases in a sentence, in order: "Phases 0, 2 to 5"; ``begins``: at its beginning."""
    runs: list[list[int]] = []
    for phase in phases:
        if runs and phase == runs[-1][-1] + 1:
            runs[-1].append(phase)
        else:
            runs.append([phase])
    between = _("{first} to {last}")
    parts = [between.format(first=run[0], last=run[-1]) if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    one, more = (_("Phase {phases}"), _("Phases {phases}")) if begins else (_("phase {phases}"), _("phases {phases}"))
    return (more if len(phases) > 1 else one).format(phases=", ".join(parts))
