"""What a submission, an approval or a proposal may do to the phases of a label.

A phase begins without a label. A model proposes one, a labeller corrects it, and somebody other than its last editor approves it. Only
corrected and final phases are trained on. What a labeller drew gives way to labellers alone, never to a proposal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from prato.labelling.records import UNKNOWN, LabelVersionError, Phase, Phases, State, person_of


def phase_count(mask: np.ndarray) -> int:
    """The phases of ``mask``, (X, Y, Z) or (X, Y, Z, T)."""
    return int(mask.shape[3]) if mask.ndim == 4 else 1


def phase_of(mask: np.ndarray, number: int) -> np.ndarray:
    """Phase ``number`` of ``mask``, (X, Y, Z) or (X, Y, Z, T), as a view (X, Y, Z)."""
    return mask[..., number] if mask.ndim == 4 else mask


def named_phases(params: Mapping[str, Any], count: int | None = None) -> list[int] | None:
    """The numbers in ``params["phases"]``, whatever else it says of them; None where a client names none.

    Args:
        count: phases of the image, where it is known.

    Raises:
        LabelVersionError: as ``submitted_states``.
    """
    return None if params.get("phases") is None else sorted(_sent_states(params["phases"], count))


def submitted_states(params: Mapping[str, Any], count: int, changed: Iterable[int]) -> dict[int, State]:
    """What a client says of the phases that it submits: ``params["phases"]``, as ``{"3": "corrected"}``, a list of numbers, or one number.

    Args:
        count: phases of the image.
        changed: phases that differ from what the client began with; corrected where it does not say which it submits.

    Raises:
        LabelVersionError: the field is none of these, names no phase, or phases or states that there are not.
    """
    sent = params.get("phases")
    if sent is None:
        return dict.fromkeys(sorted(changed), "corrected")
    states = _sent_states(sent, count)
    for state in states.values():
        if state not in ("proposed", "corrected"):
            raise LabelVersionError(f"A phase is submitted as proposed or corrected, not as {state!r:.40}: to make it final, approve it.")
    return states


def _sent_states(sent: Any, count: int | None) -> dict[int, Any]:
    if isinstance(sent, Mapping):
        states = {_number(key, count): state for key, state in sent.items()}
    else:
        states = dict.fromkeys((_number(number, count) for number in (sent if isinstance(sent, list) else [sent])), "corrected")
    if not states:
        raise LabelVersionError("phases names no phase: give numbers such as [0, 12], or leave it out.")
    return states


def submit(phases: Phases, states: Mapping[int, State], annotator: str, version: int, model: str | None = None) -> dict[int, Phase]:
    """The phases after ``annotator`` submitted ``states`` as ``version``; those that are replaced have that version.

    A proposal, of which ``model`` is the version, does not replace what a labeller drew.
    """
    after = dict(phases)
    for number, state in sorted(states.items()):
        known = phases.get(number)
        if state != "proposed":
            after[number] = Phase(state=state, editor=annotator, version=version)
        elif known is None or not known.is_drawn:
            after[number] = Phase(state=state, editor=model or annotator, version=version)
    return after


def approve(phases: Phases, numbers: Iterable[int], approver: str, alone: bool = False) -> dict[int, Phase]:
    """The phases after ``approver`` made ``numbers`` final.

    Args:
        alone: whether people may approve what they drew themselves.

    Raises:
        LabelVersionError: a phase that no labeller corrected, or that ``approver`` drew.
    """
    after = dict(phases)
    for number in numbers:
        known = _corrected(phases, number, "approved")
        if not alone and person_of(known.editor) == person_of(approver):
            raise LabelVersionError(f"Phase {number} was drawn by {approver}: somebody else has to approve it.")
        after[number] = known.model_copy(update={"state": "final", "approved_by": approver, "reason": None})
    return after


def send_back(phases: Phases, numbers: Iterable[int], reason: str) -> dict[int, Phase]:
    """The phases after ``numbers`` were sent back to their labellers: nothing is trained on them until somebody corrects them.

    Raises:
        LabelVersionError: a phase that no labeller corrected.
    """
    after = dict(phases)
    for number in numbers:
        known = _corrected(phases, number, "sent back")
        after[number] = known.model_copy(update={"state": "proposed", "approved_by": None, "reason": reason})
    return after


def _corrected(phases: Phases, number: int, decision: str) -> Phase:
    """Phase ``number``, which a labeller must have drawn for a ``decision`` about it."""
    known = phases.get(number)
    if known is None or not known.is_trusted:
        state = "has no label" if known is None else f"is only {known.state}"
        raise LabelVersionError(f"Phase {number} {state}: a phase can be {decision} only once somebody has corrected it.")
    return known


def found_phases(mask: np.ndarray, version: int, before: Phases, earlier: np.ndarray | None) -> dict[int, Phase]:
    """The phases of a label that was put into the folder by other means as ``version``.

    Whoever puts a label among the final ones vouches for it: each phase that holds a structure is corrected, by nobody known. But one that
    is voxel for voxel as it was stored before, in ``earlier`` (of the same shape, None where there is none), is what it was (``before``).
    """
    phases = {}
    is_comparable = earlier is not None and earlier.shape == mask.shape
    for number in range(phase_count(mask)):
        drawn = phase_of(mask, number)
        if not drawn.any():
            continue
        is_same = is_comparable and number in before and np.array_equal(drawn, phase_of(earlier, number))  # type: ignore[arg-type]
        phases[number] = before[number] if is_same else Phase(state="corrected", editor=UNKNOWN, version=version)
    return phases


def trusted_phases(phases: Phases) -> list[int]:
    """The phases that may be trained on, in order."""
    return sorted(number for number, phase in phases.items() if phase.is_trusted)


def _number(value: Any, count: int | None) -> int:
    """A phase's number, of ``count``, from a JSON value or the key of a JSON object."""
    number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 9 else value
    if type(number) is not int or number < 0:
        raise LabelVersionError(f"A phase is a number, counted from 0, not {value!r:.40}.")
    if count is not None and number >= count:
        raise LabelVersionError(f"The image has {f'phases 0 to {count - 1}' if count > 1 else 'one phase, 0'}: there is no phase {number}.")
    return number
