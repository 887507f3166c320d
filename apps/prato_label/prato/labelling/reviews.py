"""A second person's decision about phases of a label: approved, or sent back to their labellers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Literal

from prato.labelling.phases import approve, named_phases, send_back
from prato.labelling.records import UNKNOWN, LabelVersionError, OvertakenError, Review, UnknownVersionError, Version, annotator_from


def apply_review(
    study: str, current: Version | None, decision: Literal["approved", "sent back"], params: Mapping[str, Any], alone: bool
) -> Version:
    """The record of ``current``, the label of ``study``, after the review that ``params`` describe (see ``LabelVersions.review``).

    Raises:
        UnknownVersionError: there is no label.
        OvertakenError: a phase was replaced after the version that was looked at.
        LabelVersionError: nobody is named, or what is no name; no reason is given, or as ``approve`` and ``send_back``.
    """
    if current is None:
        raise UnknownVersionError(f"{study} has no label: there is nothing to review.")
    reviewer, reason = annotator_from(dict(params)), params.get("reason")
    if reviewer == UNKNOWN:
        raise LabelVersionError("A review needs the reviewer's name: send it as annotator.")
    if decision == "sent back" and not (isinstance(reason, str) and reason.strip()):
        raise LabelVersionError("Phases can be sent back only with a reason: send one as reason.")
    numbers = named_phases(params) or sorted(n for n, phase in current.phases.items() if phase.is_trusted)
    if not numbers:
        raise LabelVersionError(f"The label of {study} holds no labeller's work: there is nothing to review.")
    _require_seen(current, numbers, params.get("base_version"))
    text = reason.strip() if decision == "sent back" and isinstance(reason, str) else None
    phases = approve(current.phases, numbers, reviewer, alone) if text is None else send_back(current.phases, numbers, text)
    review = Review(reviewer=reviewer, reviewed=datetime.now(timezone.utc), decision=decision, phases=tuple(numbers), reason=text)
    return current.model_copy(update={"phases": phases, "reviews": (*current.reviews, review)})


def _require_seen(current: Version, numbers: list[int], base: Any) -> None:
    if base is None:
        return
    if type(base) is not int or not 1 <= base <= current.version:
        raise LabelVersionError(
            f"base_version must be the number of the version that was reviewed, 1 to {current.version}, not {base!r:.60}."
        )
    newer = next((n for n in numbers if n in current.phases and current.phases[n].version > base), None)
    if newer is not None:
        phase = current.phases[newer]
        raise OvertakenError(f"Phase {newer} was replaced by {phase.editor} in version {phase.version}: look at that before you decide.")
