"""The short-axis cines of one examination: found among its series, put in order, each taken once, and named."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations

import numpy as np

from prato.dicom.cines.choose import choose_short_axis
from prato.dicom.cines.copies import drop_copies
from prato.dicom.cines.identity import file_name, pseudonym
from prato.dicom.cines.order import OrderedCine, put_in_order
from prato.dicom.cines.series import find_stacks
from prato.dicom.cines.stacks import LeftOut, Stack, fit
from prato.dicom.reading.files import DicomError
from prato.dicom.reading.headers import Frame
from prato.dicom.reading.pixels import read_frame, read_pixels

#: Voxels of two cines that lie no further apart than this are in one place, mm.
_SAME_MM = 0.01


@dataclass(frozen=True)
class FoundCine:
    """A cine, what messages call it, and the names of its patient and its study."""

    cine: OrderedCine
    label: str
    patient: str
    study: str


@dataclass
class FoundCines:
    """The cines of an examination. ``refused`` has a sentence for each that cannot be used, ``warnings`` for what was guessed."""

    cines: list[FoundCine] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def find_cines(series: Sequence[Iterable[Frame]], keep_identity: bool = False) -> FoundCines:
    """The short-axis cines among the ``series`` of one examination, whatever the order in which they are given.

    Args:
        keep_identity: name the patient by their number, not by a pseudonym.
    """
    kept, copies = [], Counter[str]()
    named, warnings = _name_issuers([list(frames) for frames in series])
    for frames in named:
        own, count = drop_copies(frames)
        kept.append(own)
        copies[own[0].series] += count
    stacks, left_out = find_stacks(kept)
    chosen, others, guesses = choose_short_axis(stacks)
    found = FoundCines(left_out=left_out + others, warnings=warnings + guesses)
    ordered: list[tuple[Stack, OrderedCine | None]] = []
    for stack in sorted(chosen, key=_place):
        cine = None
        try:
            cine = _put_in_order(stack, sum(copies[uid] for uid in {frame.series for frame in stack.frames}))
        except DicomError as error:
            found.refused.append(f"{stack.label}: {error}.")
        original = next((other for other, before in ordered if cine is not None and before is not None and is_copy(cine, before)), None)
        if original is None:
            ordered.append((stack, cine))
        else:
            found.left_out.append(LeftOut(stack.label, len({frame.file for frame in stack.frames}), f"a copy of {original.label}"))
    if len(ordered) > 1:
        names = " and ".join(stack.label for stack, _ in ordered)
        warning = f"One examination holds {len(ordered)} short-axis cines, {names}: each becomes a study of its own."
        if any(_is_beyond(one, other) for (one, _), (other, _) in permutations(ordered, 2)):
            warning += " If they are parts of one heart, slices between them are missing."
        found.warnings.append(warning)
    names_of = study_names([stack for stack, _ in ordered], keep_identity)
    found.cines = [FoundCine(cine, stack.label, *own) for (stack, cine), own in zip(ordered, names_of) if cine is not None]
    return found


def _name_issuers(series: Sequence[Sequence[Frame]]) -> tuple[list[list[Frame]], list[str]]:
    """The ``series`` of one examination, whose images all name who issued the patient's number where some do; and a sentence."""
    issuers: dict[str, set[str]] = defaultdict(set)
    for number, issuer, *_ in {frame.patient for frames in series for frame in frames}:
        issuers[number].add(issuer)
    partly = {number: max(own) for number, own in issuers.items() if number and "" in own and len(own) == 2}

    def name(frame: Frame) -> Frame:
        number, _, *rest = frame.patient
        return replace(frame, patient=(number, partly[number], *rest)) if number in partly else frame

    said = "some images name who issued the patient's number, and others of the same examination do not: all count as this patient's."
    warnings = [f"p{pseudonym(*who)}: {said}" for who in partly.items()]
    return [[name(frame) for frame in frames] for frames in series], warnings


def _is_beyond(stack: Stack, other: Stack) -> bool:
    """Whether all slices of ``stack`` lie on one side of those of ``other``, as if both were parts of one stack."""
    return fit(stack.slices, other.slices) and min(stack.slices) > max(other.slices)


def _place(stack: Stack) -> tuple[int, str, str, tuple[float, ...]]:
    """By which stacks are sorted: the same whatever the order of their files."""
    first = stack.frame
    return first.series_number or 0, first.series, first.description, min(frame.position for frame in stack.frames)


def _put_in_order(stack: Stack, copies: int) -> OrderedCine:
    """As ``put_in_order``, with a note of the ``copies`` of its images that were left out."""
    said = "1 image occurs twice and is used once." if copies == 1 else f"{copies} images occur twice and are used once."
    if len({identify(frame) for frame in stack.frames}) > 1:
        raise DicomError(
            "its images disagree about the patient (number, its issuer, name or birth date), so that it is not known whose heart this is"
        )
    return put_in_order(replace(stack, notes=(*stack.notes, said)) if copies else stack)


def is_copy(cine: OrderedCine, other: OrderedCine) -> bool:
    """Whether the images of two cines are the same under other UIDs, however they are compressed."""
    if [len(own) for own in cine.frames] != [len(own) for own in other.frames] or not np.allclose(cine.affine, other.affine, atol=_SAME_MM):
        return False
    try:
        if not np.array_equal(read_frame(cine.frames[0][0]), read_frame(other.frames[0][0])):  # soon told, where there are many
            return False
        return np.array_equal(read_pixels(cine.frames), read_pixels(other.frames))
    except DicomError:  # whoever reads it is told
        return False


def study_names(stacks: Sequence[Stack], keep_identity: bool) -> list[tuple[str, str]]:
    """Names of the patient and of the study, for each of the ``stacks`` of one examination; no two studies share a name."""
    names = [_names(stack, keep_identity) for stack in stacks]
    if len(stacks) == 1:
        return names
    marks = [str(stack.frame.series_number or pseudonym(stack.frame.series)[:4]) for stack in stacks]
    shared = Counter(marks)
    marks = [f"{mark}-{pseudonym(stack.frame.series)[:4]}" if shared[mark] > 1 else mark for mark, stack in zip(marks, stacks)]
    # several of one series are told apart by their order in space
    marks = [f"{mark}-{marks[: n + 1].count(mark)}" if marks.count(mark) > 1 else mark for n, mark in enumerate(marks)]
    return [(patient, f"{study}_s{mark}") for (patient, study), mark in zip(names, marks)]


def _names(stack: Stack, keep_identity: bool) -> tuple[str, str]:
    first = stack.frame
    number, _, name, _ = first.patient
    patient = file_name(number or name or first.study) if keep_identity else f"p{pseudonym(*identify(first))}"
    return patient, f"{patient}_{pseudonym(first.study)}"


def identify(frame: Frame) -> tuple[str, ...]:
    """Who was examined, by the best that the file says."""
    number, issuer, name, birth = frame.patient
    return (number, issuer) if number else (name, birth) if name else (frame.study,)
