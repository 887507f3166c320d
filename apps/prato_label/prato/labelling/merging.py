"""How a save changes a label: the phases that are submitted replace the stored ones, all others stay as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from prato.data.labels.check import check_label
from prato.data.nifti import Volume
from prato.labelling.phases import named_phases, phase_count, phase_of, submit, submitted_states
from prato.labelling.records import LabelVersionError, Phase, Phases, State, Version, in_ranges


class Change(Protocol):
    """What is to become of a label's phases; its ``mask``, uint8 (X, Y, Z) or (X, Y, Z, T), holds those that it may replace."""

    @property
    def mask(self) -> np.ndarray: ...

    def numbers(self) -> set[int]:
        """The phases that it is about."""

    def apply(self, before: Phases, version: int) -> tuple[dict[int, Phase], set[int]]:
        """The phases after it, as ``version``, and those whose voxels it replaces."""


@dataclass(frozen=True)
class Submission:
    """Phases in the ``states`` in which ``annotator`` sends them; proposals are by ``model`` (its version)."""

    mask: np.ndarray
    states: Mapping[int, State]
    annotator: str
    model: str | None = None

    def numbers(self) -> set[int]:
        return set(self.states)

    def apply(self, before: Phases, version: int) -> tuple[dict[int, Phase], set[int]]:
        after = submit(before, self.states, self.annotator, version, self.model)
        return after, {number for number in self.states if after[number].version == version}


@dataclass(frozen=True)
class Restoration:
    """Phases of an earlier version, in the states that ``source`` gives."""

    mask: np.ndarray
    source: Phases
    which: frozenset[int]

    def numbers(self) -> set[int]:
        return set(self.which)

    def apply(self, before: Phases, version: int) -> tuple[dict[int, Phase], set[int]]:
        others = {number: phase for number, phase in before.items() if number not in self.which}
        found = {n: p.model_copy(update={"version": version}) for n, p in self.source.items() if n in self.which}
        return {**others, **found}, set(self.which)


@dataclass(frozen=True)
class Conversion:
    """The label as it is, whose phases are ``source``, stored as what it means: nobody draws anything by that."""

    mask: np.ndarray
    source: Phases

    def numbers(self) -> set[int]:
        return set(range(phase_count(self.mask)))

    def apply(self, before: Phases, version: int) -> tuple[dict[int, Phase], set[int]]:
        is_as_it_was = before == self.source  # otherwise somebody has replaced it meanwhile
        return dict(before), self.numbers() if is_as_it_was else set()


def read_submission(mask: np.ndarray, began_with: np.ndarray | None, params: Mapping[str, Any], annotator: str, study: str) -> Submission:
    """The submission of ``mask``, uint8 (X, Y, Z) or (X, Y, Z, T), whose ``params`` say which phases it is about.

    Args:
        began_with: the label that ``annotator`` began with, of the same shape; None for none. Where the client names no phases, those are
            submitted that differ from it. A volume is submitted in any case.
        study: whose label it is.

    Raises:
        LabelVersionError: as ``submitted_states``; or a phase of a cine is sent as corrected and empty.
    """
    count = phase_count(mask)
    states = submitted_states(params, count, [0] if count == 1 else _changed_phases(mask, began_with))
    empty = [number for number, state in states.items() if count > 1 and state != "proposed" and not phase_of(mask, number).any()]
    if empty:
        raise LabelVersionError(
            f"Phase {empty[0]} of the label for {study} is empty: draw at least one structure in it, or name the phases that you send."
        )
    if not states and began_with is None:
        raise LabelVersionError(f"The label for {study} is empty: draw at least one structure before submitting it.")
    model = params.get("model_version")
    return Submission(mask, states, annotator, model if isinstance(model, str) else None)


def check_submission(image: Volume, label: Volume, name: str, params: Mapping[str, Any]) -> np.ndarray:
    """``label`` as ``check_label`` has it. A volume is taken for a cine, too, where ``params`` name the one phase that it is of: it comes
    back in its place in a mask of all phases.

    Raises:
        LabelError: as ``check_label``.
        LabelVersionError: a phase that there is not.
    """
    count, info = phase_count(image.array), params.get("label_info")
    named = named_phases(params, count) or []
    if count == 1 or label.array.ndim == 4 or len(named) != 1:
        return check_label(image, label, name, info)
    mask = np.zeros(image.array.shape, np.uint8, order="F")
    mask[..., named[0]] = check_label(replace(image, array=image.array[..., 0]), label, name, info)
    return mask


def read_restoration(mask: np.ndarray, versions: Iterable[Version], number: int, params: Mapping[str, Any]) -> Restoration:
    """The restoration of ``mask``, version ``number`` of ``versions``, with all its phases or with those that ``params`` name.

    Raises:
        LabelVersionError: phases that there are not, or that version ``number`` does not have.
    """
    named, source = named_phases(params, phase_count(mask)), latest_states(versions, number)
    missing = next((n for n in named or () if n not in source), None)
    if missing is not None:  # to restore it would erase what somebody drew since
        raise LabelVersionError(f"Version {number} has no phase {missing}: name phases that it has ({in_ranges(sorted(source))}).")
    return Restoration(mask, source, frozenset(range(phase_count(mask)) if named is None else named))


def lost_phases(change: Change, before: Phases, replaced: Iterable[int]) -> set[int]:
    """Those of the phases ``replaced`` whose drawings ``change`` takes out of the label: all that have one, such as no label has that was
    removed, but those that it restores as they are."""
    source = change.source if isinstance(change, Restoration) else {}
    return {number for number in replaced if number in before and before[number] != source.get(number)}


def latest_states(versions: Iterable[Version], number: int) -> dict[int, Phase]:
    """The phases of version ``number``, each in the state in which the last of ``versions`` has it that holds the very same drawing.

    A review is recorded in the version that is the label then, whichever version the drawing is from: what was sent back later must not
    come back as final.
    """
    known = {version.version: version for version in versions}

    def drawn_in(n: int, phase: Phase) -> int:
        """The version in which ``phase``, number ``n``, was drawn: restored and converted ones have copies."""
        copy = known.get(phase.version)
        original = known.get(copy.restored_from) if copy is not None and copy.restored_from is not None else None
        earlier = original.phases.get(n) if original is not None else None
        return phase.version if earlier is None or earlier.version >= phase.version else drawn_in(n, earlier)

    found = {}
    for n, phase in sorted(known[number].phases.items()):
        same = [v.phases[n] for v in known.values() if n in v.phases and drawn_in(n, v.phases[n]) == drawn_in(n, phase)]
        found[n] = same[-1]
    return found


def merge_masks(mask: np.ndarray, replaced: Iterable[int], stored: np.ndarray | None) -> np.ndarray:
    """``stored``, or nothing, with the phases ``replaced`` as ``mask`` has them; uint8 of its shape."""
    numbers = sorted(replaced)
    if len(numbers) == phase_count(mask):
        return mask
    merged = np.zeros(mask.shape, np.uint8, order="F")
    if stored is not None:
        merged[:] = stored
    for number in numbers:
        merged[..., number] = mask[..., number]
    return merged


def _changed_phases(mask: np.ndarray, began_with: np.ndarray | None) -> Iterable[int]:
    for number in range(phase_count(mask)):
        drawn = phase_of(mask, number)
        if drawn.any() if began_with is None else not np.array_equal(drawn, phase_of(began_with, number)):
            yield number
