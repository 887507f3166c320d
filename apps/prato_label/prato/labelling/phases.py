"""The state of every phase of a cine's label, and what a submission, an approval or a proposal may do to it.

A phase begins without a label. A model proposes one, a labeller corrects it, and somebody other than its last editor approves it. Only
corrected and final phases are trained on. What a labeller corrected gives way to labellers alone, never to a proposal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from prato.labelling.records import LabelVersionError

State = Literal["none", "proposed", "corrected", "final"]
#: States whose voxels a labeller vouches for.
TRUSTED: tuple[State, ...] = ("corrected", "final")


class Phase(BaseModel):
    """One phase of a label.

    Attributes:
        state: how far it is.
        editor: who last drew in it; for a proposal, the model's version.
        version: of the label, in which its voxels were last replaced.
        approved_by: who made it final.
        reason: why it was sent back, by whom it was.
    """

    model_config = ConfigDict(frozen=True)

    state: State
    editor: str
    version: Annotated[int, Field(ge=1)]
    approved_by: str | None = None
    reason: str | None = None


#: By number, from 0; phases without a label are left out.
Phases = Mapping[int, Phase]


def submitted_states(params: Mapping[str, Any], count: int, changed: Iterable[int]) -> dict[int, State]:
    """What a client says of the phases that it submits: ``params["phases"]``, as ``{"3": "corrected"}``, a list of numbers, or one number.

    Args:
        count: phases of the image.
        changed: phases whose voxels differ from what is stored; corrected where the client does not say which it submits.

    Raises:
        LabelVersionError: the field is none of these, or names phases or states that there are not.
    """
    sent = params.get("phases")
    if sent is None:
        return dict.fromkeys(sorted(changed), "corrected")
    if isinstance(sent, Mapping):
        states = {_number(key, count): state for key, state in sent.items()}
    else:
        numbers = sent if isinstance(sent, list) else [sent]
        states = dict.fromkeys((_number(number, count) for number in numbers), "corrected")
    for state in states.values():
        if state not in ("proposed", "corrected"):
            raise LabelVersionError(f"A phase is submitted as proposed or corrected, not as {state!r:.40}: to make it final, approve it.")
    return states


def submit(
    phases: Phases, states: Mapping[int, State], annotator: str, version: int, base: int | None
) -> tuple[dict[int, Phase], list[int], list[int]]:
    """The phases after ``annotator`` submitted ``states`` as ``version``, made from version ``base`` (None where the client did not say).

    Returns:
        The phases; those of ``states`` whose voxels are replaced (a proposal does not replace what a labeller vouches for); and those of
        them that somebody else changed after ``base``, which the annotator has to be told of.
    """
    after, replaced, conflicts = dict(phases), [], []
    for number, state in sorted(states.items()):
        known = phases.get(number)
        if known is not None and known.state in TRUSTED:
            if state == "proposed":
                continue
            if known.editor != annotator if base is None else known.version > base:
                conflicts.append(number)
        after[number] = Phase(state=state, editor=annotator, version=version)
        replaced.append(number)
    return after, replaced, conflicts


def approve(phases: Phases, numbers: Iterable[int], approver: str, alone: bool = False) -> dict[int, Phase]:
    """The phases after ``approver`` made ``numbers`` final.

    Args:
        alone: whether people may approve what they drew themselves.

    Raises:
        LabelVersionError: a phase that no labeller corrected, or that ``approver`` drew.
    """
    after = dict(phases)
    for number in numbers:
        known = phases.get(number)
        if known is None or known.state not in TRUSTED:
            state = "has no label" if known is None else f"is only {known.state}"
            raise LabelVersionError(f"Phase {number} {state}: a phase is approved after somebody has corrected it.")
        if known.editor == approver and not alone:
            raise LabelVersionError(f"Phase {number} was drawn by {approver}: somebody else has to approve it.")
        after[number] = known.model_copy(update={"state": "final", "approved_by": approver, "reason": None})
    return after


def send_back(phases: Phases, numbers: Iterable[int], reason: str) -> dict[int, Phase]:
    """The phases after ``numbers`` were sent back to their labellers: proposals again, so that nothing is trained on them.

    Raises:
        LabelVersionError: a phase that no labeller corrected.
    """
    after = dict(phases)
    for number in numbers:
        known = phases.get(number)
        if known is None or known.state not in TRUSTED:
            raise LabelVersionError(f"Phase {number} holds no labeller's work: there is nothing to send back.")
        after[number] = known.model_copy(update={"state": "proposed", "approved_by": None, "reason": reason})
    return after


def trusted_phases(phases: Phases) -> list[int]:
    """The phases that may be trained on, in order."""
    return sorted(number for number, phase in phases.items() if phase.state in TRUSTED)


def _number(value: Any, count: int) -> int:
    """A phase's number, of ``count``, from a JSON value or the key of a JSON object."""
    number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 9 else value
    if type(number) is not int or not 0 <= number < count:
        raise LabelVersionError(f"The image has phases 0 to {count - 1}: there is no phase {value!r:.40}.")
    return number
